"""What a plan says is held, beside what a real model holds, tensor by tensor; the paper's recipe in literal bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import SMALL
from tests.models import tiny_families
from tests.training.plan.live import LiveBytes
from vlmagent.config import Config, find_config, load_config
from vlmagent.models.architectures import shipped
from vlmagent.models.hf import load_policy, save_policy
from vlmagent.models.policy import Policy
from vlmagent.training.engines.local import LocalEngine
from vlmagent.training.plan.hardware import REFERENCES, Hardware
from vlmagent.training.plan.memory import Held, held
from vlmagent.training.plan.places import host_memory, rooms
from vlmagent.training.plan.share import Share
from vlmagent.training.plan.sizes import Sizes, Tokens, build_on_meta

CPU = Hardware("2 CPU cores", "cpu", 1, 16 * 10**9, 5e10, 1e10, here=True)
ENVS, OUTPUT = 8, 40
GIB = 2**30


@dataclass
class Real:
    """A small model of the paper's architecture, ready to learn, and what a plan says of it."""

    policy: Policy
    held: Held
    states: list[Any]
    outputs: list[list[int]]

    @property
    def known(self) -> list[torch.Tensor]:
        return [*self.policy.parameters(), *self.policy.buffers()]

    def score(self) -> Any:
        return self.policy.score(
            self.states, self.outputs, temperature=1.0, detach_value=False, entropy="measured"
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its checkpoint: large enough for layers to outweigh what stands around them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("hidden_size", 96), ("intermediate_size", 256), ("num_hidden_layers", 4)):
            patch.setitem(tiny_families.TEXT, name, value)
        return tiny_families.write("llava", tmp_path_factory.mktemp("plan") / "llava")


@pytest.fixture(scope="module")
def real(folder: Path) -> Callable[..., Real]:
    def made(**model: Any) -> Real:
        batch = {"minibatch_size": ENVS, "micro_batch_size": ENVS, "steps_per_update": ENVS, "kl_coef": 0.1}
        config = Config.model_validate(
            {
                **SMALL,
                "model": {"name": str(folder), "value_head": [16], **model},
                "rollout": {"num_envs": ENVS, "max_new_tokens": OUTPUT},
                "ppo": {**SMALL["ppo"], **batch},
            }
        )
        policy = load_policy(folder, config.model, 0)
        pictures = [np.full((28, 28, 3), number, np.uint8) for number in range(ENVS)]
        states = [policy.encode("You are playing a game. Which way? ", picture) for picture in pictures]
        picture = int((states[0].input_ids == policy.model.config.image_token_id).sum())
        tokens = Tokens(picture, len(states[0].input_ids) - picture, OUTPUT, picture)
        sizes = Sizes.of(policy.model, sum(p.numel() for p in policy.value_head.parameters()))
        rng = np.random.default_rng(0)
        outputs = [rng.integers(300, 339, OUTPUT).tolist() for _ in range(ENVS)]
        return Real(policy, held(config, sizes, tokens, Share.of(config), CPU), states, outputs)

    return made


LORA = {"enabled": True, "r": 4}


