"""Checkpoints: whole or not at all, complete, found by name, kept or removed as configured."""

from pathlib import Path

import pytest
import torch

from vlmagent.config import Config
from vlmagent.errors import StoreError, UsageError
from vlmagent.models.hf import build_policy
from vlmagent.models.policy import Policy
from vlmagent.paths import Run
from vlmagent.training import checkpoint as module
from vlmagent.training.checkpoint import (
    TrainerState,
    load_checkpoint,
    load_trainer_state,
    prune,
    save_checkpoint,
)
from vlmagent.training.engines.local import LocalEngine
from vlmagent.training.saved import find_checkpoint, list_checkpoints


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.fixture
def policy(small_config: Config) -> Policy:
    return build_policy(small_config.model, ["+ - text text"], 0)


def engine_with_history(policy: Policy) -> LocalEngine:
    engine = LocalEngine([{"params": list(policy.value_head.parameters()), "lr": 0.1}], 1.0)
    for _ in range(3):
        engine.backward(sum((p.sum() - 1) ** 2 for p in policy.value_head.parameters()))
        engine.set_lr_factor(0.5)
        engine.step()
    return engine


def test_round_trip_of_weights_and_optimizer(policy: Policy, run: Run):
    engine = engine_with_history(policy)
    rollout = {"steps": 5, "episodes": 2, "environments": [{"actions": ["+"]}]}
    folder = save_checkpoint(run, policy, TrainerState(3, 96, rollout, engine.state_dict()))
    assert folder.name == "step-96"
    loaded, state = load_checkpoint(folder)
    assert (state.update_index, state.env_steps, state.rollout) == (3, 96, rollout)
    for key, value in policy.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key])
    fresh = LocalEngine([{"params": list(loaded.value_head.parameters()), "lr": 0.1}], 1.0)
    fresh.load_state_dict(state.optimizer)
    assert fresh.learning_rate == engine.learning_rate == 0.05
    for one, two in ((engine, policy), (fresh, loaded)):  # the next step is the same too
        one.backward(sum((p.sum() - 1) ** 2 for p in two.value_head.parameters()))
        one.step()
    for key, value in policy.value_head.state_dict().items():
        assert torch.equal(value, loaded.value_head.state_dict()[key])


def test_a_failed_write_leaves_nothing_and_keeps_the_old(policy: Policy, run: Run, monkeypatch):
    save_checkpoint(run, policy, TrainerState(1, 32, None, None))

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_save_trainer", full)
    with pytest.raises(StoreError, match=r"step-64 could not be written.*No space"):
        save_checkpoint(run, policy, TrainerState(2, 64, None, None))
    assert [folder.name for folder in list_checkpoints(run)] == ["step-32"]
    assert not list(run.checkpoints.glob(".tmp*"))
    assert find_checkpoint(run).name == "step-32"


def test_a_half_written_folder_is_no_checkpoint(policy: Policy, run: Run):
    save_checkpoint(run, policy, TrainerState(1, 32, None, None))
    half = run.checkpoints / "step-64"
    half.mkdir()
    (half / "config.json").write_text("{}")
    assert [folder.name for folder in list_checkpoints(run)] == ["step-32"]


def test_found_by_name(policy: Policy, run: Run):
    with pytest.raises(UsageError, match="has no checkpoint yet"):
        find_checkpoint(run)
    for steps in (0, 32, 64):
        save_checkpoint(run, policy, TrainerState(steps // 32, steps, None, None))
    names = {name: find_checkpoint(run, name).name for name in ("latest", "start", "step-32", "32")}
    assert names == {"latest": "step-64", "start": "step-0", "step-32": "step-32", "32": "step-32"}
    with pytest.raises(UsageError, match="'step-32'"):
        find_checkpoint(run, "step-33")


def test_pruning(policy: Policy, run: Run):
    for steps in (0, 32, 64, 96, 128):
        save_checkpoint(run, policy, TrainerState(steps // 32, steps, None, None))
    prune(run, keep_last=2, keep_every=2)
    assert [folder.name for folder in list_checkpoints(run)] == [
        "step-0",
        "step-64",
        "step-96",
        "step-128",
    ]


def test_pruning_keeps_the_start(policy: Policy, run: Run):
    for steps in (0, 32, 64):
        save_checkpoint(run, policy, TrainerState(steps // 32, steps, None, None))
    prune(run, keep_last=1, keep_every=0)
    assert [folder.name for folder in list_checkpoints(run)] == ["step-0", "step-64"]


def test_pruning_counts_updates_whatever_their_length(policy: Policy, run: Run):
    for update, steps in enumerate((0, 32, 96, 160)):  # after the first update they became longer
        save_checkpoint(run, policy, TrainerState(update, steps, None, None))
    prune(run, keep_last=1, keep_every=2)
    assert [folder.name for folder in list_checkpoints(run)] == ["step-0", "step-96", "step-160"]


def test_foreign_folders(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no trainer\.json"):
        load_trainer_state(tmp_path)
    (tmp_path / "trainer.json").write_text('{"format": 99}')
    with pytest.raises(UsageError, match="format 99"):
        load_trainer_state(tmp_path)
