"""Every family with a tiny random model: sampler and scorer agree, pictures matter, SFT and PPO run, files open."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.models.tiny_families import BUILDERS
from vlmagent.agents.vlm import VlmAgent
from vlmagent.config import ModelConfig, PpoConfig
from vlmagent.models.families import family_of
from vlmagent.models.hf import load_policy, save_policy
from vlmagent.models.policy import EncodedState, Policy
from vlmagent.tasks.registry import build_task
from vlmagent.training.engines.local import LocalEngine
from vlmagent.training.rl.buffer import Sample
from vlmagent.training.rl.ppo import PpoUpdater
from vlmagent.training.sft.loss import response_loss
from vlmagent.types import ImageArray, SftSample, Transition

PROMPTS = ["Which way?", "You are playing a game. " * 3, "action", "larger or smaller"]
Checkpoint = Callable[[str], Path]


def pictures() -> list[ImageArray]:
    """Two different ones."""
    return [np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8) for seed in range(2)]


def states(policy: Policy) -> list[EncodedState]:
    """Four rows of different lengths, two pictures."""
    images = pictures()
    return [policy.encode(prompt, images[row % 2]) for row, prompt in enumerate(PROMPTS)]


@pytest.fixture(scope="module", params=BUILDERS)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def policy(family: str, checkpoint: Checkpoint) -> Policy:
    """One policy per family, for tests that leave it as it is."""
    return awake(load_policy(checkpoint(family)))


def awake(policy: Policy) -> Policy:
    """A critic that starts at zero everywhere would hide mistakes."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in policy.value_head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return policy


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_scored_logprobs_equal_sampled_ones(policy: Policy, temperature: float) -> None:
    """In one left-padded batch, recomputed by teacher forcing to 1e-4; values too."""
    encoded = states(policy)
    assert len({len(state.input_ids) for state in encoded}) > 1
    sampled = policy.sample(encoded, temperature=temperature, max_new_tokens=12, seed=1)
    with torch.no_grad():
        scores = policy.score(encoded, [output.token_ids for output in sampled], temperature=temperature)
    for row, output in enumerate(sampled):
        length = len(output.token_ids)
        assert scores.mask[row].sum() == length
        assert scores.token_logprobs[row, :length].numpy() == pytest.approx(output.token_logprobs, abs=1e-4)
        assert float(scores.values[row]) == pytest.approx(output.value, abs=1e-4)
    assert policy.values(encoded).numpy() == pytest.approx([output.value for output in sampled], abs=1e-4)


def test_a_row_does_not_depend_on_its_batch(policy: Policy) -> None:
    encoded = states(policy)
    outputs = [[20, 21, policy.eos_id], [22], [23, 24], [25] * 6]
    with torch.no_grad():
        together = policy.score(encoded, outputs, temperature=1.0)
        for row, (state, output) in enumerate(zip(encoded, outputs, strict=True)):
            alone = policy.score([state], [output], temperature=1.0)
            expected = together.token_logprobs[row, : len(output)].numpy()
            assert alone.token_logprobs[0].numpy() == pytest.approx(expected, abs=1e-4)


def test_the_picture_matters(policy: Policy) -> None:
    first, other = pictures()
    with torch.no_grad():
        one = policy.score([policy.encode("action", first)], [[20, 21, 22]], temperature=1.0)
        two = policy.score([policy.encode("action", other)], [[20, 21, 22]], temperature=1.0)
    assert (one.token_logprobs - two.token_logprobs).abs().max() > 1e-2


def test_special_tokens_are_never_sampled(policy: Policy) -> None:
    encoded = states(policy)
    special = {i for i, token in policy.tokenizer.added_tokens_decoder.items() if token.special}
    assert policy.model.config.image_token_id in policy.banned
    for seed in range(3):
        for output in policy.sample(encoded, temperature=3.0, max_new_tokens=20, seed=seed):
            assert not special & set(output.token_ids.tolist()) - set(policy.end_ids)


def test_a_checkpoints_own_generation_settings_change_nothing(policy: Policy) -> None:
    """Qwen's files ask for a repetition penalty and top-k 1, which the scorer knows nothing of."""
    before = policy.sample(states(policy), temperature=1.0, max_new_tokens=8, seed=3)
    config = policy.model.generation_config
    config.repetition_penalty, config.top_k, config.top_p = 1.7, 1, 0.1
    try:
        after = policy.sample(states(policy), temperature=1.0, max_new_tokens=8, seed=3)
        assert policy.model.generation_config is config, "the checkpoint's settings are only set aside"
    finally:
        config.repetition_penalty, config.top_k, config.top_p = None, None, None
    for one, two in zip(before, after, strict=True):
        assert np.array_equal(one.token_ids, two.token_ids)


