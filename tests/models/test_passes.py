"""Our own passes against transformers': the same samples, log-probs, values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import MistralConfig, MistralModel

from tests.models.test_families import states
from tests.models.test_lora import adapted, disturb
from vlmagent.config import ModelConfig
from vlmagent.models.decoder import Decoder
from vlmagent.models.hf import load_policy
from vlmagent.models.packing import pack
from vlmagent.models.passes import PackedPasses, PaddedPasses
from vlmagent.models.policy import Policy, SampledOutput

Checkpoint = Callable[[str], Path]


@pytest.fixture
def policy(checkpoint: Checkpoint) -> Policy:
    opened = load_policy(checkpoint("llava"))
    with torch.no_grad():
        for parameter in opened.value_head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return opened


def sampled(
    policy: Policy, padded: bool, *, temperature: float = 1.0, tokens: int = 40
) -> list[SampledOutput]:
    own = policy.passes
    if padded:
        policy.passes = policy.padded_passes()
    try:
        # each state twice: what is alike is read once
        return policy.sample(states(policy) * 2, temperature=temperature, max_new_tokens=tokens, seed=7)
    finally:
        policy.passes = own


def assert_same(one: list[SampledOutput], two: list[SampledOutput], within: float = 1e-5) -> None:
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.token_ids, b.token_ids)
        assert a.token_logprobs == pytest.approx(b.token_logprobs, abs=within)
        assert a.value == pytest.approx(b.value, abs=within)


def test_which_families_have_our_own_passes(checkpoint: Checkpoint) -> None:
    assert isinstance(load_policy(checkpoint("llava")).passes, PackedPasses)
    assert isinstance(load_policy(checkpoint("qwen2_5_vl")).passes, PaddedPasses)
    # without tiles it is a LLaVA-1.5
    single = ModelConfig(name=str(checkpoint("llava_next")), tiles=False)
    assert isinstance(load_policy(checkpoint("llava_next"), single).passes, PackedPasses)
    assert isinstance(load_policy(checkpoint("llava_next")).passes, PaddedPasses)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 2.0])
def test_the_same_samples_under_the_same_seed(policy: Policy, temperature: float) -> None:
    """Prompts of different lengths; at a temperature of 2 rows end at different times and are taken out."""
    ours, theirs = (sampled(policy, padded, temperature=temperature) for padded in (False, True))
    assert_same(ours, theirs)
    assert temperature < 2 or len({len(output.token_ids) for output in ours}) > 1


def test_rows_that_ended_are_taken_out_of_the_cache(policy: Policy) -> None:
    """Where half of the rows have ended, the others go on alone."""
    sizes: list[int] = []
    head = policy.model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    # the end token is likely: rows end one after the other
    with torch.no_grad():
        head.weight[policy.eos_id] *= 3
    ours = sampled(policy, padded=False, temperature=2.0, tokens=60)
    handle.remove()
    lengths = sorted(len(output.token_ids) for output in ours)
    assert lengths[0] < lengths[-1]
    # four different prompts are read, then eight rows are written
    assert sizes[:2] == [4, 8]
    assert sizes[-1] <= 4
    assert len(sizes) == lengths[-1]
    assert_same(ours, sampled(policy, padded=True, temperature=2.0, tokens=60))


def test_with_adapters_and_recomputing(checkpoint: Checkpoint) -> None:
    """Adapters stay in the way of every product, and what is computed again is the same."""
    found = {}
    for recompute in (False, True):
        policy = adapted(checkpoint("llava"), activation_checkpointing=recompute)
        disturb(policy)
        assert_same(*(sampled(policy, padded, tokens=8) for padded in (False, True)))
        found[recompute] = [_gradients(policy, padded) for padded in (False, True)]
    for gradients in (found[False][1], *found[True]):
        assert _distance(found[False][0], gradients) < 1e-4


def test_gradients_of_whole_weights(policy: Policy) -> None:
    for parameter in policy.parameters():
        parameter.requires_grad_(True)
    ours, theirs = (_gradients(policy, padded) for padded in (False, True))
    assert len(ours) > 30
    assert _distance(ours, theirs) < 1e-4


@pytest.mark.parametrize("entropy", ["none", "measured", "learnt"])
def test_scores_are_the_same(policy: Policy, entropy: str) -> None:
    outputs = [[5, 6, policy.eos_id], [7], [8, 9], [5, 6, 6]]
    own = policy.passes
    with torch.no_grad():
        ours = policy.score(states(policy), outputs, temperature=0.5, entropy=entropy)
        policy.passes = policy.padded_passes()
        theirs = policy.score(states(policy), outputs, temperature=0.5, entropy=entropy)
    policy.passes = own
    assert torch.equal(ours.mask, theirs.mask)
    assert (entropy == "none") == (not ours.entropies.any())
    for name in ("token_logprobs", "entropies", "values"):
        assert torch.allclose(getattr(ours, name), getattr(theirs, name), atol=1e-5)


def test_grouped_queries_as_in_mistral() -> None:
    """Four query heads share two of keys, one size of head that is not width / heads; rows of four lengths."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=None,
    )
    model = MistralModel(config).eval()
    decoder = Decoder.of(model)
    assert decoder is not None
    prompts = [np.arange(1, 6), np.arange(10, 13)]
    outputs = [np.array([20, 21, 22]), np.array([30]), np.array([40, 41]), np.array([50])]
    which = [0, 1, 0, 1]
    packed = pack(prompts, which, outputs)
    with torch.no_grad():
        hidden = decoder.run(model.embed_tokens(packed.ids), packed)
        rows = [np.concatenate([prompts[p], o[:-1]]) for p, o in zip(which, outputs, strict=True)]
        right = [
            model(input_ids=torch.from_numpy(row)[None], use_cache=False).last_hidden_state[0, -len(o) :]
            for row, o in zip(rows, outputs, strict=True)
        ]
    assert torch.allclose(hidden[packed.predictors], torch.cat(right), atol=1e-5)


def test_a_decoder_that_does_more_is_left_to_transformers() -> None:
    config = MistralConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, vocab_size=8)
    assert config.sliding_window
    assert Decoder.of(MistralModel(config)) is None
    assert Decoder.of(torch.nn.Linear(2, 2)) is None
    assert Decoder.of(None) is None


def _gradients(policy: Policy, padded: bool) -> dict[str, torch.Tensor]:
    """Of a loss over log-probs and values in which every row has a weight of its own."""
    own = policy.passes
    if padded:
        policy.passes = policy.padded_passes()
    policy.zero_grad()
    outputs = [[5, 6, policy.eos_id], [7], [8, 9], [5, 6, 6]]
    scores = policy.score(states(policy), outputs, temperature=0.5, detach_value=False)
    weights = torch.arange(1.0, 5.0)
    (scores.token_logprobs.sum(1) * weights + scores.values * weights.flip(0)).sum().backward()
    policy.passes = own
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def _distance(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    """Of all gradients together, relative to their length."""
    assert one.keys() == two.keys()
    a, b = (torch.cat([gradient.flatten() for gradient in found.values()]) for found in (one, two))
    return float((a - b).norm() / b.norm())
