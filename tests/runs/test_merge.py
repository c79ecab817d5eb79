"""A run's checkpoint as a plain model: opens with transformers alone, acts alike, tells where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.conftest import SMALL
from vlmagent.config import Config
from vlmagent.errors import UsageError
from vlmagent.models.hf import load_policy
from vlmagent.models.policy import Policy
from vlmagent.paths import Run
from vlmagent.runs.folders import create_run
from vlmagent.runs.merge import merge_run
from vlmagent.store.writer import add_evaluation
from vlmagent.tasks.registry import build_task
from vlmagent.training.checkpoint import load_checkpoint
from vlmagent.training.saved import find_checkpoint
from vlmagent.training.train import train


def config_of(base: Path) -> Config:
    """A whole run with adapters that takes about two seconds."""
    model = {
        "name": str(base),
        "lora": {"enabled": True, "r": 2, "alpha": 16},
        "value_head": [8],
        "threads": 1,
    }
    ppo = {**SMALL["ppo"], "env_steps": 32, "lr": 1e-2, "max_tokens_per_micro_batch": 2000}
    sft = {"samples": 32, "batch_size": 16, "micro_batch_size": 8, "lr": 1e-2}
    return Config.model_validate({**SMALL, "cot": False, "model": model, "ppo": ppo, "sft": sft})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """SFT and PPO with adapters on a tiny LLaVA-1.6, and an evaluation."""
    from tests.models import tiny_families

    root = tmp_path_factory.mktemp("export")
    base = tiny_families.write("llava_next", root / "base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLMAGENT_CACHE", str(root / "cache"))
        config = config_of(base)
        folder = create_run(config, root / "run")
        assert train(folder, lambda: False) == "done"
    row = {
        "task": "numberline",
        "system": "rl",
        "rule_set": "paper",
        "checkpoint": "step-32",
        "episodes": 200,
    }
    row |= {"success": 0.5, "success_ci": (0.43, 0.57), "mean_return": -0.25, "return_ci": (-0.5, 0.0)}
    add_evaluation(folder.database, {**row, "legal_rate": 1.0, "goal_rate": 0.5, "seed": 0})
    return folder


def logprobs(policy: Policy) -> torch.Tensor:
    image, _ = build_task("numberline").make_env().reset(seed=1)
    with torch.no_grad():
        return policy.score(
            [policy.encode("Which way?", image)], [[20, 21, 22]], temperature=1.0
        ).token_logprobs


def test_a_plain_model_with_the_adapters_in_it(run: Run, tmp_path: Path):
    out = merge_run(run, tmp_path / "plain")
    assert (
        type(AutoModelForImageTextToText.from_pretrained(out)).__name__ == "LlavaNextForConditionalGeneration"
    )
    assert type(AutoProcessor.from_pretrained(out)).__name__ == "LlavaNextProcessor"
    assert not list(out.glob("adapter*"))
    assert not list(out.glob("value_head*"))
    trained, _ = load_checkpoint(find_checkpoint(run))
    plain = load_policy(out)
    assert torch.allclose(logprobs(plain), logprobs(trained), atol=1e-4)
    base = load_policy(run.path.parent / "base")
    assert not torch.allclose(logprobs(plain), logprobs(base), atol=1e-2)


def test_the_card_tells_data_config_and_numbers(run: Run, tmp_path: Path):
    card = (merge_run(run, tmp_path / "plain") / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["vlmagent", "reinforcement-learning", "numberline"],
        "base_model": "base",
    }
    assert "32 answers of the task's solver" in body
    assert "32 steps that the model took" in body
    assert "| rl | step-32 | 200 | 50.0 % (43.0 % to 57.0 %) | -0.25 | 100.0 % |" in body
    assert "max_tokens_per_micro_batch: 2000" in body


def test_checkpoints_of_adapters_hold_no_copy_of_the_base(run: Run):
    folder = find_checkpoint(run)
    assert (folder / "adapter_model.safetensors").is_file()
    assert not (folder / "model.safetensors").exists()
    before, after = load_checkpoint(find_checkpoint(run, "start"))[0], load_checkpoint(folder)[0]
    assert not torch.equal(logprobs(before), logprobs(after)), "PPO moved the adapters"


def test_nothing_is_overwritten(run: Run, tmp_path: Path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    with pytest.raises(UsageError, match="already exists"):
        merge_run(run, tmp_path / "there")
    assert (tmp_path / "there" / "file").read_text() == "mine"


def test_a_run_that_trained_every_weight(small_config: Config, tmp_path: Path):
    config = small_config.model_copy(update={"ppo": small_config.ppo.model_copy(update={"env_steps": 0})})
    folder = create_run(config, tmp_path / "run")
    assert train(folder, lambda: False) == "done"
    out = merge_run(folder, tmp_path / "plain")
    assert torch.equal(logprobs(load_policy(out)), logprobs(load_checkpoint(find_checkpoint(folder))[0]))
    card = (out / "README.md").read_text()
    assert "Not evaluated yet." in card
    assert "base_model" not in card.split("---\n")[1]
