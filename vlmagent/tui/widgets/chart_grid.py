"""A page of charts that fills the room there is; pages, and one chart alone.

Deliberately knows no run: whoever owns it draws the charts it shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Container
from textual.events import DescendantFocus
from textual.message import Message

from vlmagent.tui.data.metrics import CHARTS
from vlmagent.tui.widgets.chart import Chart

# cells of a chart below which it shows too little; then those from which it is good
MIN_COLUMNS, MIN_ROWS = 36, 8
_GOOD_COLUMNS, _GOOD_ROWS = 40, 12


@dataclass(frozen=True, slots=True)
class Grid:
    """How a page is divided."""

    columns: int
    rows: int
    pages: int


def best_grid(count: int, width: int, height: int) -> Grid:
    """The division of ``width`` x ``height`` cells that needs the fewest pages, then has the best-shaped charts."""
    most_columns, most_rows = max(1, width // MIN_COLUMNS), max(1, height // MIN_ROWS)
    found: list[tuple[int, float, Grid]] = []
    for columns in range(1, min(most_columns, max(count, 1)) + 1):
        rows = min(most_rows, math.ceil(max(count, 1) / columns))
        pages = math.ceil(max(count, 1) / (columns * rows))
        # the scarcer side of a chart, measured by a good one
        shape = min(width / columns / _GOOD_COLUMNS, height / rows / _GOOD_ROWS)
        found.append((pages, -shape, Grid(columns, rows, pages)))
    # by pages and shape only: grids cannot be compared
    return min(found, key=lambda item: item[:2])[2]


class ChartGrid(Container):
    """All charts; only those of the present page are displayed."""

    DEFAULT_CSS = """
    ChartGrid { layout: grid; width: 1fr; height: 1fr; }
    ChartGrid > Chart { width: 1fr; height: 1fr; }
    """

    @dataclass
    class Shown(Message):
        """Other charts are displayed than before, or in another size."""

        grid: ChartGrid

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.charts = {
            spec.key: Chart(spec.title, spec.frame, hint=spec.hint, id=f"chart-{spec.key}") for spec in CHARTS
        }
        self._keys: Sequence[str] = ()
        self._grid = Grid(1, 1, 1)
        self.page = 0
        self.alone: str | None = None

    def compose(self) -> ComposeResult:
        """All charts, none displayed yet."""
        for chart in self.charts.values():
            # until the size is known: `divide` chooses
            chart.display = False
            yield chart

    # -- what is shown

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return 1 if self.alone else self._grid.pages

    @property
    def shown(self) -> list[str]:
        """Keys of the charts on the present page."""
        if self.alone:
            return [self.alone]
        size = self._grid.columns * self._grid.rows
        return list(self._keys[self.page * size : (self.page + 1) * size])

    @property
    def current(self) -> str | None:
        """The chart that has the focus, else the first shown."""
        focused = self.screen.focused
        for key, chart in self.charts.items():
            if chart is focused:
                return key
        return self.shown[0] if self.shown else None

    def choose(self, keys: Sequence[str]) -> None:
        """Which charts there are, in order."""
        if list(keys) != list(self._keys):
            self._keys, self.page = list(keys), 0
            # the charts of the other phase: the lone one is not among them
            if self.alone not in keys:
                self.alone = None
            self.divide()

    def turn(self, pages: int) -> None:
        """Show a later (or, negative, an earlier) page, around the end. A lone chart gives way to the next."""
        if self.alone:
            keys = list(self._keys)
            self.alone = keys[(keys.index(self.alone) + pages) % len(keys)]
        elif self.pages > 1:
            self.page = (self.page + pages) % self.pages
        self.divide(refocus=True)

    def toggle_alone(self) -> None:
        """Show the present chart alone, or all of them again."""
        before = self.alone
        self.alone = None if before else self.current
        # back to the page of the chart that was alone: it may have been turned to from another page
        if before in self._keys:
            self.page = self._keys.index(before) // (self._grid.columns * self._grid.rows)
        self.divide(refocus=True, focus=before)

    def step(self, columns: int, rows: int) -> None:
        """Move the focus to a neighbour on this page."""
        shown, current = self.shown, self.current
        if current not in shown:
            return
        place = shown.index(current) + columns + rows * self._grid.columns
        if 0 <= place < len(shown):
            self.charts[shown[place]].focus()

    def divide(self, *, refocus: bool = False, focus: str | None = None) -> None:
        """Divide the room and display the present page."""
        width, height = self.size
        # before the first layout
        if not (width and height):
            return
        # asked first: a chart that is hidden loses the focus
        had_focus = any(chart.has_focus for chart in self.charts.values())
        self._grid = best_grid(len(self._keys), width, height)
        # a larger terminal has fewer pages
        self.page = min(self.page, self._grid.pages - 1)
        shown = self.shown
        columns = 1 if self.alone else self._grid.columns
        self.styles.grid_size_columns = columns
        self.styles.grid_size_rows = max(1, math.ceil(len(shown) / columns))
        for key, chart in self.charts.items():
            chart.display = key in shown
        if (refocus or had_focus) and shown and self.current not in shown:
            self.charts[focus if focus in shown else shown[0]].focus()
        elif focus in shown and focus:
            self.charts[focus].focus()
        self.post_message(self.Shown(self))

    # -- events

    def on_resize(self) -> None:
        self.divide()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """A chart got the focus: whoever owns the grid may want to say more about it."""
        self.post_message(self.Shown(self))
