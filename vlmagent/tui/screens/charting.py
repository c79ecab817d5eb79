"""The charts of a screen that follows runs: how they are drawn, the crosshair, the keys for both.

Deliberately knows nothing of the panes beside them, nor of when there is something new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from textual import on

from vlmagent.paths import Run
from vlmagent.tui.data.curves import Look, Points, lines_of, points_of, span_x
from vlmagent.tui.data.drawing import LINE_STYLES
from vlmagent.tui.data.live import LiveRun
from vlmagent.tui.data.metrics import BY_KEY, RL_KEYS, SFT_KEYS
from vlmagent.tui.messages import LogScale
from vlmagent.tui.screens.polling import PollingScreen
from vlmagent.tui.widgets.chart import Chart
from vlmagent.tui.widgets.chart_bar import ChartBar
from vlmagent.tui.widgets.chart_grid import ChartGrid

# a colour for each run, one of them the run's own
MOST_OVERLAYS = LINE_STYLES - 1


class ChartingScreen(PollingScreen[None]):
    """Has a ``ChartGrid`` and a ``ChartBar`` that show the curves of some runs.

    Args:
        run: the run's folder.
        overlays: folders of runs to compare its curves with.
        look: how the curves are drawn at first.
    """

    def __init__(self, run: Run, overlays: Sequence[Run] = (), look: Look | None = None) -> None:
        super().__init__()
        self.live = LiveRun(run)
        self.overlays = [LiveRun(path) for path in overlays[:MOST_OVERLAYS]]
        self.look = look or Look()
        self.sft = False
        self.cursor: int | None = None
        self._chosen_phase = False

    def on_unmount(self) -> None:
        for live in self.lives:
            live.close()

    @property
    def lives(self) -> list[LiveRun]:
        """The run and those laid over it."""
        return [self.live, *self.overlays]

    @property
    def grid(self) -> ChartGrid:
        """The charts."""
        return self.query_one(ChartGrid)

    @property
    def points(self) -> Points:
        """Where the crosshair can stand."""
        return points_of(self.live, self.look, self.sft)

    @property
    def update_index(self) -> int | None:
        """The update under the crosshair."""
        updates = self.points.updates
        return None if self.cursor is None or not updates else updates[self.cursor]

    # -- drawing

    def _choose_phase(self) -> None:
        """The charts of the phase the run is in, until the user chooses."""
        if not self._chosen_phase:
            series = self.live.series
            # RL has begun as soon as it has a metric; until then its charts would be empty
            self.sft = "sft/loss" in series and not any(name.startswith("rollout/") for name in series)
        self._apply_phase()

    def _apply_phase(self) -> None:
        keys = SFT_KEYS if self.sft else RL_KEYS
        # these charts are in sight already, on whichever page: the crosshair stays
        if any(name in keys for name in self.grid.shown):
            self.grid.choose(keys)
            return
        self.cursor = None
        focused = self.focused
        self.grid.choose(keys)
        if isinstance(focused, Chart) and not focused.display:
            self.grid.charts[keys[0]].focus()

    @on(ChartGrid.Shown)
    def _draw(self) -> None:
        """All charts in sight, and the line above them."""
        look, lives = self.look, self.lives
        points = self.points
        # another run took the place of this one, or the other phase has fewer points
        if self.cursor is not None and self.cursor >= len(points.x):
            self.cursor = None
        cursor = None if self.cursor is None else float(points.x[self.cursor])
        span = span_x(lives, look, self.sft, cursor)
        for name in self.grid.shown:
            spec = BY_KEY[name]
            lines = lines_of(spec, lives, look)
            self.grid.charts[name].draw(lines, span, cursor, log=look.log and spec.can_log)
        self._draw_bar()

    def _draw_bar(self) -> None:
        self.query_one(ChartBar).show(self.grid, self.lives, self.look, self.points, self.cursor)

    @on(Chart.Moved)
    def _move_cursor(self, event: Chart.Moved) -> None:
        points = self.points
        place = points.nearest(event.x) if event.x is not None else points.moved(self.cursor, event.steps)
        if place is not None and place != self.cursor:
            self.cursor = place
            self._cursor_moved(points)

    def _cursor_moved(self, points: Points) -> None:
        if self.look.zoom < 1:
            self._draw()
            return
        cursor = None if self.cursor is None else float(points.x[self.cursor])
        for name in self.grid.shown:
            self.grid.charts[name].move_cursor(cursor)
        self._draw_bar()

    def action_smooth(self) -> None:
        self._draw_as(self.look.next_smoothing())

    def action_axis(self) -> None:
        self._draw_as(self.look.next_axis())

    def action_log(self) -> None:
        self._draw_as(replace(self.look, log=not self.look.log))
        # the next run that is opened has the same scale
        self.post_message(LogScale(self.look.log))

    def action_zoom(self, steps: int) -> None:
        self._draw_as(self.look.zoomed(steps))

    def _draw_as(self, look: Look) -> None:
        self.look = look
        self._draw()

    def action_phase(self) -> None:
        self.sft = not self.sft
        self._chosen_phase = True
        self._apply_phase()

    def action_alone(self) -> None:
        self.grid.toggle_alone()

    def action_page(self, pages: int) -> None:
        self.grid.turn(pages)

    def action_step(self, columns: int, rows: int) -> None:
        self.grid.step(columns, rows)
