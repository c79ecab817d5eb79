"""One run, live: its curves, its progress, its newest step, its events.

Deliberately knows no SQL: ``LiveRun`` reads, the widgets draw. Asks twice a second for what is new and draws
only what changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical
from textual.css.query import NoMatches
from textual.widgets import Footer, Static

from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.tui.data.catalogue import Catalogue
from vlmagent.tui.data.curves import Look
from vlmagent.tui.data.live import Change, LiveRun
from vlmagent.tui.data.metrics import RL_KEYS
from vlmagent.tui.keys import key
from vlmagent.tui.messages import OpenCompare, OpenEpisodes, OpenReplay
from vlmagent.tui.screens.charting import MOST_OVERLAYS
from vlmagent.tui.screens.confirm import stop_run
from vlmagent.tui.screens.panes import PanesScreen
from vlmagent.tui.screens.pick import PickRunsScreen
from vlmagent.tui.text import safe_line
from vlmagent.tui.widgets.chart import Chart
from vlmagent.tui.widgets.chart_bar import ChartBar
from vlmagent.tui.widgets.chart_grid import ChartGrid
from vlmagent.tui.widgets.event_log import EventLog
from vlmagent.tui.widgets.load_pane import LoadPane
from vlmagent.tui.widgets.log_pane import LogPane
from vlmagent.tui.widgets.newest import NewestStep
from vlmagent.tui.widgets.run_panels import Progress, RunTitle

POLL_SECONDS = 0.5
# a run that has ended is looked at every third time: it may be resumed from elsewhere
QUIET_TICKS = 3
ENDED = ("done", "stopped", "failed")
WIDTHS = [(0, "-narrow"), (110, "-wide"), (170, "-huge")]
HEIGHTS = [(0, "-low"), (30, "-high")]


class TrainScreen(PanesScreen):
    """Follows one run; others may be laid over its charts.

    Args:
        run: the run's folder.
        overlays: folders of runs to compare its curves with.
        images: how pictures are drawn, see ``Picture``.
        look: how the curves are drawn at first.
    """

    CSS_PATH = "train.tcss"
    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    BINDINGS: ClassVar = [
        key("e", "episodes", "Episodes", "train.episodes", "Episodes of the update under the crosshair, else all"),
        key("c", "compare", "Compare", "train.compare", "Compare with the overlaid run; alone, start with newest"),
        key("o", "overlay", "Overlay", "train.overlay", "Lay the curves of other runs over these"),
        key("s", "smooth", "Smooth", "train.smooth", "Smoothing: off, light, strong"),
        key("z", "alone", "Zoom", "train.zoom", "The focused chart alone, or all charts again"),
        key("right_square_bracket,pagedown", "page(1)", "Page", "train.page", "Next page of charts", display="]"),
        key("left_square_bracket,pageup", "page(-1)", "Page back", "train.page-back", "Previous page of charts",
            show=False, display="["),
        key("x", "axis", "X axis", "train.axis", "Horizontal axis: env steps, updates, minutes", show=False),
        key("l", "log", "Log", "train.log", "Logarithmic scale where the values allow it", show=False),
        key("plus,equals_sign", "zoom(1)", "Closer", "train.closer", "A smaller part of the axis",
            show=False, display="+"),
        key("minus", "zoom(-1)", "Further", "train.further", "A larger part of the axis", show=False, display="-"),
        key("t", "phase", "SFT", "train.phase", "Between the charts of RL and of the supervised start", show=False),
        key("up", "step(0,-1)", "Chart above", "train.up", "To the chart above", show=False),
        key("down", "step(0,1)", "Chart below", "train.down", "To the chart below", show=False),
        key("f", "follow", "Follow", "train.follow", "Follow the newest step, event and line again", show=False),
        key("r", "replay", "Replay", "train.replay", "Replay the episode of the step shown", show=False),
        key("1", "pane(0)", "Charts", "train.pane-1", "Charts on and off", show=False),
        key("2", "pane(1)", "Progress", "train.pane-2", "Progress on and off", show=False),
        key("3", "pane(2)", "Newest step", "train.pane-3", "Newest step on and off", show=False),
        key("4", "pane(3)", "Events", "train.pane-4", "Events on and off", show=False),
        key("5", "pane(4)", "Load", "train.pane-5", "Load of processes, machine and GPUs on and off", show=False),
        key("6", "pane(5)", "Log file", "train.pane-6", "The run's log file on and off", show=False),
        key("L", "next_log", "Next log", "train.next-log", "The log file of the next rank", show=False),
        key("S", "stop", "Stop run", "train.stop", "Stop the run, after a question", show=False),
        key("escape", "back", "Back", "train.back", "Remove the crosshair, else back to the runs"),
    ]  # fmt: skip

    def __init__(
        self, run: Run, overlays: Sequence[Run] = (), images: str = "half", look: Look | None = None
    ) -> None:
        super().__init__(run, overlays, look)
        self._images = images
        self._ticks = 0
        self._beginning = True

    def compose(self) -> ComposeResult:
        yield RunTitle(id="title")
        yield Static("", id="problem", markup=False)
        with Horizontal(id="body"):
            with Vertical(id="charts"):
                yield ChartBar(id="chart-bar")
                yield ChartGrid(id="grid")
            with Vertical(id="side"):
                yield Progress(id="progress")
                yield LoadPane(id="load")
                with Container(id="pair"):
                    yield NewestStep(self._images, id="newest")
                    yield EventLog(id="events")
        yield LogPane(id="log")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one("#problem").display = False
        self.grid.choose(RL_KEYS)
        self._watch_panes()
        self._poll_every(POLL_SECONDS)
        self._poll()
        self.call_after_refresh(self.grid.charts[RL_KEYS[0]].focus)

    # -- following

    def _tick(self) -> None:
        """Look; at a run that has ended, which may be resumed, not every time."""
        self._ticks += 1
        if self.live.view.state not in ENDED or self._ticks % QUIET_TICKS == 0:
            self._poll()

    @work(group="follow")
    async def _look_for_news(self) -> None:
        """Read once what is new in all runs; at once again while there is more."""
        try:
            more = True
            while more and self.is_mounted:
                changes = [await live.refresh() for live in self.lives]
                more = any(change.restarted or change.more for change in changes)
                with contextlib.suppress(NoMatches):  # the screen was closed meanwhile
                    await self._take(changes, more)
        except StoreError:
            pass  # closed meanwhile
        finally:
            self._looked()

    async def _take(self, changes: Sequence[Change], more: bool) -> None:
        """Show what is new; curves wait for the last part of a long reading."""
        own = changes[0]
        if own.restarted:
            self.cursor = None
            self.query_one(EventLog).clear()
            self.query_one(NewestStep).clear()
        if own.news is not None:
            self.query_one(EventLog).add(own.news.events, old=self._beginning)
            # events of the past come with the first reading, which may take several parts
            self._beginning = self._beginning and own.news.more
        if own.state or self._progressed(own):
            self._show_state()
        if not more and any(change.metrics or change.restarted for change in changes):
            self._choose_phase()
            self._draw()
        if own.step:
            await self._show_newest()

    def _progressed(self, change: Change) -> bool:
        return change.metrics or change.step or (change.news is not None and bool(change.news.events))

    def _show_state(self) -> None:
        view = self.live.view
        unread = self.query_one(EventLog).unread
        hidden = unread and not self.query_one(EventLog).display
        self.query_one(RunTitle).show(self.live, f"{unread} new events (4)" if hidden else "")
        self.query_one(Progress).show(self.live)
        problem = self.query_one("#problem", Static)
        problem.display = bool(view.problem)
        if view.problem:
            problem.update(safe_line(view.problem))

    async def _show_newest(self) -> None:
        pane, step = self.query_one(NewestStep), self.live.view.newest
        if step is None or not pane.display:
            return
        image = None
        if pane.following and pane.picture.display:
            image = await self.live.image(step.image_sha256)
        pane.show(step, image)

    @on(EventLog.UnreadChanged)
    def _unread_changed(self) -> None:
        self._show_state()

    # -- actions

    @on(Chart.Chosen)
    def _open_update(self) -> None:
        updates = self.points.updates
        if not updates:
            self.notify("The supervised start has no episodes.", severity="warning")
            return
        chosen = self.update_index or updates[-1]
        self.post_message(OpenEpisodes(self.live.run, (chosen, chosen)))

    def action_episodes(self) -> None:
        """Episodes of the update under the crosshair, else all."""
        chosen = self.update_index
        self.post_message(OpenEpisodes(self.live.run, None if chosen is None else (chosen, chosen)))

    def action_replay(self) -> None:
        step = self.query_one(NewestStep).step
        if step is None:
            self.notify("There is no step yet.", severity="warning")
            return
        self.post_message(OpenReplay(self.live.run, step.episode_id))

    def action_compare(self) -> None:
        """Compare with the first overlaid run; alone, the run's start with its newest checkpoint."""
        other = self.overlays[0].run if self.overlays else self.live.run
        self.post_message(OpenCompare(self.live.run, other))

    @work
    async def action_overlay(self) -> None:
        try:
            runs = await self.live.source.call(Catalogue().scan)
        except StoreError:
            return
        others = [run for run in runs if run.run != self.live.run.resolve()]
        chosen = await self.app.push_screen_wait(PickRunsScreen(others, [live.run for live in self.overlays]))
        if chosen is not None:
            self.overlay(chosen)

    def overlay(self, runs: Iterable[Run]) -> None:
        """Lay these runs over the charts, and no others."""
        wanted = list(runs)
        if len(wanted) > MOST_OVERLAYS:
            self.notify(f"Only the first {MOST_OVERLAYS} runs are shown.", severity="warning")
            wanted = wanted[:MOST_OVERLAYS]
        # those that stay keep what they have read
        known = {live.run: live for live in self.overlays}
        for path, live in known.items():
            if path not in wanted:
                live.close()
        self.overlays = [known.get(path) or LiveRun(path) for path in wanted]
        self._draw()
        self._poll()

    def action_follow(self) -> None:
        self.query_one(EventLog).follow()
        self.query_one(LogPane).follow()
        newest = self.query_one(NewestStep)
        newest.follow()
        self.run_worker(self._show_newest(), group="newest")

    def action_pane(self, number: int) -> None:
        super().action_pane(number)
        self._show_state()

    def _opened(self, name: str) -> None:
        super()._opened(name)
        if name == "events":
            self.query_one(EventLog).seen()
        elif name == "newest":
            self.run_worker(self._show_newest(), group="newest")

    def action_stop(self) -> None:
        stop_run(self.app, self.live.run, self.live.view.state, self.live.alive)

    def action_back(self) -> None:
        """Remove the crosshair, else leave."""
        if self.cursor is not None:
            self.cursor = None
            self._draw()
        elif self.grid.alone:
            self.grid.toggle_alone()
        elif len(self.app.screen_stack) > 1:
            self.dismiss()
