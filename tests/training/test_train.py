"""A whole small training run: what it logs, that it continues exactly, how it fails."""

import json
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import SMALL
from vlmagent.config import Config
from vlmagent.errors import RunFailedError, VlmAgentError
from vlmagent.paths import Run
from vlmagent.runs import folders, launch
from vlmagent.seeding import train_episode_seed
from vlmagent.store.reader import StoreReader
from vlmagent.store.restore import restore_transition
from vlmagent.tasks.registry import task_from_config
from vlmagent.training import checkpoint
from vlmagent.training.checkpoint import load_checkpoint
from vlmagent.training.metrics import rollout_metrics
from vlmagent.training.rollout import Rollout
from vlmagent.training.saved import find_checkpoint, list_checkpoints
from vlmagent.training.train import train

COLUMNS = (
    "id, episode_id, update_index, env_index, step, image_sha256, prompt, output, thoughts, action_text, action, "
    "legal_output, reward, terminated, truncated, value, bootstrap_value, logprob, thought_logprob, action_logprob, "
    "token_ids, token_logprobs, advantage, return_"
)


def new_run(tmp_path: Path, name: str, **changes) -> Run:
    config = Config.model_validate({**SMALL, **changes})
    return folders.create_run(config, tmp_path / name)


def rows(run: Run, sql: str) -> list[tuple]:
    connection = sqlite3.connect(f"file:{run.database}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def transitions(run: Run) -> list[tuple]:
    return rows(run, f"SELECT {COLUMNS} FROM transitions ORDER BY id")


def episodes(run: Run) -> list[tuple]:
    return rows(
        run,
        "SELECT id, split, env_index, seed, length, episode_return, success, ended FROM episodes ORDER BY id",
    )


def stop_after(calls: int):
    """A stop request that arrives at the n-th time it is looked for."""
    count = iter(range(10**9))
    return lambda: next(count) >= calls


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory) -> Run:
    """A run that nobody interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("alone")
        patch.setenv("VLMAGENT_CACHE", str(folder / "cache"))
        run = new_run(folder, "run")
        assert train(run, lambda: False) == "done"
        return run


def test_every_env_step_is_one_row_with_everything(left_alone: Run):
    table = transitions(left_alone)
    assert len(table) == 96
    assert [row[0] for row in table] == list(range(1, 97))
    with StoreReader(left_alone.database) as reader:
        assert reader.env_steps() == 96
        row = reader.transition(40)
        assert row is not None
        assert reader.image(row.image_sha256).shape == (300, 300, 3)
        assert row.prompt.startswith("You are playing a game called number line.")
        assert row.token_ids is not None
        assert row.token_logprobs is not None
        assert len(row.token_ids) == len(row.token_logprobs) > 0
        total = 0.5 * row.thought_logprob + row.action_logprob
        assert row.logprob == pytest.approx(total)
        assert row.thought_logprob + row.action_logprob == pytest.approx(
            float(row.token_logprobs.sum()), abs=1e-4
        )
        assert row.advantage is not None
        assert row.return_ is not None
        run = reader.run()
        assert run is not None
        assert (run.status, run.task, run.seed) == ("done", "numberline", 0)
        names = set(reader.metric_names())
    for name in (
        *("sft/loss", "rollout/legal_rate", "rollout/output_tokens", "rollout/thought_logprob"),
        *(
            "rollout/action_logprob",
            "ppo/kl",
            "ppo/clip_fraction",
            "ppo/entropy",
            "ppo/grad_norm",
            "ppo/value_loss",
        ),
        *("ppo/learning_rate", "ppo/first_ratio_error", "rollout/env_steps_per_second"),
    ):
        assert name in names


def test_with_unchanged_weights_logged_logprobs_are_recomputed(left_alone: Run):
    """The first update's rows came from the start checkpoint: its weights give the stored numbers to 1e-4."""
    policy, _ = load_checkpoint(find_checkpoint(left_alone, "start"))
    with StoreReader(left_alone.database) as reader:
        logged = reader.transitions_of_update(1)
        encoded = [policy.encode(row.prompt, reader.image(row.image_sha256)) for row in logged]
    with torch.no_grad():
        scores = policy.score(encoded, [row.token_ids for row in logged], temperature=0.7)
    for index, row in enumerate(logged):
        ours = scores.token_logprobs[index, : len(row.token_ids)].numpy()
        assert ours == pytest.approx(row.token_logprobs, abs=1e-4)
        assert float(scores.values[index]) == pytest.approx(row.value, abs=1e-4)


def test_first_minibatch_ratio_is_one(left_alone: Run):
    with StoreReader(left_alone.database) as reader:
        series = reader.metric_series("ppo/first_ratio_error")
    assert len(series) == 3
    assert all(row.value < 1e-4 for row in series)