def test_on_tokens_sees_the_output_only(policy: Policy) -> None:
    seen: list[torch.Tensor] = []
    out = policy.sample(states(policy), temperature=1.0, max_new_tokens=5, seed=1, on_tokens=seen.append)
    assert [tensor.shape[1] for tensor in seen] == list(range(1, len(seen) + 1))
    length = len(out[0].token_ids)
    assert seen[-1][0, :length].tolist() == out[0].token_ids.tolist()


def test_sft_lowers_the_loss(family: str, checkpoint: Checkpoint) -> None:
    fresh = load_policy(checkpoint(family))
    texts = ['{"action": "+"}', '{"action": "-"}', '{"thoughts": "larger", "action": "+"}']
    batch = [SftSample(pictures()[row % 2], PROMPTS[row], text) for row, text in enumerate(texts)]
    engine = LocalEngine([{"params": fresh.trained_parameters(), "lr": 3e-3}], 1.0)
    losses = []
    for _ in range(8):
        loss = response_loss(fresh, batch)
        losses.append(float(loss.detach()))
        engine.backward(loss)
        engine.step()
    assert losses[-1] < losses[0] - 1.0


def test_words_are_learnt_without_a_picture(policy: Policy) -> None:
    alone = [policy.encode(PROMPTS[0], None), policy.encode(PROMPTS[1], None)]
    assert not alone[0].picture
    assert len(alone[0].input_ids) < len(policy.encode(PROMPTS[0], pictures()[0]).input_ids)
    outputs = [policy.tokenize_output(text) for text in ("one", "one two")]
    together = policy.score(alone, outputs, temperature=1.0).token_logprobs
    single = policy.score(alone[:1], outputs[:1], temperature=1.0).token_logprobs
    assert torch.allclose(together[0, : len(outputs[0])], single[0], atol=1e-4)


def transitions(agent: VlmAgent, count: int) -> list[Transition]:
    """NumberLine states with what the agent wrote in them."""
    env = agent.task.make_env()
    seen = [env.reset(seed=seed) for seed in range(count)]
    observations = [agent.task.observe(image, state) for image, state in seen]
    decisions = agent.act(observations, [state for _, state in seen], seed=5)
    return [
        Transition(
            id=index + 1,
            episode_id=1,
            update_index=1,
            env_index=0,
            step=index,
            image=observation.image,
            decision=decision,
            reward=0.0,
            terminated=False,
            truncated=False,
            value=decision.generation.value if decision.generation else None,
        )
        for index, (observation, decision) in enumerate(zip(observations, decisions, strict=True))
    ]


def make_agent(policy: Policy, **more: Any) -> VlmAgent:
    """Short outputs on NumberLine without thoughts."""
    task = build_task("numberline", cot=False)
    return VlmAgent(policy, task, temperature=1.0, max_new_tokens=6, thought_weight=0.5, **more)


