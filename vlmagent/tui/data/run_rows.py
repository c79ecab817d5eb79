"""How a run becomes a row of the list: which columns fit, what they say, in which colours.

Deliberately knows no widget: summaries in, texts out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from vlmagent.text import number, percent, sparkline
from vlmagent.tui.data.catalogue import RunSummary
from vlmagent.tui.data.columns import Column, Least
from vlmagent.tui.data.states import state_colour, state_sign
from vlmagent.tui.text import safe_cell, told_apart

# cells: a blank of `DataTable` on either side of each column, and the bar at the right
PADDING, SCROLLBAR = 2, 1
NAME_MIN, NAME_MAX = 12, 48
"""Cells for names where there is room, however short or long they are."""
# cells of a name where there is no room at all
NAME_LEAST = 4
# cells: "100.0 %", and the least of a curve that shows a shape
PERCENT, SHORTEST_CURVE = 7, 4


@dataclass(frozen=True, slots=True)
class Setting:
    """What rows depend on beside their runs: which are marked, the time, the colours of the theme by name, the pins."""

    marked: Collection[str]
    now: float
    colours: Mapping[str, str]
    pinned: Collection[str] = ()


def columns_for(width: int, names: Sequence[str], least: Least | None = None) -> list[tuple[Column, int]]:
    """The columns that fit into ``width`` cells, with their widths.

    Numbers and states are always whole. The run's name comes before everything that can be left out; where not even
    that suffices, the success curve goes (its newest value stays) and then the names are cut, in such a way that they
    can still be told apart.

    Args:
        names: of all runs in the list.
        least: cells that some columns need, by title.
    """
    usual = {name: max(cells, (least or {}).get(_COLUMNS[name].title, 0)) for name, cells in _WIDTHS.items()}
    longest = max((cell_len(name) for name in names), default=NAME_MIN)
    name_width = min(NAME_MAX, max(NAME_MIN, longest))
    widths = {
        "": max(1, (least or {}).get("", 0)),
        "run": name_width,
        **{name: usual[name] for name in ("state", "env steps", "success")},
    }
    for extra in _EXTRAS:
        # the first that does not fit ends it, though a narrower one may follow: the order is that of importance
        if _total({**widths, extra: usual[extra]}) > width:
            break
        widths[extra] = usual[extra]
    left = width - _total(widths)
    # not even the columns that are always there fit: the curve gives first, then the name
    if left < 0:
        widths["success"] = max(PERCENT, widths["success"] + left)
        widths["run"] = max(NAME_LEAST, min(name_width, name_width + width - _total(widths)))
    elif "why" in widths:
        # curve and reason share what is left; a dozen more cells are enough for the curve
        widths["success"] += min(12, left)
        widths["why"] += max(0, left - 12)
    else:
        # a longer curve would say no more: the rest stays empty
        widths["success"] += min(32, left)
    columns = {**_COLUMNS, "run": _name_column(names, widths["run"])}
    return [(columns[name], widths[name]) for name in columns if name in widths]


def _total(widths: Mapping[str, int]) -> int:
    return sum(width + PADDING for width in widths.values()) + SCROLLBAR


def _name_column(names: Sequence[str], width: int) -> Column:
    shown = dict(zip(names, told_apart(names, width), strict=True))
    return Column("run", width, lambda run, _, room: safe_cell(shown[run.name], room, style="bold"))


def age(seconds: float) -> str:
    """A time span in at most seven characters."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        # from two of a unit on: 110 min say more than 2 h
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _mark(run: RunSummary, setting: Setting, width: int) -> Text:
    mark = "▌" if str(run.run) in setting.marked else " "
    # a second cell, which the column gets only where a run is pinned
    pin = "▲" if str(run.run) in setting.pinned else ""
    return Text.assemble((mark, setting.colours["warning"]), (pin, setting.colours["accent"]))


def _state(run: RunSummary, setting: Setting, width: int) -> Text:
    return Text(f"{state_sign(run.state)} {run.state}", style=setting.colours[state_colour(run.state)])


def _steps(run: RunSummary, setting: Setting, width: int) -> Text:
    return _right("–" if run.env_steps is None else f"{run.env_steps:,}", width)


def _success(run: RunSummary, setting: Setting, width: int) -> Text:
    known = [value for value in run.success if not math.isnan(value)]
    if not known:
        return Text("–".rjust(PERCENT), style="dim")
    rate = Text(percent(known[-1]).rjust(PERCENT), style="bold")
    # the newest value alone
    if width < PERCENT + 1 + SHORTEST_CURVE:
        return rate
    curve = sparkline(run.success, width - PERCENT - 1)
    return Text.assemble(rate, " ", (curve, setting.colours["success"]))


def _speed(run: RunSummary, setting: Setting, width: int) -> Text:
    return _right("–" if run.speed is None else number(run.speed), width)


def _age(run: RunSummary, setting: Setting, width: int) -> Text:
    return _right("–" if run.created_at is None else age(setting.now - run.created_at), width)


def _why(run: RunSummary, setting: Setting, width: int) -> Text:
    # the first line is the sentence; what follows are details for the preview
    return safe_cell(run.error.split("\n")[0], width, style=setting.colours["error"])


def _right(text: str, width: int) -> Text:
    return Text(text.rjust(width), no_wrap=True)


_WIDTHS = {
    "state": 10, "env steps": 9, "success": 13, "age": 7, "task": 12, "steps/s": 7, "model": 12, "seed": 5, "why": 24,
}  # fmt: skip
_EXTRAS = ("age", "task", "steps/s", "model", "seed", "why")
"""What is added while there is room, in this order."""


def _column(title: str, fill: Callable[[RunSummary, Setting, int], Text]) -> Column:
    """A blank before the title puts it at the right, where the numbers stand."""
    return Column(title, _WIDTHS.get(title.strip(), 1), fill)


_COLUMNS = {
    column.title.strip(): column
    for column in (
        _column("", _mark),
        _column("state", _state),
        _column("run", _state),  # stands for the place only: the names decide how it is filled
        _column("task", lambda run, _, width: safe_cell(run.task, width)),
        # the last part of a path: the beginning is the same for all models of a machine
        _column("model", lambda run, _, width: safe_cell(run.model.rstrip("/").rsplit("/", 1)[-1], width)),
        _column(" seed", lambda run, _, width: _right("" if run.seed is None else str(run.seed), width)),
        _column(" env steps", _steps),
        _column("success", _success),
        _column(" steps/s", _speed),
        _column(" age", _age),
        _column("why", _why),
    )
}
"""Every column, in the order of the table."""
