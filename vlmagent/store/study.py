"""What tables and figures ask of a run database: the training curve, sums of log-probs, how long it took.

Deliberately knows nothing of tables and figures; reads through an open ``StoreReader``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vlmagent.store.reader import StoreReader
from vlmagent.types import Split


@dataclass(frozen=True, slots=True)
class EndedEpisode:
    """A finished episode: the environment steps of the run when it ended, whether it succeeded, its return."""

    env_steps: int
    success: bool
    episode_return: float


@dataclass(frozen=True, slots=True)
class LogprobSums:
    """Means over ``samples`` outputs of the sums of their thought and action tokens' log-probs, in nats."""

    thought: float
    action: float
    samples: int


def ended_episodes(
    reader: StoreReader, split: Split = "train", updates: tuple[int, int] | None = None
) -> list[EndedEpisode]:
    """All finished episodes in the order in which they ended.

    Args:
        updates: first and last update, both included, in which they ended; None for all.
    """
    # ids of transitions count environment steps, so the last one of an episode is the step at which it ended. Episodes
    # without transitions in this database have no such step
    within, values = ("update_index BETWEEN ? AND ?", updates) if updates else ("true", ())
    rows = reader.query(
        "SELECT (SELECT max(id) FROM transitions WHERE episode_id = episodes.id) AS last, success, episode_return "
        f"FROM episodes WHERE ended NOT IN ('running', 'lost') AND {within} AND split = ? AND last IS NOT NULL "
        "ORDER BY last",
        (*values, split),
    )
    return [EndedEpisode(int(last), bool(success), float(return_ or 0.0)) for last, success, return_ in rows]


def logprob_sums(reader: StoreReader, samples: int) -> LogprobSums | None:
    """Over the first ``samples`` outputs that have log-probs; None when there are none."""
    # by id: every call, and every run of one recipe, takes the same ones
    thought, action, count = reader.query(
        "SELECT avg(thought_logprob), avg(action_logprob), count(*) FROM (SELECT thought_logprob, action_logprob "
        "FROM transitions WHERE thought_logprob IS NOT NULL AND action_logprob IS NOT NULL ORDER BY id LIMIT ?)",
        (samples,),
    )[0]
    return LogprobSums(thought, action, count) if count else None


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds a run worked: on its supervised start, and on its updates. NaN where nothing was measured.

    Attributes:
        sft_samples: those between the first and the last measurement, which ``sft`` seconds lie between.
    """

    sft: float
    updates: float
    sft_samples: int
    env_steps: int


def durations(reader: StoreReader) -> Durations:
    """How long a run worked, pauses between its processes left out (but for one during the supervised start)."""
    # a metric's time is when it was written: seconds between the first and the last measurement
    first, last, samples = reader.query(
        "SELECT min(at), max(at), max(value) - min(value) FROM metrics WHERE name = 'sft/samples'"
    )[0]
    seconds, steps = reader.query(
        # seconds that were measured inside the updates, so that a night between two processes does not count
        "SELECT sum(value), max(env_steps) FROM metrics WHERE name IN ('time/collect_seconds', 'time/update_seconds')"
    )[0]
    return Durations(
        sft=math.nan if first is None else float(last - first),
        updates=math.nan if seconds is None else float(seconds),
        sft_samples=int(samples or 0),
        env_steps=int(steps or 0),
    )
