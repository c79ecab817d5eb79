"""Adapters: what they reach, that they start as nothing, how they are saved, found again and merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.models.test_families import PROMPTS, make_agent, pictures, states, transitions
from vlmagent.config import ModelConfig
from vlmagent.errors import UsageError
from vlmagent.models import lora
from vlmagent.models.features import PictureFeatures
from vlmagent.models.hf import load_policy, save_policy
from vlmagent.models.lora import count_parts, describe_parts
from vlmagent.models.policy import Policy
from vlmagent.training.engines.local import LocalEngine
from vlmagent.training.sft.loss import response_loss
from vlmagent.types import SftSample

Checkpoint = Callable[[str], Path]
ADAPTERS = {"enabled": True, "r": 4, "alpha": 8}


def adapted(folder: Path, **changes: Any) -> Policy:
    """A policy with small adapters; ``changes`` go to the model section."""
    config = {"name": str(folder), "lora": ADAPTERS, "value_head": [16], **changes}
    return load_policy(folder, ModelConfig.model_validate(config), seed=3)


def scores(policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        return policy.score(states(policy), [[20, 21, 22]] * 4, temperature=1.0).token_logprobs


def disturb(policy: Policy) -> None:
    """Give the adapters an effect."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for name, parameter in policy.backbone.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "gemma3"])
def test_fresh_adapters_change_nothing(family: str, checkpoint: Checkpoint) -> None:
    folder = checkpoint(family)
    policy = adapted(folder)
    assert torch.allclose(scores(policy), scores(load_policy(folder)), atol=1e-6)
    disturb(policy)
    assert not torch.allclose(scores(policy), scores(load_policy(folder)))


def test_every_linear_layer_but_the_unused_one(checkpoint: Checkpoint) -> None:
    """Rank 4 on a layer from a to b inputs adds 4 * (a + b); the tower's last layer is never read."""
    text = 2 * 4 * (4 * (32 + 32) + 2 * (32 + 48) + (48 + 32))
    layer = 4 * (4 * (24 + 24) + (24 + 32) + (32 + 24))
    projector = 4 * ((24 + 32) + (32 + 32))
    parts = {part.name: part.trained for part in count_parts(adapted(checkpoint("llava")).model)}
    assert parts == {
        "vision_tower": layer,
        "multi_modal_projector": projector,
        "language_model": text,
        "lm_head": 0,
    }
    every = adapted(checkpoint("llava"), lora={**ADAPTERS, "skip_unused": False})
    assert sum(part.trained for part in count_parts(every.model)) == text + 2 * layer + projector
    only = adapted(checkpoint("llava"), train_vision=False)
    assert sum(part.trained for part in count_parts(only.model)) == text


@pytest.mark.parametrize("family", ["llava_next", "qwen2_5_vl", "smolvlm", "paligemma"])
def test_adapters_reach_tower_projector_and_decoder(family: str, checkpoint: Checkpoint) -> None:
    policy = adapted(checkpoint(family))
    parts = {part.name: part.trained for part in count_parts(policy.model)}
    parts.pop("image_newline", None)
    assert all(trained > 0 for name, trained in parts.items() if name != "lm_head"), parts
    only = adapted(checkpoint(family), train_vision=False)
    trained = {part.name for part in count_parts(only.model) if part.trained}
    assert trained <= set(lora.LANGUAGE)
    assert trained


def test_what_is_trained_is_told_with_counts(checkpoint: Checkpoint) -> None:
    policy = adapted(checkpoint("llava"))
    parts = count_parts(policy.model, [("value_head", policy.value_head)])
    total = sum(part.trained for part in parts)
    assert (
        total == len(torch.nn.utils.parameters_to_vector(policy.trained_parameters())) + 32 * 16 + 16 + 16 + 1
    )
    text = policy.describe()
    assert text == describe_parts(parts)
    assert f"{total:,} parameters are trained (vision_tower " in text
    assert "value_head 545)" in text


