"""Checkpoints: whole or not at all, complete, found by name, kept or removed as configured."""

from pathlib import Path

import pytest
import torch

from vlmagent.config import Config
from vlmagent.errors import StoreError, UsageError
from vlmagent.models.hf import build_policy
from vlmagent.models.policy import Policy
from vlmagent.training import checkpoint as module
from vlmagent.training.checkpoint import (
    TrainerState,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_trainer_state,
    prune,
    save_checkpoint,
)
from vlmagent.training.engines.local import LocalEngine
from vlmagent.training.trainer import kept_steps


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


def test_round_trip_of_weights_and_optimizer(policy: Policy, tmp_path: Path):
    engine = engine_with_history(policy)
    rollout = {"steps": 5, "episodes": 2, "environments": [{"actions": ["+"]}]}
    folder = save_checkpoint(tmp_path, policy, TrainerState(3, 96, rollout, engine.state_dict()))
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


def test_a_failed_write_leaves_nothing_and_keeps_the_old(policy: Policy, tmp_path: Path, monkeypatch):
    save_checkpoint(tmp_path, policy, TrainerState(1, 32, None, None))

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_save_trainer", full)
    with pytest.raises(StoreError, match=r"step-64 could not be written.*No space"):
        save_checkpoint(tmp_path, policy, TrainerState(2, 64, None, None))
    assert [folder.name for folder in list_checkpoints(tmp_path)] == ["step-32"]
    assert not list((tmp_path / "checkpoints").glob(".tmp*"))
    assert find_checkpoint(tmp_path).name == "step-32"


def test_a_half_written_folder_is_no_checkpoint(policy: Policy, tmp_path: Path):
    save_checkpoint(tmp_path, policy, TrainerState(1, 32, None, None))
    half = tmp_path / "checkpoints" / "step-64"
    half.mkdir()
    (half / "config.json").write_text("{}")
    assert [folder.name for folder in list_checkpoints(tmp_path)] == ["step-32"]


def test_found_by_name(policy: Policy, tmp_path: Path):
    with pytest.raises(UsageError, match="has no checkpoint yet"):
        find_checkpoint(tmp_path)
    for steps in (0, 32, 64):
        save_checkpoint(tmp_path, policy, TrainerState(steps // 32, steps, None, None))
    names = {name: find_checkpoint(tmp_path, name).name for name in ("latest", "start", "step-32", "32")}
    assert names == {"latest": "step-64", "start": "step-0", "step-32": "step-32", "32": "step-32"}
    with pytest.raises(UsageError, match="'step-32'"):
        find_checkpoint(tmp_path, "step-33")


def test_pruning(policy: Policy, tmp_path: Path):
    for steps in (0, 32, 64, 96, 128):
        save_checkpoint(tmp_path, policy, TrainerState(steps // 32, steps, None, None))
    prune(tmp_path, keep_last=2, keep={0, 64})
    assert [folder.name for folder in list_checkpoints(tmp_path)] == [
        "step-0",
        "step-64",
        "step-96",
        "step-128",
    ]


def test_kept_steps(small_config: Config):
    assert kept_steps(small_config) == {0}
    data = small_config.model_dump()
    data["checkpoint"]["keep_every"] = 2
    assert kept_steps(Config.model_validate(data)) == {0, 64}


def test_foreign_folders(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no trainer\.json"):
        load_trainer_state(tmp_path)
    (tmp_path / "trainer.json").write_text('{"format": 99}')
    with pytest.raises(UsageError, match="format 99"):
        load_trainer_state(tmp_path)
