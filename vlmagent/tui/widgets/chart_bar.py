"""The line above the charts: the crosshair's place, the legend of overlaid runs, the settings, the page.

Deliberately reads nothing: it is handed what the charts show.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from vlmagent.tui.data.curves import AXIS_NAMES, Look, Points
from vlmagent.tui.data.live import LiveRun
from vlmagent.tui.text import safe_line, told_apart
from vlmagent.tui.widgets.chart_grid import ChartGrid
from vlmagent.tui.widgets.steady import Steady

QUIET = "$foreground-muted"
SETTINGS_WIDTH = 44
"""Cells left for place, settings and page before the names of runs get the rest."""
Part = Content | tuple[str, str]


class ChartBar(Steady):
    """Place, legend and settings on one line."""

    DEFAULT_CSS = """
    ChartBar { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def show(
        self, grid: ChartGrid, lives: Sequence[LiveRun], look: Look, points: Points, cursor: int | None
    ) -> None:
        """Show how the charts of a grid are drawn.

        Args:
            lives: the runs whose curves they show, the present one first.
            points: where the crosshair can stand; without updates they are samples of the supervised start.
            cursor: index of the point it stands at, None without a crosshair.
        """
        parts = [] if cursor is None else _place(points, cursor)
        if len(lives) > 1:
            parts += _legend(grid, lives)
        sft = points.updates is None
        parts.append((f"x {'samples' if sft else AXIS_NAMES[look.axis]}", QUIET))
        parts += [(f" · {setting}", QUIET) for setting in _settings(look, cursor is not None)]
        if grid.pages > 1:
            parts.append((f" · page {grid.page + 1}/{grid.pages}", QUIET))
        self.say(Content.assemble(*parts))


def _place(points: Points, cursor: int) -> list[Part]:
    """Where the crosshair stands; the sign of enter where that opens the episodes of an update."""
    if points.updates is None:
        return [(f"┃ {points.x[cursor]:,.0f} samples", "bold"), ("  ", QUIET)]
    return [(f"┃ update {points.updates[cursor]}", "bold"), (" ⏎  ", QUIET)]


def _legend(grid: ChartGrid, lives: Sequence[LiveRun]) -> list[Part]:
    room = max(8, (grid.size.width - SETTINGS_WIDTH) // len(lives))
    parts: list[Part] = []
    for number, name in enumerate(told_apart([live.run.name for live in lives], room)):
        # all charts have the same colours; any one can be asked
        colour = grid.charts["success"].get_component_styles(f"chart--line-{number}").color
        parts += [("━ ", colour.hex), safe_line(name, room), Content("  ")]
    return parts


def _settings(look: Look, at_crosshair: bool) -> list[str]:
    """Those that are not as usual."""
    found = []
    if look.smoothing:
        found.append(f"smooth {look.smoothing:g}")
    if look.log:
        found.append("log")
    if look.zoom < 1:
        share = f"{100 * look.zoom:g} %"
        found.append(share if at_crosshair else f"last {share}")
    return found