def test_only_the_adapters_learn(checkpoint: Checkpoint) -> None:
    policy = adapted(checkpoint("llava"))
    before = {name: p.detach().clone() for name, p in policy.backbone.named_parameters()}
    batch = [SftSample(pictures()[0], PROMPTS[0], '{"action": "+"}')]
    engine = LocalEngine([{"params": policy.trained_parameters(), "lr": 1e-2}], 1.0)
    losses = []
    for _ in range(10):
        loss = response_loss(policy, batch)
        losses.append(float(loss.detach()))
        engine.backward(loss)
        engine.step()
    assert losses[-1] < losses[0] - 0.5
    for name, parameter in policy.backbone.named_parameters():
        assert torch.equal(parameter, before[name]) != ("lora_" in name), name


def test_saved_adapters_find_their_base(checkpoint: Checkpoint, tmp_path: Path) -> None:
    base = checkpoint("qwen3_vl")
    policy = adapted(base)
    disturb(policy)
    save_policy(policy, tmp_path)
    assert {"adapter_config.json", "adapter_model.safetensors", "value_head.safetensors"} <= {
        file.name for file in tmp_path.iterdir()
    }
    assert not (tmp_path / "model.safetensors").exists()
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    for loaded in (load_policy(tmp_path), adapted(tmp_path)):
        assert torch.allclose(scores(loaded), scores(policy), atol=1e-6)
    alone = peft.PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), tmp_path)
    theirs = dict(alone.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in policy.backbone.named_parameters())


def test_a_saved_adapter_goes_on_learning_or_is_merged(checkpoint: Checkpoint, tmp_path: Path) -> None:
    policy = adapted(checkpoint("llava"))
    disturb(policy)
    save_policy(policy, tmp_path)
    again = adapted(tmp_path, lora={**ADAPTERS, "r": 64})  # it keeps its own rank
    assert [p.shape for p in again.trained_parameters()] == [p.shape for p in policy.trained_parameters()]
    whole = load_policy(tmp_path, ModelConfig(name=str(tmp_path)))
    assert not whole.has_adapters
    assert all(parameter.requires_grad for parameter in whole.backbone.parameters())
    assert torch.allclose(scores(whole), scores(policy), atol=1e-5)


def test_an_adapter_remembers_how_it_read_pictures(checkpoint: Checkpoint, tmp_path: Path) -> None:
    policy = adapted(checkpoint("llava_next"), tiles=False)
    save_policy(policy, tmp_path)
    for loaded in (load_policy(tmp_path), adapted(tmp_path, tiles=True)):
        assert type(loaded.model).__name__ == "LlavaForConditionalGeneration"
        assert loaded.tiles is False


