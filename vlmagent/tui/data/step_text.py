"""One step in words and numbers: action, reward, log-probs, as parts that a widget colours."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from textual.content import Content

from vlmagent.store.rows import EpisodeRow, RunRow, TransitionRow
from vlmagent.text import number
from vlmagent.tui.text import safe_line

Part = Content | str | tuple[str, str]


def thought_weight(run: RunRow | None) -> float | None:
    """The weight of the thoughts in the run's policy gradient, or None when its config does not say."""
    try:
        return float(json.loads(run.config_json)["ppo"]["thought_weight"]) if run else None
    # a config of another version, or no JSON
    except (KeyError, TypeError, ValueError):
        return None


WIDE = 43
"""Cells that the long labels need."""
_LONG = ("reward", "value", "thoughts", "log p", "return so far", "advantage", "action", "return from here")
_SHORT = ("reward", "value", "thought", "log p", "so far", "adv.", "action", "return")


def step_facts(
    steps: Sequence[TransitionRow], at: int, weight: float | None = None, width: int = WIDE
) -> Content:
    """Step ``at`` as a table of two columns."""
    row = steps[at]
    so_far = sum(step.reward for step in steps[: at + 1])
    numbers = (
        row.reward, row.value, row.thought_logprob, row.logprob,
        so_far, row.advantage, row.action_logprob, row.return_,
    )  # fmt: skip
    # four in the left column, then four in the right one; numbers and names are in the same order
    names = _LONG if width >= WIDE else _SHORT
    cells = [
        (name, "–" if value is None else signed(value)) for name, value in zip(names, numbers, strict=True)
    ]
    gap = "   " if width >= WIDE else "  "
    lines = [Content.assemble(*action_line(row))]
    for left, right in zip(cells[:4], cells[4:], strict=True):
        lines.append(
            Content.assemble(
                *_cell(*left, max(map(len, names[:4]))), gap, *_cell(*right, max(map(len, names[4:])))
            )
        )
    # equation 4.3 of the paper, with the weight that the run was trained with
    if weight is not None and row.logprob is not None:
        lines.append(Content.styled(f"log p = {weight:g} × {names[2]} + action", "$foreground-muted"))
    # the episode was truncated: the critic's value stands for the rewards that would have followed
    if row.bootstrap_value is not None:
        lines.append(
            Content.styled(f"cut off here; V of what follows {signed(row.bootstrap_value)}", "$warning")
        )
    return Content("\n").join(lines)


def _cell(name: str, value: str, width: int) -> list[Part]:
    """A label and a number, aligned."""
    return [(f"{name:<{width}} ", "$foreground-muted"), (f"{value:>7}", "bold")]


def action_line(row: TransitionRow) -> list[Part]:
    """What was done, whether the output said so, and who decided where several could."""
    colour, word, tone = (
        ("success", "legal", "foreground-muted")
        if row.legal_output
        else ("warning", "drawn (illegal)", "warning")
    )
    parts = [
        _label("action"),
        safe_line(row.action, 60, style=f"bold ${colour}"),
        (f"  {word}", f"${tone}"),
    ]
    return [*parts, ("  by ", "$foreground-muted"), safe_line(row.actor, 40)] if row.actor else parts


def outcome(episode: EpisodeRow, length: int | None = None) -> Content:
    """How an episode ended, coloured."""
    if episode.ended == "running":
        return Content.styled(f"◐ unfinished, {length or 0} steps so far", "$primary")
    sign, colour, word = ("✓", "$success", "success") if episode.success else ("✗", "$error", "failure")
    known = math.nan if episode.episode_return is None else episode.episode_return
    facts = " · ".join(filter(None, [f"return {signed(known)}", cut_off(episode.ended)]))
    return Content.assemble((f"{sign} {word}", f"bold {colour}"), f"  {facts}")


def cut_off(ended: str, *, brief: bool = False) -> str:
    """Why an episode stopped without having come to its end; "" for one that did.

    Args:
        ended: as in the store: ``terminated``, ``truncated``, ``lost`` or ``running``.
        brief: in at most seven characters.
    """
    if ended == "truncated":
        return "cut off"
    if ended == "lost":
        return "lost" if brief else "process lost"
    return ""


def signed(value: float) -> str:
    """A number with its sign."""
    # a minus comes by itself; 0 has no sign, and NaN is a dash
    return number(value) if math.isnan(value) or value <= 0 else f"+{number(value)}"


def _label(name: str) -> Part:
    return (f"{name} ", "$foreground-muted")