def test_advantages_follow_the_equation(left_alone: Run):
    """A terminated step's return is its reward; a truncated one bootstraps with its own final state."""
    for row in rows(
        left_alone, "SELECT reward, return_, terminated, truncated, bootstrap_value FROM transitions"
    ):
        reward, return_, terminated, truncated, bootstrap = row
        if terminated:
            assert return_ == pytest.approx(reward)
            assert bootstrap is None
        elif truncated:
            assert bootstrap is not None
            assert return_ == pytest.approx(reward + 0.9 * bootstrap)


@pytest.mark.parametrize("calls", [0, 4, 5, 12, 13, 19, 27])
def test_an_interrupted_run_ends_like_one_left_alone(left_alone: Run, tmp_path: Path, calls: int):
    """Stopped before, at the edge of, and within an update; then continued in a fresh process's state."""
    run = new_run(tmp_path, "run")
    assert train(run, stop_after(calls)) == "stopped"
    assert rows(run, "SELECT status FROM run") == [("stopped",)]
    torch.manual_seed(calls)
    np.random.seed(calls)
    assert train(run, lambda: False) == "done"
    assert_same(run, left_alone)


def test_a_killed_run_continues_from_what_it_logged(
    left_alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An exception in the middle of the second update's collection stands for a kill; nothing is sampled twice."""
    run = new_run(tmp_path, "run")
    original, count = Rollout.step, iter(range(10**9))

    def dying(self, update_index=0):
        if next(count) == 12:
            raise MemoryError("killed")
        return original(self, update_index)

    monkeypatch.setattr(Rollout, "step", dying)
    with pytest.raises(MemoryError):
        train(run, lambda: False)
    status, error = rows(run, "SELECT status, error FROM run")[0]
    assert status == "failed"
    assert "Out of memory" in error
    logged = transitions(run)
    assert len(logged) == 48
    monkeypatch.setattr(Rollout, "step", original)
    assert train(run, lambda: False) == "done"
    assert_same(run, left_alone)


def test_a_run_with_a_reference_resumes_exactly(tmp_path: Path):
    """The penalty is measured against the start's checkpoint, also after a stop in the middle of an update."""
    ppo = {**SMALL["ppo"], "kl_coef": 0.5, "lr": 1e-3}
    alone, stopped = (new_run(tmp_path, name, ppo=ppo) for name in ("alone", "stopped"))
    assert train(alone, lambda: False) == "done"
    assert train(stopped, stop_after(18)) == "stopped"
    assert train(stopped, lambda: False) == "done"
    assert_same(stopped, alone)
    drifts = dict(rows(alone, "SELECT update_index, value FROM metrics WHERE name = 'rollout/kl_to_start'"))
    assert drifts[1] == pytest.approx(0, abs=1e-4)
    assert len(drifts) == 3
    assert drifts[3] > 0.01
    paid = "SELECT return_ - reward FROM transitions WHERE terminated AND update_index = 3"
    assert any(abs(difference) > 1e-3 for (difference,) in rows(alone, paid))


def assert_same(run: Run, other: Run) -> None:
    assert transitions(run) == transitions(other)
    assert episodes(run) == episodes(other)
    mine, theirs = find_checkpoint(run), find_checkpoint(other)
    assert mine.name == theirs.name == "step-96"
    for file in ("model.safetensors", "value_head.safetensors", "optimizer.safetensors"):
        one, two = load_file(mine / file), load_file(theirs / file)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one), file


def test_a_finished_run_can_be_extended(tmp_path: Path):
    run = new_run(tmp_path, "run", ppo={**SMALL["ppo"], "env_steps": 32})
    assert train(run, lambda: False) == "done"
    assert train(run, lambda: False) == "done"  # nothing left to do
    assert len(transitions(run)) == 32
    launch.update_config(run, ["ppo.env_steps=64"])
    assert train(run, lambda: False) == "done"
    assert len(transitions(run)) == 64


def test_the_second_run_takes_its_start_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, second = new_run(tmp_path, "one"), new_run(tmp_path, "two", ppo={**SMALL["ppo"], "clip": 0.1})
    train(first, stop_after(10))

    def not_again(*_args, **_kwargs):
        raise AssertionError("SFT ran a second time")

    with monkeypatch.context() as patch:
        patch.setattr("vlmagent.training.sft.cache.train_sft", not_again)
        train(second, stop_after(10))
        other_seed = new_run(tmp_path, "three", seed=1)
        with pytest.raises(AssertionError, match="a second time"):
            train(other_seed, lambda: False)
    one = load_file(find_checkpoint(first, "start") / "model.safetensors")
    two = load_file(find_checkpoint(second, "start") / "model.safetensors")
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert rows(first, "SELECT count(*) FROM metrics WHERE name='sft/loss'") == rows(
        second, "SELECT count(*) FROM metrics WHERE name='sft/loss'"
    )


