"""The one distribution, and the log-probs of chosen tokens: as from all scores, at the memory of one step."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from tests.models.test_families import states
from vlmagent.models.distribution import ChosenLogprobs, banned_mask, tempered
from vlmagent.models.hf import load_policy

Checkpoint = Callable[[str], Path]


def test_tempered() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.bfloat16)
    mask = banned_mask([1], 3, logits.device)
    assert tempered(logits, mask, 0.5).tolist() == [[2.0, -torch.inf, 6.0]]
    assert tempered(logits, mask, 0.0).tolist() == [[1.0, -torch.inf, 3.0]]
    assert tempered(logits, mask, 1.0).dtype == torch.float32


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_as_from_all_scores(family: str, temperature: float, checkpoint: Checkpoint) -> None:
    """transformers' own processors and ``output_scores`` give the same tokens under the same seed, to 1e-6."""
    policy = load_policy(checkpoint(family))
    encoded = states(policy)
    sampled = policy.sample(encoded, temperature=temperature, max_new_tokens=12, seed=5)
    inputs = policy.inputs(encoded, [])
    inputs.pop("position_ids", None)
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    policy.model.generation_config = GenerationConfig()
    with policy.family.serving(policy.model, encoded, policy.features), torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        out = policy.model.generate(
            **inputs,
            max_new_tokens=12,
            suppress_tokens=policy.banned,
            eos_token_id=policy.end_ids,
            pad_token_id=policy.pad_id,
            output_scores=True,
            return_dict_in_generate=True,
            **(sampling if temperature else {"do_sample": False}),
        )
    ids = out.sequences[:, -len(out.scores) :]
    table = torch.stack([scores.log_softmax(-1) for scores in out.scores], 1).gather(2, ids[..., None])[
        ..., 0
    ]
    for row, output in enumerate(sampled):
        length = len(output.token_ids)
        assert np.array_equal(output.token_ids, ids[row, :length].numpy())
        assert output.token_logprobs == pytest.approx(table[row, :length].numpy(), abs=1e-6)


def test_what_is_kept_does_not_grow_with_the_vocabulary() -> None:
    """One number a token: no step's scores outlive the step."""
    chosen = ChosenLogprobs([3], 0.7, prompt=2)
    ids = torch.zeros((4, 2), dtype=torch.long)
    tables = []
    for _ in range(5):
        scores = chosen.warp(ids, torch.randn(4, 300))
        ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], 1)
        tables.append(weakref.ref(scores))
        del scores
        assert not chosen.look(ids, None).any()
        assert [table() for table in tables] == [None] * len(tables)
    assert chosen.table().shape == (4, 5)
    assert (chosen.table() < 0).all()


def test_on_tokens_sees_what_is_written() -> None:
    seen: list[list[list[int]]] = []
    chosen = ChosenLogprobs([], 1.0, prompt=1, on_tokens=lambda ids: seen.append(ids.tolist()))
    ids = torch.tensor([[7], [8]])
    for token in (1, 2):
        chosen.warp(ids, torch.zeros(2, 4))
        ids = torch.cat([ids, torch.full((2, 1), token)], 1)
        chosen.look(ids, None)
    assert seen == [[[1], [1]], [[1, 2], [1, 2]]]
    assert chosen.table().tolist() == [pytest.approx([-1.386294, -1.386294])] * 2