def test_an_adapter_without_its_base(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_policy(adapted(checkpoint("llava")), tmp_path)
    file = tmp_path / "adapter_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "base_model_name_or_path": "/nowhere/at/all"}))
    with pytest.raises(UsageError, match=r"/nowhere/at/all', which is not there.*--set model.name=NEW"):
        load_policy(tmp_path)
    file.write_text(json.dumps({**settings, "base_model_name_or_path": None}))
    with pytest.raises(UsageError, match="does not name the model"):
        load_policy(tmp_path)
    file.write_text("nonsense")
    with pytest.raises(UsageError, match="could not be read"):
        load_policy(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(UsageError, match="without its weights"):
        load_policy(tmp_path)


def test_dropout_is_off_where_it_must_be(checkpoint: Checkpoint) -> None:
    policy = adapted(checkpoint("llava"), lora={**ADAPTERS, "dropout": 0.5})
    disturb(policy)
    assert torch.allclose(scores(policy), scores(policy), atol=1e-6)
    policy.train()
    assert not torch.equal(scores(policy), scores(policy))


def test_recomputing_gives_the_same_gradients(checkpoint: Checkpoint) -> None:
    """Layers run once more in the backward pass, dropout stays off, generation keeps its cache."""
    gradients, calls = [], []
    for recompute in (False, True):
        policy = adapted(
            checkpoint("llava"), activation_checkpointing=recompute, lora={**ADAPTERS, "dropout": 0.5}
        )
        disturb(policy)
        layer = policy.model.model.language_model.layers[0].mlp
        count = [0]
        layer.register_forward_pre_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        loss = policy.score(states(policy), [[20, 21, 22]] * 4, temperature=1.0).token_logprobs.sum()
        loss.backward()
        calls.append(count[0])
        gradients.append([p.grad.clone() for p in policy.trained_parameters() if p.grad is not None])
        assert not any(module.training for module in policy.modules())
        sampled = policy.sample(states(policy), temperature=1.0, max_new_tokens=5, seed=0)
        assert count[0] - calls[-1] == max(len(output.token_ids) for output in sampled), "one pass per token"
    assert calls == [1, 2]
    assert len(gradients[0]) == len(gradients[1]) > 0
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(*gradients, strict=True))


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "idefics3", "gemma3"])
def test_a_frozen_tower_sees_each_picture_once(family: str, checkpoint: Checkpoint) -> None:
    """Over any number of batches; the result is that of looking every time."""
    folder = checkpoint(family)
    frozen, learning = adapted(folder, train_vision=False), adapted(folder)
    tower = frozen.model.model.get_submodule(lora.vision_modules(frozen.model)[0])
    calls: list[int] = []
    tower.register_forward_hook(lambda *_: calls.append(1))
    first = scores(frozen)
    assert torch.allclose(first, scores(learning), atol=1e-5)
    assert torch.equal(first, scores(frozen))
    frozen.sample(states(frozen), temperature=1.0, max_new_tokens=3, seed=0)
    assert len(calls) == 1
    policy = adapted(folder, train_vision=False)
    policy.score(states(policy), [[20, 21]] * 4, temperature=1.0).token_logprobs.sum().backward()
    assert all(p.grad is not None for n, p in policy.backbone.named_parameters() if "lora_B" in n)


def test_kept_features_are_bounded(checkpoint: Checkpoint) -> None:
    """A cache too small for one picture keeps none, and the numbers stay the same."""
    policy = adapted(checkpoint("llava"), train_vision=False)
    kept = scores(policy)
    assert (len(policy.features.kept), policy.features.kept.misses) == (2, 2)
    assert torch.equal(scores(policy), kept)
    assert policy.features.kept.hits == 2
    policy.features = PictureFeatures(frozen=True, max_bytes=1)
    assert torch.allclose(scores(policy), kept, atol=1e-5)
    assert len(policy.features.kept) == 0


