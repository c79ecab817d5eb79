"""A whole small run in two processes over gloo: equal to one, stopped, continued by one, killed."""

import contextlib
import importlib.util
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from tests.conftest import SMALL
from vlmagent.config import Config, load_config
from vlmagent.errors import RunFailedError
from vlmagent.paths import Run
from vlmagent.runs import folders, launch
from vlmagent.runs.supervisor import supervise
from vlmagent.store.reader import StoreReader
from vlmagent.store.restore import restore_transition
from vlmagent.tasks.registry import task_from_config
from vlmagent.training.checkpoint import load_checkpoint
from vlmagent.training.engines.local import LocalEngine
from vlmagent.training.learners import make_agent, parameter_groups, ppo_config
from vlmagent.training.metrics import merged_metrics
from vlmagent.training.rl.buffer import Sample
from vlmagent.training.rl.ppo import PpoUpdater
from vlmagent.training.saved import find_checkpoint
from vlmagent.training.sft.cache import sft_policy
from vlmagent.training.sft.sft import SftProgress
from vlmagent.training.train import train

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="the extra 'deepspeed' is not installed"
)
pytestmark = pytest.mark.usefixtures("forked_programs")
TWO = {
    **SMALL,
    "model": {**SMALL["model"], "device": "cpu"},
    # the last batch is a single sample, which one of them has; the rate is too small for Adam to make steps of rounding
    "sft": {**SMALL["sft"], "samples": 33, "language_samples": 16, "lr": 5e-5, "language_lr": 5e-5},
    # one minibatch is the whole update, in micro-batches of which the processes need different numbers
    "ppo": {
        **SMALL["ppo"],
        "env_steps": 64,
        "minibatch_size": 32,
        "max_tokens_per_micro_batch": 800,
        "kl_coef": 0.1,
    },
    "checkpoint": {"keep_last": 9},
    "distributed": {"processes": 2},
}
LOGGED = "SELECT id, episode_id, env_index, step, output, reward, token_logprobs FROM transitions ORDER BY id"
PATIENCE = 300.0


def rows(run: Run, sql: str) -> list[tuple]:
    connection = sqlite3.connect(f"file:{run.database}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def env_steps(run: Run) -> int:
    with contextlib.suppress(sqlite3.Error):
        return rows(run, "SELECT count(*) FROM transitions")[0][0]
    return 0


def supervised(run: Run, when: Callable[[], bool], do: Callable[[threading.Event], None]) -> None:
    """Train in processes; once ``when`` holds, ``do`` something to them. Raises what the supervisor raised."""
    stop, errors = threading.Event(), []

    def work() -> None:
        try:
            supervise(run, load_config(run.config_file), stop)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    try:
        while thread.is_alive() and not when():
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.02)
        do(stop)
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    for error in errors:
        raise error


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Run:
    """A run of two processes that was asked to stop within its second update."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("two")
        patch.setenv("VLMAGENT_CACHE", str(folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        run = folders.create_run(Config.model_validate(TWO), folder / "run")
        supervised(run, lambda: env_steps(run) > 36, threading.Event.set)
        return run


@pytest.fixture
def copied(stopped: Run, tmp_path: Path) -> Run:
    return Run(shutil.copytree(stopped, tmp_path / "copy", symlinks=True))


@needs_deepspeed
def test_steps_of_both_are_in_one_database(stopped: Run):
    assert rows(stopped, "SELECT status FROM run") == [("stopped",)]
    logged = rows(stopped, LOGGED)
    assert [row[0] for row in logged] == list(range(1, len(logged) + 1))
    assert len(logged) % 4 == 0
    assert 36 < len(logged) < 64
    assert [row[2] for row in logged] == [0, 1, 2, 3] * (len(logged) // 4)
    seeds = rows(stopped, "SELECT seed FROM episodes")
    assert len(set(seeds)) == len(seeds)
    assert rows(stopped, "SELECT count(*) FROM transitions WHERE update_index = 1 AND advantage IS NULL") == [
        (0,)
    ]
    metrics = dict(rows(stopped, "SELECT name, value FROM metrics WHERE update_index = 1 AND env_steps = 32"))
    assert metrics["ppo/first_ratio_error"] < 1e-4
    ended = rows(
        stopped,
        "SELECT count(DISTINCT episode_id) FROM transitions WHERE update_index = 1 AND (terminated OR truncated)",
    )
    assert metrics["rollout/episodes"] == ended[0][0]


@needs_deepspeed
def test_both_fine_tune_as_one_would(stopped: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same weights by the same losses, and in the cache for either."""
    monkeypatch.setenv("VLMAGENT_CACHE", str(tmp_path / "other cache"))
    config = load_config(stopped.config_file)
    curve: list[SftProgress] = []
    alone, _ = sft_policy(config, task_from_config(config), curve.append)
    together, _ = load_checkpoint(find_checkpoint(stopped, "start"), config.model)
    for one, two in zip(alone.backbone.parameters(), together.backbone.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=0)
    logged = rows(stopped, "SELECT value FROM metrics WHERE name = 'sft/loss' ORDER BY update_index")
    assert [loss for (loss,) in logged] == pytest.approx([point.loss for point in curve], abs=1e-5)
    assert [point.samples for point in curve] == [16, 32, 48, 49]
    monkeypatch.setenv("VLMAGENT_CACHE", str(stopped.path.parent / "cache"))
    _, cached = sft_policy(config, task_from_config(config), curve.append)
    assert cached


