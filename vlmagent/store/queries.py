"""What every query of the store is made of: columns, builders of rows, filters."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

from vlmagent.store import codec
from vlmagent.store.rows import AnswerRow, EpisodeRow, EvaluationRow, MetricRow, RunRow, TransitionRow

# The columns a row type asks for, in the order of its fields: builders below take them back by position.
TRANSITION = ", ".join(name for name in TransitionRow.__dataclass_fields__)
EPISODE = ", ".join(name for name in EpisodeRow.__dataclass_fields__)
METRIC = ", ".join(name for name in MetricRow.__dataclass_fields__)
RUN = ", ".join(name for name in RunRow.__dataclass_fields__)
ANSWER = ", ".join(name for name in AnswerRow.__dataclass_fields__)
# `more` is no column: it is the JSON document, which queries ask for last
EVALUATION = ", ".join(name for name in EvaluationRow.__dataclass_fields__ if name != "more")


EpisodeOrder = Literal["newest", "oldest", "lowest return", "longest"]
EPISODE_ORDERS: dict[EpisodeOrder, tuple[str, str]] = {
    "newest": ("id", "DESC"),
    "oldest": ("id", "ASC"),
    "lowest return": ("episode_return", "ASC"),
    "longest": ("length", "DESC"),
}
"""By which column episodes are sorted, and which way; equals by their ids, the same way."""


def number_or_nan(value: float | None) -> float:
    """A number as it was before SQLite, which keeps NaN as NULL."""
    return math.nan if value is None else float(value)


def metric_row(
    id_: int, update_index: int, env_steps: int, name: str, value: float | None, at: float
) -> MetricRow:
    """A row of ``METRIC``. NULL, which is how SQLite keeps NaN, becomes NaN again."""
    return MetricRow(id_, update_index, env_steps, name, number_or_nan(value), at)


def episode_row(*values: Any) -> EpisodeRow:
    """A row of ``EPISODE``; SQLite keeps truth values as 0 and 1."""
    row = dict(zip(EpisodeRow.__dataclass_fields__, values, strict=True))
    for name in ("success", "goal"):
        row[name] = None if row[name] is None else bool(row[name])
    return EpisodeRow(**row)


def transition_row(*values: Any) -> TransitionRow:
    """A row of ``TRANSITION``, tokens decoded."""
    row = dict(zip(TransitionRow.__dataclass_fields__, values, strict=True))
    for name in ("legal_output", "terminated", "truncated"):
        row[name] = bool(row[name])
    row["reward"] = number_or_nan(row["reward"])
    row["token_ids"] = row["token_ids"] and codec.decode_ints(row["token_ids"])
    row["token_logprobs"] = row["token_logprobs"] and codec.decode_floats(row["token_logprobs"])
    return TransitionRow(**row)


def answer_row(*values: Any) -> AnswerRow:
    """A row of ``ANSWER``."""
    row = dict(zip(AnswerRow.__dataclass_fields__, values, strict=True))
    return AnswerRow(**{**row, "text": row["text"] or "", "refusal": bool(row["refusal"])})


def evaluation_row(*values: Any) -> EvaluationRow:
    """A row of ``EVALUATION`` and the JSON of what has no column."""
    row = dict(zip(EvaluationRow.__dataclass_fields__, values, strict=True))
    return EvaluationRow(**{**row, "more": json.loads(row["more"])})


def episode_filter(
    split: str | None = None,
    success: bool | None = None,
    ended: str | None = None,
    illegal: bool | None = None,
    updates: tuple[int, int] | None = None,
    *,
    finished: bool = False,
) -> tuple[str, list[Any]]:
    """The condition that episodes pass, to stand behind WHERE, and its values.

    Args:
        illegal: whether an output named no legal action.
        updates: first and last update, both included, in which an episode may have ended.
        finished: leave out those that are still going on.
    """
    # `true`, below, where no condition was given: something must stand behind WHERE
    parts: list[str] = ["ended <> 'running'"] if finished else []
    values: list[Any] = []
    for column, value in (("split", split), ("success", success), ("ended", ended)):
        if value is not None:
            parts.append(f"{column} = ?")
            values.append(value)
    if illegal is not None:
        # NULL (an episode that still runs) passes neither
        parts.append("illegal > 0" if illegal else "illegal = 0")
    if updates is not None:
        parts.append("update_index BETWEEN ? AND ?")
        values += updates
    return " AND ".join(parts) or "true", values


def fts_query(text: str) -> str:
    """``text`` in FTS5's syntax, every word quoted, so that no character of it is an operator."""
    phrases: list[str] = []
    # split at quotes: parts with odd numbers stood inside a pair and stay one phrase, the others are single words
    for number, part in enumerate(codec.clean_text(text).replace("\0", " ").split('"')):
        words = [part] if number % 2 else part.split()
        # punctuation alone holds no token that could be found
        phrases += [word for word in words if any(character.isalnum() for character in word)]
    quoted = [f'"{phrase}"' for phrase in phrases]
    if quoted and not text.rstrip().endswith('"'):
        # typed so far: without a closing quote the last word may be going on, `*` makes it a beginning
        quoted[-1] += "*"
    return " ".join(quoted)