class TestReference:
    """The adapters that RL started from, beside those that learn."""

    @pytest.fixture
    def start(self, checkpoint: Checkpoint, tmp_path: Path) -> Path:
        policy = adapted(checkpoint("llava"))
        disturb(policy)
        save_policy(policy, tmp_path)
        return tmp_path

    def test_scores_are_the_starts(self, start: Path) -> None:
        """Not those of the plain base, and not those of the adapters as they are now."""
        policy = adapted(start)
        before = scores(policy)
        policy.keep_reference(start)
        moved = train(policy, steps=3)
        assert not torch.allclose(moved, before, atol=1e-2)
        with policy.reference():
            assert torch.equal(scores(policy), before)
            assert not policy.score(states(policy), [[20]] * 4, temperature=1.0).token_logprobs.requires_grad
        assert torch.equal(scores(policy), moved)
        assert not torch.allclose(scores(load_policy(start, base=None)), moved, atol=1e-2)

    def test_learning_goes_on_as_without_one(self, start: Path) -> None:
        """Weights, what is trained and what is saved."""
        policy, alone = adapted(start), adapted(start)
        policy.keep_reference(start)
        assert policy.describe() == alone.describe()
        engine = LocalEngine([{"params": policy.trained_parameters(), "lr": 1e-2}], 1.0)
        engine.freeze(0, True)
        with policy.reference():
            scores(policy)
        assert not policy.trained_parameters(), "what an engine froze stays frozen"
        engine.freeze(0, False)
        with pytest.raises(ZeroDivisionError), policy.reference():
            raise ZeroDivisionError
        assert torch.equal(train(policy, steps=2), train(alone, steps=2))
        out = start / "out"
        out.mkdir()
        save_policy(policy, out)
        assert torch.allclose(scores(load_policy(out)), scores(policy), atol=1e-5)

    def test_refused_without_adapters(self, checkpoint: Checkpoint, start: Path) -> None:
        with pytest.raises(UsageError, match="needs adapters"):
            load_policy(checkpoint("llava")).keep_reference(start)
        with pytest.raises(ValueError, match="keep_reference"), adapted(start).reference():
            pass

    def test_other_adapters_are_refused(self, checkpoint: Checkpoint, start: Path) -> None:
        smaller = adapted(checkpoint("llava"), lora={**ADAPTERS, "r": 2})
        before = scores(smaller)
        with pytest.raises(UsageError, match="of another shape"):
            smaller.keep_reference(start)
        assert torch.equal(scores(smaller), before)


def train(policy: Policy, steps: int) -> torch.Tensor:
    """A few supervised steps; the scores after them."""
    batch = [SftSample(pictures()[0], PROMPTS[0], '{"action": "+"}')]
    engine = LocalEngine([{"params": policy.trained_parameters(), "lr": 1e-2}], 1.0)
    for _ in range(steps):
        engine.backward(response_loss(policy, batch))
        engine.step()
    return scores(policy)


class TestHalfPrecision:
    """bfloat16 weights with float32 adapters, as on a GPU."""

    @pytest.fixture
    def policy(self, checkpoint: Checkpoint) -> Policy:
        policy = adapted(checkpoint("llava"), dtype="bfloat16")
        disturb(policy)
        return policy

    def test_adapters_and_critic_stay_float32(self, policy: Policy) -> None:
        kinds = {p.dtype for n, p in policy.backbone.named_parameters() if "lora_" not in n}
        assert kinds == {torch.bfloat16}
        assert {p.dtype for p in policy.trained_parameters()} == {torch.float32}
        assert {p.dtype for p in policy.value_head.parameters()} == {torch.float32}
        assert not policy.exact
        assert scores(policy).dtype == torch.float32

    def test_old_logprobs_come_from_the_training_pass(
        self, policy: Policy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not from generation: a scorer that is off by an eighth shows in what is logged."""
        agent, score = make_agent(policy, rescore=True), policy.score

        def shifted(*arguments: Any, **options: Any) -> Any:
            found = score(*arguments, **options)
            moved = found.token_logprobs.masked_fill(found.mask, -0.125) + found.token_logprobs
            return replace(found, token_logprobs=moved, values=found.values + 3.0)

        monkeypatch.setattr(policy, "score", shifted)
        logged, direct = transitions(agent, 4), transitions(make_agent(policy), 4)
        again = agent.score(logged)
        for row, (transition, raw) in enumerate(zip(logged, direct, strict=True)):
            generation, other = transition.decision.generation, raw.decision.generation
            assert generation is not None
            assert other is not None
            found = again.token_logprobs[row, : len(generation.token_ids)].detach().numpy()
            assert np.array_equal(generation.token_ids, other.token_ids)
            assert generation.token_logprobs == pytest.approx(found, abs=1e-6)
            assert generation.token_logprobs == pytest.approx(other.token_logprobs - 0.125, abs=0.06)
            assert transition.value == pytest.approx(other.value + 3.0, abs=0.05)


def test_the_built_in_model_takes_no_adapters() -> None:
    with pytest.raises(ValueError, match="needs a checkpoint"):
        ModelConfig.model_validate({"lora": {"enabled": True}})