@needs_deepspeed
def test_two_processes_equal_one_on_the_same_batch(stopped: Run):
    """The first update's logged transitions, learnt from by one process, give the two processes' weights."""
    config = load_config(stopped.config_file)
    policy, _ = load_checkpoint(find_checkpoint(stopped, "start"), config.model)
    with StoreReader(stopped.database) as reader:
        samples = [
            Sample(
                replace(restore_transition(row), image=reader.image(row.image_sha256)),
                row.advantage,
                row.return_,
            )
            for row in reader.transitions_of_update(1)
        ]
    assert len(samples) == 32
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    engine = LocalEngine(parameter_groups(config, policy), config.ppo.max_grad_norm)
    agent = make_agent(config, task_from_config(config), policy)
    stats = PpoUpdater(agent, engine, ppo_config(config)).update(samples, 0)
    after, state = load_checkpoint(find_checkpoint(stopped, "32"), config.model)
    moved = 0.0
    for start, ours, theirs in zip(before, policy.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        moved = max(moved, float((ours - start).detach().abs().max()))
    assert moved > 1e-4
    ours, theirs = engine.state_dict()["state"], state.optimizer["state"]
    assert set(ours) == set(theirs)
    for index, entry in ours.items():
        torch.testing.assert_close(entry, dict(theirs[index]), atol=1e-5, rtol=0)
    logged = dict(rows(stopped, "SELECT name, value FROM metrics WHERE update_index = 1 AND env_steps = 32"))
    for name in ("policy_loss", "value_loss", "entropy", "grad_norm", "kl", "explained_variance"):
        assert logged[f"ppo/{name}"] == pytest.approx(getattr(stats, name), rel=1e-3, abs=1e-5), name


@needs_deepspeed
def test_one_process_continues_what_two_began(copied: Run):
    """What was logged beyond the checkpoint is replayed, and the rest played by one process."""
    logged = rows(copied, LOGGED)
    launch.update_config(copied, ["distributed.processes=1"])
    assert train(copied, lambda: False) == "done"
    after = rows(copied, LOGGED)
    assert after[: len(logged)] == logged
    assert [row[0] for row in after] == list(range(1, 65))
    _, state = load_checkpoint(find_checkpoint(copied, "64"))
    assert {float(entry["step"]) for entry in state.optimizer["state"].values()} == {4.0}
    assert rows(copied, "SELECT count(*) FROM events WHERE level = 'warning'") == [(0,)]


@needs_deepspeed
def test_a_killed_process_ends_the_run(copied: Run, monkeypatch: pytest.MonkeyPatch):
    """Within a minute, as ``failed``, with its log named; and two processes can go on from there."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = env_steps(copied)
    assert_killing_one_ends(copied, lambda: env_steps(copied) > before)
    assert env_steps(copied) % 4 == 0


@needs_deepspeed
def test_a_process_killed_while_fine_tuning_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = Config.model_validate({**TWO, "sft": {**TWO["sft"], "samples": 100_000}})
    run = folders.create_run(config, tmp_path / "run")

    def steps() -> int:
        with contextlib.suppress(sqlite3.Error):
            return rows(run, "SELECT count(*) FROM metrics WHERE name = 'sft/loss'")[0][0]
        return 0

    assert_killing_one_ends(run, lambda: steps() > 2)
    assert env_steps(run) == 0


def assert_killing_one_ends(run: Run, when: Callable[[], bool]) -> None:
    """Train in processes and kill the second one ``when``."""
    died: list[float] = []

    def kill_second(_stop: threading.Event) -> None:
        for process in rank_processes():
            if process.environ().get("RANK") == "1":
                process.kill()
        died.append(time.monotonic())

    with pytest.raises(RunFailedError, match=r"Process 1 of 2 was killed by signal 9"):
        supervised(run, when, kill_second)
    assert time.monotonic() - died[0] < 60
    status, error = rows(run, "SELECT status, error FROM run")[0]
    assert status == "failed"
    assert str(run.ranks / "rank-1.txt") in error
    assert not rank_processes()


def rank_processes() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children():
        # a child of another test that nobody has waited for yet has no command line
        with contextlib.suppress(psutil.NoSuchProcess):
            if "_rank" in process.cmdline():
                found.append(process)
    return found


def test_metrics_of_processes_become_those_of_the_run():
    first = {"rollout/reward": 1.0, "rollout/episodes": 1.0, "rollout/success": 1.0}
    second = {"rollout/reward": 0.0, "rollout/episodes": 3.0, "rollout/success": 0.0}
    third = {"rollout/reward": -4.0, "rollout/episodes": 0.0}
    assert merged_metrics([first, second, third]) == {
        "rollout/reward": -1.0,
        "rollout/episodes": 4.0,
        "rollout/success": 0.25,
    }
    assert merged_metrics([first]) == first