def total(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("lora", [{}, LORA], ids=["whole", "adapters"])
def test_weights_gradients_and_moments_are_those_of_a_real_step(real: Callable[..., Real], lora: Any):
    model = real(lora=lora)
    policy = model.policy
    assert model.held.memory.weights == total(policy.parameters())
    engine = LocalEngine([{"params": [p for p in policy.parameters() if p.requires_grad], "lr": 1e-3}], 1.0)
    scores = model.score()
    engine.backward(scores.token_logprobs.sum() + scores.values.sum())
    without = [p for p in policy.parameters() if p.requires_grad and p.grad is None]
    gradients = total(p.grad for p in policy.parameters() if p.grad is not None)
    assert model.held.memory.gradients == gradients + total(without), "the tower's last layer is never read"
    engine.step()
    moments = total(v for state in engine.optimizer.state.values() for v in state.values() if v.dim())
    assert model.held.memory.optimizer == moments + 2 * total(without)


def test_the_reference_is_the_adapters_once_more(real: Callable[..., Real], tmp_path: Path):
    model = real(lora=LORA)
    save_policy(model.policy, tmp_path)
    with LiveBytes(model.known) as live:
        model.policy.keep_reference(tmp_path)
    adapters = total(p for name, p in model.policy.named_parameters() if "lora_" in name)
    assert model.held.reference == live.now == adapters
    assert real().held.reference == real().held.memory.weights, "without adapters: a whole second model"


@pytest.mark.parametrize("lora", [{}, LORA], ids=["whole", "adapters"])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_activations_and_logits_of_a_real_pass(real: Callable[..., Real], lora: Any, recompute: bool):
    model = real(lora=lora, activation_checkpointing=recompute)
    with LiveBytes(model.known) as live:
        scores = model.score()
        (scores.token_logprobs.sum() + scores.values.sum()).backward()
    assert live.peak <= model.held.learning.total + model.held.memory.gradients
    assert model.held.learning.total <= 1.4 * live.peak


@pytest.mark.parametrize("lora", [{}, LORA], ids=["whole", "adapters"])
def test_a_real_generation(real: Callable[..., Real], lora: Any):
    model = real(lora=lora)
    with LiveBytes(model.known) as live:
        model.policy.sample(model.states, temperature=1.0, max_new_tokens=OUTPUT, seed=0)
    assert live.peak == pytest.approx(model.held.sampling.total, rel=0.25)


def test_keys_and_values_of_real_sequences(real: Callable[..., Real]):
    model = real()
    length = len(model.states[0].input_ids) + OUTPUT
    network = model.policy.model.model.language_model
    with torch.no_grad():
        cache = network(torch.zeros((ENVS, length), dtype=torch.long), use_cache=True).past_key_values
    assert model.held.sampling.cache == total(t for layer in cache.layers for t in (layer.keys, layer.values))


def test_what_is_kept_of_states_and_pictures_grows_with_their_number(real: Callable[..., Real]):
    """One of each here; a plan counts as many as the run will see, or as the caches may hold."""
    model = real(train_vision=False)
    with torch.no_grad():
        model.score()
    seen = 64 + 96
    assert model.held.pictures == model.policy.features.kept.nbytes / ENVS * seen
    assert model.held.states == model.policy.states.nbytes / ENVS * seen
    assert real().held.pictures == 0, "an encoder that learns is asked again"


def paper(**changes: Any) -> Config:
    return load_config(find_config("paper/numberline"), changes)


PAPER = "llava-hf/llava-v1.6-mistral-7b-hf"


def at_7b(**changes: Any) -> tuple[Config, Sizes, Held]:
    config = paper(**changes)
    sizes = Sizes.of(build_on_meta(shipped()[PAPER], config.model)[0], 4_720_641)
    return (
        config,
        sizes,
        held(config, sizes, Tokens(576, 120, 80, 576), Share.of(config), REFERENCES[0]),
    )


def test_the_papers_recipe_in_bytes():
    """7,566,743,552 weights of 2 bytes, 393,871,360 of adapters and 4,720,641 of the value head of 4."""
    _, _, found = at_7b()
    assert found.half
    assert found.memory.weights == 16_727_855_108
    assert found.memory.gradients == found.step == 1_594_368_004
    assert found.memory.optimizer == 3_188_736_008
    assert found.casts == 787_742_720
    assert (found.reference, found.pictures) == (0, 0)
    assert found.sampling.cache == 64 * 952 * 131_072
    # 12 rows of 952 tokens fit into 12,288; five tables of 257 positions, and a slice of the output layer
    assert found.learning.rows == 12
    assert found.learning.logits == 12 * 257 * 32_064 * 4 * 5 + 2**28 == 2_246_142_976
    assert found.learning.activations == 12 * (952 * (32 + 6) * 8192 + 576 * 24 * 2048) == 3_895_984_128
    assert found.learning.layer == pytest.approx(12 * 952 * 2 * (10 * 4096 + 4 * 14_336) * 1.4)
    assert found.tuning.gradients == 1_575_485_440, "the value head does not learn yet"
    assert found.tuning_pass is not None
    assert found.tuning_pass.rows == 16
    assert found.scoring is not None
    assert found.scoring.activations == 0
    always = 16_727_855_108 + 3_188_736_008 + 787_742_720
    assert found.updating == pytest.approx(always + 1_594_368_004 + found.learning.total)
    assert found.collecting == pytest.approx(always + found.sampling.total)
    assert found.peak == pytest.approx(1.1 * max(found.updating, found.collecting, found.tuned) + 1.5 * GIB)


def test_what_settings_add_at_7b():
    adapters = at_7b(ppo={"kl_coef": 0.1})[2]
    assert adapters.reference == 1_575_485_440
    assert at_7b(model={"lora": {"enabled": False}}, ppo={"kl_coef": 0.1})[2].reference == 30_285_856_772
    assert at_7b(model={"train_vision": False})[2].pictures == 2 * GIB
    entropy = at_7b(ppo={"entropy_coef": 0.01})[2]
    assert entropy.learning.logits - adapters.learning.logits == 12 * 257 * 32_064 * 4 * 3
    assert at_7b(sft={"samples": 0})[2].tuned == 0
    assert adapters.tuned == at_7b()[2].tuned, "there is no reference before RL"


def test_host_memory_and_disk_at_7b(tmp_path: Path):
    config, sizes, found = at_7b()
    host = host_memory(config, sizes, Share.of(config), found)
    assert host.loading == 1.5 * GIB + 16_727_855_108
    assert host.training == 1.5 * GIB + 2 * GIB + 3_188_736_008
    several = paper(distributed={"processes": 8})
    assert host_memory(several, sizes, Share.of(several), found).loading == 8 * host.loading
    run, cache = rooms(config, sizes, tmp_path / "not" / "yet")
    # of 29 updates six checkpoints are there at once: adapters, value head and two moments of each
    assert run.needed == 6 * 3 * 1_594_368_004 + 15_000 * 12_288
    assert run.folder == tmp_path / "not" / "yet"
    assert run.free > 0
    assert cache.needed == 1_575_485_440
    (only,) = rooms(paper(sft={"samples": 0}), sizes, None)
    assert only.what == "the run"
    whole, _ = rooms(
        paper(model={"lora": {"enabled": False}}), at_7b(model={"lora": {"enabled": False}})[1], None
    )
    assert whole.needed == 6 * 3 * 4 * (7_566_743_552 + 4_720_641) + 15_000 * 12_288