def test_sft_alone(tmp_path: Path):
    run = new_run(tmp_path, "run", ppo={**SMALL["ppo"], "env_steps": 0})
    assert train(run, lambda: False) == "done"
    assert [folder.name for folder in list_checkpoints(run)] == ["step-0"]
    samples = rows(run, "SELECT max(value) FROM metrics WHERE name='sft/samples'")
    assert samples == [(64.0,)]
    assert transitions(run) == []


def test_checkpoints_are_pruned_but_the_start_stays(left_alone: Run):
    assert [folder.name for folder in list_checkpoints(left_alone)] == ["step-0", "step-64", "step-96"]
    assert (left_alone.checkpoints / "latest").readlink() == Path("step-96")
    assert not list(left_alone.checkpoints.glob(".*"))


def test_divergence_stops_with_a_diagnosis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = new_run(tmp_path, "run")
    monkeypatch.setattr(
        "vlmagent.training.rl.ppo.value_loss", lambda *_: torch.tensor(float("nan"), requires_grad=True)
    )
    with pytest.raises(RunFailedError, match="not finite"):
        train(run, lambda: False)
    status, error = rows(run, "SELECT status, error FROM run")[0]
    assert status == "failed"
    assert "lower ppo.lr" in error
    assert len(transitions(run)) == 32  # all that was collected is still there


def test_one_bad_minibatch_is_skipped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from vlmagent.training.rl import ppo

    run = new_run(tmp_path, "run", ppo={**SMALL["ppo"], "env_steps": 32})
    original, count = ppo.value_loss, iter(range(10**9))
    monkeypatch.setattr(
        ppo, "value_loss", lambda *args: original(*args) * (float("nan") if next(count) == 1 else 1.0)
    )
    assert train(run, lambda: False) == "done"
    assert rows(run, "SELECT value FROM metrics WHERE name='ppo/skipped'") == [(1.0,)]
    assert "1 optimiser steps skipped" in str(rows(run, "SELECT text FROM events WHERE level='warning'"))


def test_a_database_that_fails_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A checkpoint that cannot be written is a sentence, and the run is marked failed."""
    run = new_run(tmp_path, "run")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_policy", full)
    with pytest.raises(VlmAgentError, match="No space left on device"):
        train(run, lambda: False)
    assert rows(run, "SELECT status FROM run") == [("failed",)]


def test_the_database_opens_while_training_runs(tmp_path: Path):
    """Another connection counts rows at every step of a live run."""
    run = new_run(tmp_path, "run")
    counts: list[int] = []

    def look() -> bool:
        if run.database.exists():
            counts.append(rows(run, "SELECT count(*) FROM transitions")[0][0])
        return False

    thread = threading.Thread(target=train, args=(run, look))
    thread.start()
    thread.join(timeout=120)
    assert not thread.is_alive()
    assert counts == sorted(counts)
    assert counts[-1] > 0


def test_replay_reports_an_environment_that_ignores_its_seed(left_alone: Run):
    """Logged rewards that the environment does not repeat are told, not hidden."""
    from dataclasses import replace

    config = Config.model_validate(SMALL)
    with StoreReader(left_alone.database) as reader:
        logged = [restore_transition(row) for row in reader.transitions_of_update(1)[:4]]
    rollout = Rollout(
        task_from_config(config),
        object(),  # type: ignore[arg-type]
        num_envs=4,
        split="train",
        seed=0,
        episode_seeds=lambda env, count: train_episode_seed(0, env, count),
    )
    rollout.start()
    _, differences = rollout.replay([replace(t, reward=t.reward + 1) for t in logged])
    assert len(differences) == 4
    assert "when logged" in differences[0]


def test_rollout_metrics_without_finished_episodes():
    metrics = rollout_metrics([], [])
    assert "rollout/success" not in metrics
    assert metrics["rollout/episodes"] == 0


def test_config_of_the_run_is_complete(left_alone: Run):
    document = json.loads(rows(left_alone, "SELECT config_json FROM run")[0][0])
    assert Config.model_validate(document) == Config.model_validate(SMALL)


def test_the_critic_has_the_unit_of_the_config(tmp_path: Path):
    """Set once at the start of RL, kept in every checkpoint."""
    ppo = {**SMALL["ppo"], "env_steps": 32, "value_scale": 5.0}  # type: ignore[dict-item]
    run = new_run(tmp_path, "scaled", ppo=ppo)
    assert train(run, lambda: False) == "done"
    for name in ("start", "latest"):
        network, _ = load_checkpoint(find_checkpoint(run, name))
        assert float(network.value_head.scale) == 5.0
