"""How a run becomes a row of the list: which columns fit, what they say, in which colours.

Deliberately knows no widget: summaries in, texts out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from vlmagent.text import number, percent, sparkline
from vlmagent.tui.data.catalogue import RunSummary
from vlmagent.tui.data.states import state_colour, state_sign
from vlmagent.tui.text import safe_cell

PADDING, SCROLLBAR = 2, 1
NAME_MIN, NAME_MAX = 12, 48


@dataclass(frozen=True, slots=True)
class Setting:
    """What a row depends on beside its run: the time, the colours of the theme by name."""

    marked: bool
    now: float
    colours: Mapping[str, str]


Fill = Callable[[RunSummary, int, Setting], Text]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, its width in cells, and how a run fills it."""

    title: str
    width: int
    fill: Fill


def columns_for(width: int, names: Sequence[str]) -> list[Column]:
    """The columns that fit into ``width`` cells; the run's name comes first, the success curve gets the rest."""
    longest = max((len(name) for name in names), default=NAME_MIN)
    name_width = min(NAME_MAX, max(NAME_MIN, longest))
    widths = {
        "mark": 1,
        "run": name_width,
        **{name: _WIDTHS[name] for name in ("state", "env steps", "success")},
    }
    for extra in _EXTRAS:
        if _total({**widths, extra: _WIDTHS[extra]}) > width:
            break
        widths[extra] = _WIDTHS[extra]
    left = width - _total(widths)
    if left < 0:
        widths["run"] = max(8, name_width + left)
    elif "why" in widths:
        widths["success"] += min(12, left)
        widths["why"] += max(0, left - 12)
    else:
        widths["success"] += min(32, left)
    order = [name for name in _FILL if name in widths]
    return [Column(_title(name, widths[name]), widths[name], _FILL[name]) for name in order]


def _total(widths: Mapping[str, int]) -> int:
    return sum(width + PADDING for width in widths.values()) + SCROLLBAR


def _title(name: str, width: int) -> str:
    return "" if name == "mark" else name.rjust(width) if name in _RIGHT else name


def row_of(run: RunSummary, columns: Sequence[Column], setting: Setting) -> list[Text]:
    """One text per column."""
    return [column.fill(run, column.width, setting) for column in columns]


def age(seconds: float) -> str:
    """A time span in at most seven characters."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _mark(run: RunSummary, width: int, setting: Setting) -> Text:
    return Text("▌" if setting.marked else " ", style=setting.colours["warning"])


def _state(run: RunSummary, width: int, setting: Setting) -> Text:
    return Text(f"{state_sign(run.state)} {run.state}", style=setting.colours[state_colour(run.state)])


def _name(run: RunSummary, width: int, setting: Setting) -> Text:
    return safe_cell(run.name, width, style="bold")


def _steps(run: RunSummary, width: int, setting: Setting) -> Text:
    if run.env_steps is None:
        return _right("–", width)
    text = f"{run.env_steps:,}"
    return _right(text, width)


def _success(run: RunSummary, width: int, setting: Setting) -> Text:
    known = [value for value in run.success if not math.isnan(value)]
    if not known:
        return Text("–".rjust(7), style="dim")
    return Text.assemble(
        (percent(known[-1]).rjust(7), "bold"),
        " ",
        (sparkline(run.success, max(4, width - 8)), setting.colours["success"]),
    )


def _speed(run: RunSummary, width: int, setting: Setting) -> Text:
    return _right("–" if run.speed is None else number(run.speed), width)


def _age(run: RunSummary, width: int, setting: Setting) -> Text:
    return _right("–" if run.created_at is None else age(setting.now - run.created_at), width)


def _why(run: RunSummary, width: int, setting: Setting) -> Text:
    return safe_cell(run.error.split("\n")[0], width, style=setting.colours["error"])


def _right(text: str, width: int) -> Text:
    return Text(text.rjust(width), no_wrap=True)


_WIDTHS = {
    "state": 10, "env steps": 9, "success": 13, "age": 7, "task": 12, "steps/s": 7, "model": 12, "seed": 5, "why": 24,
}  # fmt: skip
_EXTRAS = ("age", "task", "steps/s", "model", "seed", "why")
_RIGHT = ("env steps", "age", "steps/s", "seed")
_FILL: Mapping[str, Fill] = {
    "mark": _mark,
    "state": _state,
    "run": _name,
    "task": lambda run, width, _: safe_cell(run.task, width),
    "model": lambda run, width, _: safe_cell(run.model.rstrip("/").rsplit("/", 1)[-1], width),
    "seed": lambda run, width, _: _right("" if run.seed is None else str(run.seed), width),
    "env steps": _steps,
    "success": _success,
    "steps/s": _speed,
    "age": _age,
    "why": _why,
}
"""Every column, in the order of the table."""
