"""``train --resume --set``: what is refused leaves everything as it was; what is taken takes effect and is recorded."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.config.test_changes import leaf_keys
from tests.conftest import SMALL
from vlmagent.config import Config, load_config
from vlmagent.config.changes import When, rule_of
from vlmagent.errors import UsageError
from vlmagent.paths import Run
from vlmagent.runs import folders, launch
from vlmagent.runs.follow import Goal, RunView
from vlmagent.store.reader import StoreReader
from vlmagent.training.rollout import Rollout
from vlmagent.training.saved import list_checkpoints, newest_checkpoint
from vlmagent.training.schedule import cosine_factor
from vlmagent.training.train import train

CONFIG = Config.model_validate({**SMALL, "sft": {"samples": 0}})
"""Three updates of 32 steps, 8 of each of 4 environments."""

OTHERS = {
    "task": "ezpoints",
    "rule_set": "gym",
    "env": {"env.n_max": 7},
    "agent": "cnn",
    "model.name": "somewhere/else",
    "model.tiny.image_size": 72,
    "model.tiny.patch_size": 10,
    "model.tiny.vision_width": 64,
    "model.tiny.vision_heads": 4,
    "model.tiny.width": 64,
    "model.tiny.heads": 4,
    "model.device": "cpu",
    "model.value_head": [32],
    "cnn.vision": "sft",
    "cnn.text": "sft",
    "cnn.hidden": [64],
    "cnn.pooling": "pooled",
    "rollout.num_envs": 8,
    "ppo.env_steps": 128,
    "ppo.steps_per_update": 16,
    "ppo.stop_when.success": 0.99,
    "ppo.minibatch_size": 32,
    "distributed.processes": 2,
    "distributed.deepspeed": "zero2",
    "distributed.hostfile": "hosts",
    "eval.episodes": 10,
    "eval.temperature": 0.5,
    "model.dtype": "bfloat16",
    "model.quantization": "4bit",
    "store.journal_mode": "delete",
}
"""Other values where one that is a little different would not do."""


def value_at(config: Config, key: str) -> object:
    found: object = config
    for name in key.split("."):
        found = getattr(found, name)
    return found


def other_value(key: str) -> tuple[str, object]:
    """The key to set, and a valid value that the run does not have."""
    other = OTHERS.get(key)
    if isinstance(other, dict):
        return next(iter(other.items()))
    if other is not None:
        return key, other
    value = value_at(CONFIG, key)
    if isinstance(value, bool):
        return key, not value
    if isinstance(value, int):
        return key, value + 1
    assert isinstance(value, float), key
    return key, value / 2 if value else 0.25


def stop_after(calls: int):
    count = iter(range(10**9))
    return lambda: next(count) >= calls


def trained(folder: Path, config: Config, calls: int) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLMAGENT_CACHE", str(folder / "cache"))
        run = folders.create_run(config, folder / "run")
        train(run, stop_after(calls))
        return run


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Run:
    """Stopped in the middle of the second update: 48 steps are logged, 32 are in the newest checkpoint."""
    return trained(tmp_path_factory.mktemp("stopped"), CONFIG, 12)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    """Done with 96 steps: nothing is logged beyond the newest checkpoint."""
    return trained(tmp_path_factory.mktemp("finished"), CONFIG, 10**6)


def copy_of(run: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(run.path, tmp_path / "run", symlinks=True)))


def contents(run: Run) -> tuple[bytes, bytes]:
    return run.config_file.read_bytes(), run.database.read_bytes()


def pair(key: str, value: object) -> str:
    return f"{key}={str(value).lower() if isinstance(value, bool) else value}"


@pytest.mark.parametrize("leaf", leaf_keys())
def test_each_key_on_a_run_that_was_stopped_in_an_update(leaf: str, stopped: Run) -> None:
    key, value = other_value(leaf)
    when = rule_of(key).when
    before = contents(stopped)
    config_before = load_config(stopped.config_file)
    if key == "distributed.processes" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed")
    try:
        if when in (When.ANY, When.ONE_UPDATE):
            changed = launch.update_config(stopped, [pair(key, value)])
            wanted = tuple(value) if isinstance(value, list) else value
            assert value_at(changed, key) == wanted
            assert load_config(stopped.config_file) == changed
            assert changed != config_before
        else:
            with pytest.raises(UsageError):
                launch.update_config(stopped, [pair(key, value)])
            assert contents(stopped) == before
        assert stopped.database.read_bytes() == before[1]
    finally:
        stopped.config_file.write_bytes(before[0])


@pytest.mark.parametrize("key", ["rollout.temperature", "ppo.steps_per_update"])
def test_keys_that_may_change_between_updates(key: str, finished: Run, tmp_path: Path) -> None:
    run = copy_of(finished, tmp_path)
    changed = launch.update_config(run, [pair(*other_value(key))])
    assert load_config(run.config_file) == changed != CONFIG


def test_a_run_that_never_began_may_change_all_but_its_task() -> None:
    run = folders.create_run(CONFIG)
    changed = launch.update_config(run, ["seed=5", "model.tiny.width=64", "rollout.num_envs=8"])
    assert load_config(run.config_file) == changed
    before = run.config_file.read_bytes()
    for wrong, message in (
        ("task=ezpoints", "task = ezpoints cannot be set"),
        ("rule_set=nonsense", "nonsense"),
        ("env.n_maximum=3", "n_max"),
        ("model.dtype=float64", "model.dtype"),
    ):
        with pytest.raises(UsageError, match=message):
            launch.update_config(run, [wrong])
        assert run.config_file.read_bytes() == before


def test_what_this_machine_does_not_have_is_refused_before_it_is_written(
    stopped: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = contents(stopped)
    for pairs, message in (
        (["model.device=cuda"], "torch sees no GPU"),
        (["distributed.processes=2", "distributed.deepspeed=zero9"], "zero9|DeepSpeed"),
        (["distributed.processes=2", "distributed.hostfile=/nowhere"], "/nowhere|DeepSpeed"),
        (["distributed.processes=3"], "multiple of distributed.processes"),
    ):
        with pytest.raises(UsageError, match=message):
            launch.update_config(stopped, pairs)
        assert contents(stopped) == before


def test_a_value_that_is_no_change_writes_nothing(stopped: Run, tmp_path: Path) -> None:
    run = copy_of(stopped, tmp_path)
    run.config_file.write_text("# mine\n" + run.config_file.read_text())
    before = contents(run)
    assert launch.update_config(run, ["seed=0", "ppo.lr=2e-4"]) == CONFIG
    assert contents(run) == before


def test_the_command_refuses_with_exit_code_2(stopped: Run) -> None:
    before = contents(stopped)
    pairs = ["seed=5", "model.tiny.width=64", "rollout.num_envs=32", "task=ezpoints"]
    done = subprocess.run(
        [sys.executable, "-m", "vlmagent", "train", "--resume", str(stopped), *(f"--set={p}" for p in pairs)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    for text in ("task = ezpoints", "seed = 5", "model.tiny.width = 64", "rollout.num_envs = 32"):
        assert f"{text} cannot be set on the run run" in said
    assert contents(stopped) == before
    assert not stopped.daemon_file.exists()


def test_an_edited_config_is_refused_too_and_can_be_mended(stopped: Run, tmp_path: Path) -> None:
    run = copy_of(stopped, tmp_path)
    text = run.config_file.read_text()
    run.config_file.write_text(text.replace("seed: 0\ncot", "seed: 5\ncot"))
    with pytest.raises(UsageError, match="seed = 5 cannot be set on the run run, which has 0"):
        launch.update_config(run, [])
    with pytest.raises(UsageError, match="seed = 5 cannot be set"):
        train(run, lambda: False)  # whoever started it
    with StoreReader(run.database) as reader:
        row = reader.run()
    assert row is not None
    assert row.seed == 0
    assert '"seed": 0' in row.config_json
    assert launch.update_config(run, ["seed=0"]) == CONFIG
    assert run.config_file.read_text() == text


def metric(run: Run, name: str) -> dict[int, float]:
    with StoreReader(run.database) as reader:
        return {row.update_index: row.value for row in reader.metric_series(name)}


def events(run: Run) -> list[str]:
    with StoreReader(run.database) as reader:
        return [event.text for event in reader.events()]


def test_what_changes_takes_effect_and_is_recorded(stopped: Run, tmp_path: Path) -> None:
    run = copy_of(stopped, tmp_path)
    view = RunView(run)
    view.refresh()
    assert view.goal == Goal(0, 96, 3)
    view.close()  # nobody else may have the database open while its journal changes
    launch.update_config(
        run, ["ppo.lr=5e-05", "ppo.env_steps=160", "checkpoint.keep_last=1", "store.journal_mode=delete"]
    )
    assert train(run, lambda: False) == "done"
    factors = {update: cosine_factor(update - 1, 5, 1e-6 / 5e-5) for update in (2, 3, 4, 5)}
    found = metric(run, "ppo/learning_rate")
    assert found.pop(1) == pytest.approx(2e-4)
    assert found == pytest.approx({update: 5e-5 * factor for update, factor in factors.items()})
    assert [folder.name for folder in list_checkpoints(run)] == ["step-0", "step-160"]
    assert run.database.read_bytes()[18:20] == b"\x01\x01"  # written without a WAL
    said = events(run)
    for text in (
        "config changed at env step 32: ppo.lr 0.0002 -> 5e-05",
        "config changed at env step 32: ppo.env_steps 96 -> 160",
        "config changed at env step 32: checkpoint.keep_last 2 -> 1",
        "config changed at env step 32: store.journal_mode wal -> delete",
        "phase: rl (5 updates)",
    ):
        assert text in said
    with StoreReader(run.database) as reader:
        row = reader.run()
        assert reader.env_steps() == 160
    assert row is not None
    assert Config.model_validate_json(row.config_json) == load_config(run.config_file)
    view.refresh()
    assert view.goal == Goal(0, 160, 5)
    assert view.counts == (160, 160)
    view.close()


def test_a_journal_that_somebody_holds_changes_later(finished: Run, tmp_path: Path) -> None:
    run = copy_of(finished, tmp_path)
    launch.update_config(run, ["store.journal_mode=delete"])
    with StoreReader(run.database) as looking:
        assert looking.env_steps() == 96
        assert train(run, lambda: False) == "done"
    assert any("journal_mode = delete has to wait" in text for text in events(run))
    assert run.database.read_bytes()[18:20] == b"\x02\x02"
    assert train(run, lambda: False) == "done"
    assert run.database.read_bytes()[18:20] == b"\x01\x01"


def test_updates_of_another_length_are_counted_in_env_steps(finished: Run, tmp_path: Path) -> None:
    run = copy_of(finished, tmp_path)
    launch.update_config(run, ["ppo.steps_per_update=40", "ppo.env_steps=200", "rollout.temperature=1.0"])
    assert train(run, lambda: False) == "done"
    with StoreReader(run.database) as reader:
        sizes = [len(reader.transitions_of_update(update)) for update in range(1, 7)]
    assert sizes == [32, 32, 32, 40, 40, 0]
    assert newest_checkpoint(run) == run.checkpoints / "step-176"
    assert "phase: rl (5 updates)" in events(run)
    assert all(error < 1e-4 for error in metric(run, "ppo/first_ratio_error").values())
    view = RunView(run)
    view.refresh()
    assert view.goal == Goal(0, 176, 5)
    view.close()
    assert train(run, lambda: False) == "done"  # there is nothing left to do
    with StoreReader(run.database) as reader:
        assert reader.env_steps() == 176


def test_after_a_kill_far_from_a_checkpoint_the_log_is_replayed_as_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a checkpoint only at the end, 80 steps of three updates are logged beyond the start's."""
    config = Config.model_validate({**SMALL, "sft": {"samples": 0}, "checkpoint": {"every": 10}})
    run = folders.create_run(config, tmp_path / "run")
    original, count = Rollout.step, iter(range(10**9))

    def dying(self, update_index=0):
        if next(count) == 20:
            raise KeyboardInterrupt
        return original(self, update_index)

    with monkeypatch.context() as patch:
        patch.setattr(Rollout, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            train(run, lambda: False)
    before = contents(run)
    with pytest.raises(UsageError, match=r"80 steps are logged beyond step-0\). Continue without it, stop"):
        launch.update_config(run, ["ppo.lr=5e-5"])
    assert contents(run) == before
    assert train(run, stop_after(2)) == "stopped"  # it has caught up
    launch.update_config(run, ["ppo.lr=5e-5"])
    assert train(run, lambda: False) == "done"
    rates = metric(run, "ppo/learning_rate")
    assert rates[2] > 1e-4 > 5e-5 > rates[3]
    assert all(error < 1e-4 for error in metric(run, "ppo/first_ratio_error").values())
