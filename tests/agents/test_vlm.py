"""The agent that writes: rescoring in the trainer's batches, with less when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vlmagent.agents.vlm import VlmAgent
from vlmagent.config import ModelConfig
from vlmagent.models.batching import MicroBatcher
from vlmagent.models.hf import build_policy
from vlmagent.models.policy import Policy
from vlmagent.tasks.registry import build_task
from vlmagent.training.sft.samples import corpus
from vlmagent.types import Decision, Observation, Transition

TINY = {"vision_width": 16, "vision_layers": 1, "width": 16, "layers": 1, "heads": 2, "vision_heads": 2}


@pytest.fixture(scope="module")
def policy() -> Policy:
    config = ModelConfig.model_validate({"tiny": TINY, "value_head": [8]})
    return build_policy(config, corpus(build_task("numberline")), seed=3)


def agent(policy: Policy, **options: Any) -> VlmAgent:
    return VlmAgent(
        policy, build_task("numberline"), temperature=1.0, max_new_tokens=6, thought_weight=0.5, **options
    )


def observations(count: int) -> list[Observation]:
    task = build_task("numberline")
    env = task.make_env()
    return [task.observe(*env.reset(seed=seed)) for seed in range(count)]


def acted(agent: VlmAgent, count: int = 5) -> list[Decision]:
    return agent.act(observations(count), [{}] * count, seed=0)


def failing(policy: Policy, rows: int) -> Callable[..., Any]:
    """The policy's own ``score``, for at most so many rows."""
    score = policy.score

    def limited(states: Any, outputs: Any, **options: Any) -> Any:
        if len(states) > rows:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return score(states, outputs, **options)

    return limited


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_rescored_log_probs_belong_to_their_rows(policy: Policy, rows: int) -> None:
    """In float32 they are what generation gave, whatever goes through together, by tokens too."""
    plain = acted(agent(policy))
    for batcher in (MicroBatcher(rows), MicroBatcher(64, max_tokens=rows * 400)):
        again = acted(agent(policy, rescore=True, rescored_together=batcher))
        for one, two in zip(plain, again, strict=True):
            assert one.generation is not None
            assert two.generation is not None
            assert np.array_equal(one.generation.token_ids, two.generation.token_ids)
            assert two.generation.token_logprobs == pytest.approx(one.generation.token_logprobs, abs=1e-4)
            assert two.generation.value == pytest.approx(one.generation.value, abs=1e-4)


def test_rescoring_with_less_when_memory_runs_out(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = acted(agent(policy, rescore=True))
    batcher = MicroBatcher(4)
    monkeypatch.setattr(policy, "score", failing(policy, rows=2))
    found = acted(agent(policy, rescore=True, rescored_together=batcher))
    assert [d.logprob for d in found] == pytest.approx([d.logprob for d in expected], abs=1e-4)
    assert (batcher.max_rows, batcher.shrunk) == (2, 1)


@pytest.mark.parametrize("need", [True, False])
def test_entropies_with_and_without_gradients(policy: Policy, need: bool) -> None:
    writer = agent(policy, entropy="learnt" if need else "measured")
    logged = [
        Transition(i, 1, 0, 0, i, o.image, d, 0.0, False, False, None)
        for i, (o, d) in enumerate(zip(observations(3), acted(writer, 3), strict=True))
    ]
    scores = writer.score(logged)
    assert scores.token_logprobs.requires_grad
    assert scores.entropies.requires_grad == need
    assert (scores.entropies[scores.mask] > 0).all()


def test_on_text_sees_the_first_output_grow(policy: Policy) -> None:
    seen: list[str] = []
    writer = agent(policy)
    writer.on_text = seen.append
    decision = acted(writer, 2)[0]
    assert seen[0] == decision.output[: len(seen[0])]
    assert decision.output in seen
