"""The numbers of one step in words: action, reward, value, advantage, the three log-probs.

Deliberately reads nothing: it is handed rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from vlmagent.store.rows import EpisodeRow, RunRow, TransitionRow
from vlmagent.tui.text import safe_line
from vlmagent.words import number

Part = Content | str | tuple[str, str]


class StepFacts(Static):
    """A small table of the step shown."""

    DEFAULT_CSS = """
    StepFacts { height: auto; width: 1fr; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__("", id=id, classes=classes, markup=False)


def thought_weight(run: RunRow | None) -> float | None:
    """The weight of the thoughts in the run's policy gradient, or None when its config does not say."""
    try:
        return float(json.loads(run.config_json)["ppo"]["thought_weight"]) if run else None
    except (KeyError, TypeError, ValueError):
        return None


def step_facts(steps: Sequence[TransitionRow], at: int, weight: float | None = None) -> Content:
    """Six short lines on step ``at``."""
    row = steps[at]
    so_far = sum(step.reward for step in steps[: at + 1])
    total = "log p" if weight is None else f"log p = {weight:g} × thoughts + action"
    lines: list[list[Part]] = [
        action_line(row),
        _pair("reward", signed(row.reward), "return so far", signed(so_far)),
        _pair("value", _signed(row.value), "advantage", _signed(row.advantage)),
        _pair("return from here", _signed(row.return_), "", ""),
        [_label(total), (_signed(row.logprob), "bold")],
        _pair("thoughts", _signed(row.thought_logprob), "action", _signed(row.action_logprob)),
    ]
    if row.bootstrap_value is not None:
        lines[3] = _pair(
            "return from here", _signed(row.return_), "V at the cut", signed(row.bootstrap_value)
        )
    return Content("\n").join(Content.assemble(*line) for line in lines)


def action_line(row: TransitionRow) -> list[Part]:
    """What was done, and whether the output said so."""
    if row.legal_output:
        return [
            _label("action"),
            safe_line(row.action, 60, style="bold $success"),
            ("  legal", "$text-muted"),
        ]
    return [
        _label("action"),
        safe_line(row.action, 60, style="bold $warning"),
        ("  drawn: illegal output", "$warning"),
    ]


def outcome(episode: EpisodeRow, length: int | None = None) -> Content:
    """How an episode ended, coloured."""
    if episode.ended == "running":
        return Content.styled(f"◐ running, {length or 0} steps so far", "$primary")
    sign, colour, word = ("✓", "$success", "success") if episode.success else ("✗", "$error", "failure")
    known = math.nan if episode.episode_return is None else episode.episode_return
    cut = " · cut off" if episode.ended == "truncated" else ""
    return Content.assemble((f"{sign} {word}", f"bold {colour}"), (f"  return {signed(known)}{cut}", ""))


def signed(value: float) -> str:
    """A number with its sign."""
    return number(value) if math.isnan(value) or value <= 0 else f"+{number(value)}"


def _signed(value: float | None) -> str:
    return "–" if value is None else signed(value)


def _label(name: str) -> Part:
    return (f"{name} ", "$text-muted")


def _pair(left: str, first: str, right: str, second: str) -> list[Part]:
    """Two labelled numbers on one line."""
    parts: list[Part] = [_label(left), (first, "bold")]
    if right:
        gap = max(2, 22 - len(left) - 1 - len(first))
        parts += [" " * gap, _label(right), (second, "bold")]
    return parts