def test_one_ppo_update(family: str, checkpoint: Checkpoint) -> None:
    fresh = load_policy(checkpoint(family))
    agent = make_agent(fresh)
    config = PpoConfig(
        minibatch_size=4, micro_batch_size=4, max_tokens_per_micro_batch=900, epochs=1, lr=1e-3
    )
    engine = LocalEngine([{"params": fresh.trained_parameters(), "lr": config.lr}], config.max_grad_norm)
    samples = [Sample(t, (-1.0) ** t.id, 1.0) for t in transitions(agent, 4)]
    before = [parameter.detach().clone() for parameter in fresh.trained_parameters()]
    stats = PpoUpdater(agent, engine, config).update(samples, seed=0)
    assert stats.first_ratio_error < 1e-4
    assert stats.skipped == 0
    assert stats.grad_norm > 0
    changed = [not torch.equal(a, b) for a, b in zip(before, fresh.trained_parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2


def test_saved_files_open_again(policy: Policy, family: str, tmp_path: Path) -> None:
    save_policy(policy, tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert type(model) is type(policy.model)
    loaded = load_policy(tmp_path)
    encoded, again = states(policy), states(loaded)
    outputs = [[20, 21, 22]] * 4
    with torch.no_grad():
        one = policy.score(encoded, outputs, temperature=1.0)
        two = loaded.score(again, outputs, temperature=1.0)
    assert torch.equal(one.token_logprobs, two.token_logprobs)
    assert torch.equal(one.values, two.values)
    processor = json.loads((tmp_path / "processor_config.json").read_text())
    assert processor["processor_class"] == type(policy.processor).__name__


def test_picture_tokens_are_planned_as_the_processor_makes_them(policy: Policy, family: str) -> None:
    image = pictures()[0]
    state = policy.encode("action", image)
    text = policy.family.render(policy.processor, "action")
    place = {
        "smolvlm": "<image>",
        "idefics3": "<image>",
        "gemma3": "<start_of_image>",
    }.get(family, "<image>" if "qwen" not in family else "<|vision_start|><|image_pad|><|vision_end|>")
    assert place in text
    ids = [
        i for part in text.split(place) for i in policy.tokenizer(part, add_special_tokens=False)["input_ids"]
    ]
    # PaliGemma's processor writes a start token and a line break; Gemma's line breaks are two tokens each here
    around = {"paligemma": 2, "gemma3": 2}.get(family, 0)
    known = {"min_pixels": 256, "max_pixels": 256, "longest_edge": 32}
    planned = policy.family.image_tokens(policy.model.config, known, *image.shape[:2])
    assert len(state.input_ids) == len(ids) + around + planned


def test_llava_16_with_one_tile(checkpoint: Checkpoint) -> None:
    """The paper's mode: the same weights in a LLaVA-1.5, as many tokens as the tower has patches."""
    folder = checkpoint("llava_next")
    single = load_policy(folder, ModelConfig(name=str(folder), tiles=False))
    tiled = load_policy(folder, ModelConfig(name=str(folder)))
    assert type(single.model).__name__ == "LlavaForConditionalGeneration"
    image = pictures()[0]
    short, long = (len(p.encode("action", image).input_ids) for p in (single, tiled))
    assert long - short == tiled.family.image_tokens(tiled.model.config, {}, 30, 40) - 4
    weights = dict(tiled.model.named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in single.model.named_parameters())
    sampled = single.sample(states(single), temperature=1.0, max_new_tokens=6, seed=0)
    with torch.no_grad():
        scores = single.score(states(single), [output.token_ids for output in sampled], temperature=1.0)
    assert float(scores.token_logprobs[0, 0]) == pytest.approx(float(sampled[0].token_logprobs[0]), abs=1e-4)


@pytest.mark.parametrize("name", ["smolvlm", "idefics3"])
def test_tiles_can_be_switched_off(name: str, checkpoint: Checkpoint) -> None:
    folder = checkpoint(name)
    policy = load_policy(folder, ModelConfig(name=str(folder), tiles=False))
    assert policy.encode("action", pictures()[0]).tiles == 1
    assert load_policy(folder).encode("action", pictures()[0]).tiles == 5


def test_turns_end_as_the_chat_template_says(checkpoint: Checkpoint) -> None:
    ends = {name: load_policy(checkpoint(name)) for name in ("llava", "qwen3_vl", "gemma3", "paligemma")}
    first = {name: p.tokenizer.convert_ids_to_tokens(p.eos_id) for name, p in ends.items()}
    expected = {"llava": "</s>", "qwen3_vl": "<|im_end|>", "gemma3": "<end_of_turn>", "paligemma": "</s>"}
    assert first == expected
    qwen = ends["qwen3_vl"]
    assert qwen.tokenizer.eos_token_id in qwen.end_ids
    assert qwen.tokenize_output("+")[-1] == qwen.eos_id


def test_pictures_of_different_sizes_in_one_batch(checkpoint: Checkpoint) -> None:
    """Tiles are padded; a row keeps its own result."""
    wide = np.random.default_rng(3).integers(0, 256, (12, 60, 3), dtype=np.uint8)
    for name in ("llava_next", "idefics3", "qwen2_5_vl"):
        policy = load_policy(checkpoint(name))
        rows = [policy.encode("action", pictures()[0]), policy.encode("action", wide)]
        with torch.no_grad():
            together = policy.score(rows, [[20, 21]] * 2, temperature=1.0)
            for row, state in enumerate(rows):
                alone = policy.score([state], [[20, 21]], temperature=1.0).token_logprobs[0].numpy()
                assert alone == pytest.approx(together.token_logprobs[row].numpy(), abs=1e-4), name


def test_an_unknown_family_goes_through_as_it_is(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlmagent.models.families.others import Generic

    assert isinstance(family_of("something_new"), Generic)
    for name in ("llava", "qwen2_5_vl", "gemma3"):
        policy = load_policy(checkpoint(name))
        monkeypatch.setattr(policy, "family", Generic())
        encoded = states(policy)
        sampled = policy.sample(encoded, temperature=1.0, max_new_tokens=8, seed=1)
        with torch.no_grad():
            scores = policy.score(encoded, [output.token_ids for output in sampled], temperature=1.0)
        for row, output in enumerate(sampled):
            found = scores.token_logprobs[row, : len(output.token_ids)].numpy()
            assert found == pytest.approx(output.token_logprobs, abs=1e-4), name
