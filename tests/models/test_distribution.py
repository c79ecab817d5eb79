"""The one distribution: what is drawn from it, and the log-probs of what was drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.test_families import states
from vlmagent.models.distribution import Draw, banned_mask, entropies, tempered
from vlmagent.models.hf import load_policy

Checkpoint = Callable[[str], Path]
CPU = torch.device("cpu")


def test_tempered() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.bfloat16)
    mask = banned_mask([1], 3, logits.device)
    assert tempered(logits, mask, 0.5).tolist() == [[2.0, -torch.inf, 6.0]]
    assert tempered(logits, mask, 0.0).tolist() == [[1.0, -torch.inf, 3.0]]
    assert tempered(logits, mask, 1.0).dtype == torch.float32


def test_entropy_of_what_is_allowed() -> None:
    mask = banned_mask([1], 3, CPU)
    logprobs = tempered(torch.tensor([[4.0, 9.0, 4.0], [0.0, 0.0, -1e9]]), mask, 1.0).log_softmax(-1)
    assert entropies(logprobs, mask).tolist() == pytest.approx([np.log(2), 0.0])


def test_tokens_come_as_often_as_they_are_likely() -> None:
    """Within five standard deviations over 40,000 draws; the banned one never."""
    rows = 40_000
    draw = Draw([2], 0.5, rows, 1, seed=3, device=CPU)
    logits = torch.tensor([0.0, 0.5, 9.0, -1.0, 0.0]).log_softmax(0)
    tokens, logprobs = draw(logits.expand(rows, -1), 0)
    right = (2 * logits).masked_fill(torch.tensor([0, 0, 1, 0, 0]).bool(), -torch.inf).softmax(0)
    shares = torch.bincount(tokens, minlength=5) / rows
    assert shares[2] == 0
    assert ((shares - right).abs() <= 5 * (right * (1 - right) / rows).sqrt()).all()
    assert logprobs.exp() == pytest.approx(right[tokens], abs=1e-6)


def test_a_row_draws_the_same_whoever_is_beside_it() -> None:
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    draw = Draw([], 1.0, 6, 4, seed=8, device=CPU)
    everyone = draw(logits, 3)[0]
    some = torch.tensor([4, 1])
    assert draw(logits[some], 3, some)[0].tolist() == everyone[some].tolist()
    assert Draw([], 1.0, 6, 4, seed=9, device=CPU)(logits, 3)[0].tolist() != everyone.tolist()


def test_numbers_at_both_ends_draw_allowed_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 takes the first token that is allowed, a number just below 1 the last, however probabilities were rounded."""
    ends = torch.tensor([[0.0], [1 - 2.0**-53]], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: ends)
    logits = torch.randn(2, 5000, generator=torch.Generator().manual_seed(1))
    draw = Draw([0, 1, 4999], 1.0, 2, 1, seed=0, device=CPU)
    assert draw(logits, 0)[0].tolist() == [2, 4998]


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_what_is_written_follows_from_the_networks_own_logits(
    family: str, temperature: float, checkpoint: Checkpoint
) -> None:
    """One row at a time through transformers' forward pass, without a cache: the same tokens, log-probs to 1e-5."""
    policy = load_policy(checkpoint(family))
    encoded = states(policy)
    sampled = policy.sample(encoded, temperature=temperature, max_new_tokens=12, seed=5)
    # the numbers that are drawn with: a row of them for each state
    numbers = torch.rand((len(encoded), 12), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for row, (state, output) in enumerate(zip(encoded, sampled, strict=True)):
        for place, (token, logprob) in enumerate(zip(output.token_ids, output.token_logprobs, strict=True)):
            inputs = policy.family.inputs(
                policy.model, [state], [output.token_ids[:place].tolist()], policy.pad_id, policy.features
            )
            with (
                torch.no_grad(),
                policy.family.serving(policy.model, [state], policy.features),
            ):
                logits = policy.model(**inputs, use_cache=False).logits[0, -1].double()
            logits[policy.banned] = -torch.inf
            right = (logits / (temperature or 1.0)).log_softmax(-1)
            assert logprob == pytest.approx(float(right[token]), abs=1e-5)
            below = right.exp().cumsum(0)
            if temperature:
                assert token == int(torch.searchsorted(below, numbers[row, place], right=True))
            else:
                assert token == int(right.argmax())
