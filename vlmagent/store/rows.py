"""What the reader returns: one frozen dataclass per table, with the columns' names.

Deliberately knows no SQL. Where SQLite holds NULL for a number that is always measured (a metric, a reward),
the field is NaN; where a number may be absent (no value head, an episode still running), it is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vlmagent.types import Ended, Split

RunStatus = Literal["starting", "running", "stopped", "done", "failed"]


@dataclass(frozen=True, slots=True)
class RunRow:
    """The run itself. Times are unix seconds."""

    id: str
    task: str
    model: str
    status: RunStatus
    config_json: str
    seed: int
    created_at: float
    heartbeat_at: float
    finished_at: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """One episode; ``length``, ``episode_return``, ``success`` and ``goal`` are known once it has ended.

    Attributes:
        update_index: update of its last transition.
        illegal: how many of its outputs named no legal action.
    """

    id: int
    split: Split
    env_index: int
    seed: int
    length: int | None
    episode_return: float | None
    success: bool | None
    goal: bool | None
    ended: Ended
    update_index: int | None
    illegal: int | None


@dataclass(frozen=True, slots=True)
class TransitionRow:
    """One environment step; ``token_ids`` int64 (L,) and ``token_logprobs`` float32 (L,) or None.

    Attributes:
        actor: who chose the action (see ``types.Decision``); None in runs with a single agent.
    """

    id: int
    episode_id: int
    update_index: int
    env_index: int
    step: int
    image_sha256: str
    prompt: str
    output: str
    thoughts: str
    action_text: str
    action: str
    legal_output: bool
    reward: float
    terminated: bool
    truncated: bool
    value: float | None
    bootstrap_value: float | None
    logprob: float | None
    thought_logprob: float | None
    action_logprob: float | None
    token_ids: NDArray[np.int64] | None
    token_logprobs: NDArray[np.float32] | None
    action_start: int | None
    advantage: float | None
    return_: float | None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One measured number. ``id`` grows with every write, also when a re-done update replaces a row."""

    id: int
    update_index: int
    env_steps: int
    name: str
    value: float
    at: float


@dataclass(frozen=True, slots=True)
class EventRow:
    """One line of the run's log. ``level``: info, warning, error or phase."""

    id: int
    at: float
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One checkpoint on disk; ``path`` as the trainer gave it."""

    id: int
    env_steps: int
    path: str
    at: float


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What one request to an API came to.

    Attributes:
        key: digest of what was asked; the same question of another step has another key.
        text: the model's text, also of a refusal; "" when there was an error.
        refusal: whether the model, or its provider's filter, declined to answer.
        input_tokens, output_tokens: as the API counted them, None when it did not say.
        cost: in US dollars, attempts that failed included; 0 where no price is known.
        attempts: requests sent for it.
        error: why there is no answer, or None.
    """

    key: str
    text: str
    refusal: bool
    finish_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float
    attempts: int
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One evaluated system; rates are fractions. ``more`` holds all that was measured, columns included."""

    id: int
    at: float
    task: str | None
    system: str | None
    rule_set: str | None
    checkpoint: str | None
    env_steps: int | None
    episodes: int | None
    success: float | None
    success_low: float | None
    success_high: float | None
    mean_return: float | None
    return_low: float | None
    return_high: float | None
    legal_rate: float | None
    goal_rate: float | None
    seed: int | None
    temperature: float | None
    more: Mapping[str, Any]
