"""Records to write, for the tests of the store."""

from __future__ import annotations

from typing import Any

import numpy as np

from vlmagent.types import Decision, Generation, ParsedAction, Transition


def picture(seed: int, size: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size + 2, 3), dtype=np.uint8)


def step(id_: int, *, output: str = '{"action": "+"}', tokens: int = 5, **over: Any) -> Transition:
    rng = np.random.default_rng(id_)
    generation = Generation(
        text=output,
        token_ids=rng.integers(0, 500, tokens),
        token_logprobs=-rng.exponential(size=tokens).astype(np.float32),
        action_start=2,
        value=0.25,
    )
    decision = Decision(
        prompt=over.pop("prompt", "You are ..."),
        output=output,
        thoughts=over.pop("thoughts", "3 < 5"),
        parsed=ParsedAction("+", over.pop("legal", True), "+", (0, 5)),
        logprob=-1.5,
        thought_logprob=-2.0,
        action_logprob=-0.5,
        generation=over.pop("generation", generation),
    )
    values: dict[str, Any] = {
        "id": id_, "episode_id": 1, "update_index": 0, "env_index": 0, "step": id_ - 1,
        "image": picture(id_ % 3), "decision": decision, "reward": -1.0,
        "terminated": False, "truncated": False, "value": 0.25,
    }  # fmt: skip
    return Transition(**{**values, **over})
