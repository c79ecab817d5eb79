"""The panes beside and below the charts of a run: which are shown, and what the later ones of them need to be read.

Deliberately knows neither curves nor the run's database: a log file and the system's own numbers are read here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from textual import on, work
from textual.css.query import NoMatches
from textual.timer import Timer

from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.tui.data.curves import Look
from vlmagent.tui.data.load import GpuProbe, ProcessProbe, machine_load
from vlmagent.tui.data.log_tail import LogNews, LogTail, log_files
from vlmagent.tui.data.source import Worker
from vlmagent.tui.screens.charting import ChartingScreen
from vlmagent.tui.widgets.load_pane import LoadPane
from vlmagent.tui.widgets.log_pane import LogPane

LOAD_SECONDS = 2.0
LOG_SECONDS = 0.5
# a log of fewer lines might not be scrolled, which is what brings earlier ones
FEW_LINES = 100
SIDE = ("progress", "newest", "events", "load")
PANES = ("charts", "progress", "newest", "events", "load", "log")
"""In the order of their keys."""


class PanesScreen(ChartingScreen):
    """Shows and hides panes; reads load and log while they are shown.

    Args:
        run: the run's folder.
        overlays, look: see ``ChartingScreen``.
    """

    def __init__(self, run: Run, overlays: Sequence[Run] = (), look: Look | None = None) -> None:
        super().__init__(run, overlays, look)
        # a thread for each: a hanging driver, or a file on a network, must not hold up the others
        self._workers = {name: Worker(name) for name in ("load", "gpus", "log")}
        self._processes, self._gpus = ProcessProbe(run), GpuProbe()
        self._tail = LogTail(run.log)
        self._clocks: list[Timer] = []
        # what is being read: looks must not pile up
        self._reading: set[str] = set()

    def _watch_panes(self) -> None:
        """Hide what is not shown at first; begin to look at what the others show."""
        self.query_one(LoadPane).display = self.query_one(LogPane).display = False
        self._clocks = [
            self.set_interval(LOAD_SECONDS, self._look_at_load),
            self.set_interval(LOG_SECONDS, self._look_at_log),
        ]

    def on_unmount(self) -> None:
        for worker in self._workers.values():
            worker.close()

    def on_screen_suspend(self) -> None:
        for clock in self._clocks:
            clock.pause()

    def on_screen_resume(self) -> None:
        for clock in self._clocks:
            clock.resume()

    @contextlib.contextmanager
    def _quietly(self, name: str) -> Iterator[None]:
        """While something is read: what comes too late, because the screen was closed meanwhile, is nothing."""
        self._reading.add(name)
        try:
            with contextlib.suppress(NoMatches, StoreError):
                yield
        finally:
            self._reading.discard(name)

    # -- which panes

    def action_pane(self, number: int) -> None:
        """Show or hide a pane. The last one stays."""
        panes = {name: self.query_one(f"#{name}") for name in PANES}
        chosen = panes[PANES[number]]
        if chosen.display and sum(pane.display for pane in panes.values()) == 1:
            return
        chosen.display = not chosen.display
        # what holds only hidden panes is hidden, too
        shown = {name for name, pane in panes.items() if pane.display}
        self.query_one("#pair").display = bool(shown & {"newest", "events"})
        self.query_one("#side").display = bool(shown & set(SIDE))
        self.query_one("#body").display = bool(shown - {"log"})
        if chosen.display:
            self._opened(PANES[number])

    def _opened(self, name: str) -> None:
        """A pane is shown again."""
        if name == "load":
            self._look_at_load()
        elif name == "log":
            self.query_one(LogPane).focus()
            self._look_at_log()

    # -- the load

    def _look_at_load(self) -> None:
        if not self.query_one(LoadPane).display:
            return
        if "load" not in self._reading:
            self._read_load()
        if "gpus" not in self._reading and self._gpus.is_due:
            self._read_gpus()

    @work(group="load")
    async def _read_load(self) -> None:
        with self._quietly("load"):
            found = await self._workers["load"].call(lambda: (self._processes.look(), machine_load()))
            self.query_one(LoadPane).show(*found)

    @work(group="gpus")
    async def _read_gpus(self) -> None:
        with self._quietly("gpus"):
            found = await self._workers["gpus"].call(self._gpus.look)
            self.query_one(LoadPane).show_gpus(found)

    # -- the log

    def _look_at_log(self) -> None:
        if self.query_one(LogPane).display and "log" not in self._reading:
            self._read_log()

    @work(group="log")
    async def _read_log(self) -> None:
        with self._quietly("log"):
            tail = self._tail
            news = await self._workers["log"].call(tail.look)
            if tail is self._tail:
                self._show_log(news)

    def _show_log(self, news: LogNews) -> None:
        pane = self.query_one(LogPane)
        pane.border_title = str(self._tail.path.relative_to(self.live.run.path))
        pane.show(news)
        # long lines: what a block holds of them may not even fill the pane
        if news.anew and len(news.lines) < FEW_LINES:
            self._want_earlier()

    @on(LogPane.TopReached)
    def _want_earlier(self) -> None:
        if "earlier" not in self._reading and not self.query_one(LogPane).is_full:
            self._read_earlier()

    @work(group="earlier")
    async def _read_earlier(self) -> None:
        with self._quietly("earlier"):
            tail = self._tail
            lines = await self._workers["log"].call(tail.earlier)
            if tail is self._tail:
                self.query_one(LogPane).put_before(lines)

    @work(group="switch", exclusive=True)
    async def action_next_log(self) -> None:
        """The log of the next rank; after the last one, the run's own."""
        with self._quietly("switch"):
            files = await self._workers["log"].call(lambda: log_files(self.live.run))
            if len(files) == 1:
                self.notify("One process writes all of this run's log.")
                return
            place = files.index(self._tail.path) + 1 if self._tail.path in files else 0
            self._tail = LogTail(files[place % len(files)])
            pane = self.query_one(LogPane)
            if not pane.display:
                self.action_pane(PANES.index("log"))
            self._read_log()
