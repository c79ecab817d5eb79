"""All runs: what they are, how far, how well; opens, overlays, compares and stops them.

Deliberately knows no SQL: ``Catalogue`` reads, on a thread of its own.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.css.query import NoMatches
from textual.widgets import DataTable, Footer, Input, Static

from vlmagent import __version__, paths
from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.tui.background import attempt
from vlmagent.tui.data.catalogue import Catalogue, RunSummary
from vlmagent.tui.data.columns import fit, heads
from vlmagent.tui.data.run_rows import Setting, columns_for
from vlmagent.tui.data.source import Worker
from vlmagent.tui.data.states import state_sign
from vlmagent.tui.keys import key
from vlmagent.tui.messages import OpenCompare, OpenEpisodes, OpenPlay, OpenTrain
from vlmagent.tui.screens.confirm import stop_run
from vlmagent.tui.screens.polling import PollingScreen
from vlmagent.tui.settings import load_pins, save_pin
from vlmagent.tui.widgets.keyed_table import KeyedTable
from vlmagent.tui.widgets.run_preview import RunPreview
from vlmagent.tui.widgets.steady import Steady

POLL_SECONDS = 2.0
WIDTHS = [(0, "-narrow"), (110, "-wide"), (170, "-huge")]
ORDERS = ("newest", "success", "env steps", "name")


class RunsTable(KeyedTable):
    """The list of runs."""

    BINDINGS: ClassVar = [
        key(
            "enter",
            "select_cursor",
            "Open",
            "runs.open",
            "Open the run, the marked ones laid over its curves",
        )
    ]


class RunsScreen(PollingScreen[None]):
    """Lists the runs under the runs folder.

    Args:
        extra: one more run, which may lie elsewhere.
    """

    CSS_PATH = "runs.tcss"
    HORIZONTAL_BREAKPOINTS = WIDTHS
    BINDINGS: ClassVar = [
        key("space", "mark", "Mark", "runs.mark", "Mark the run, to overlay or compare it"),
        key("c", "compare", "Compare", "runs.compare", "Compare two marked runs, or the marked one with this one"),
        key("e", "episodes", "Episodes", "runs.episodes", "The run's episodes"),
        key("p", "play", "Play", "runs.play", "Play the run's task beside its newest checkpoint", show=False),
        key("slash", "filter", "Filter", "runs.filter", "Filter by words in name, task, model or state", display="/"),
        key("s", "sort", "Sort", "runs.sort", "Order: newest, success, env steps, name"),
        key("S", "stop", "Stop run", "runs.stop", "Stop the run, after a question"),
        key("P", "pin", "Pin", "runs.pin", "Pin the run above all others, or unpin it", show=False),
        key("u", "unmark", "Unmark all", "runs.unmark", "Unmark all runs", show=False),
        key("f5", "refresh", "Refresh", "runs.refresh", "Read all runs again now", show=False),
        key("escape", "clear", "Clear filter", "runs.clear", "Show all runs again", show=False),
        key("q", "app.quit", "Quit", "runs.quit", "Leave the dashboard; runs go on"),
    ]  # fmt: skip

    def __init__(self, extra: Run | None = None) -> None:
        super().__init__()
        self._catalogue = Catalogue(extra)
        self._worker = Worker("runs")
        self.runs: dict[str, RunSummary] = {}
        self.marked: set[str] = set()
        self.pinned: set[str] = set()
        self.order = ORDERS[0]
        # whether the runs were read once: before that there is no telling whether there are none
        self._read = False

    def compose(self) -> ComposeResult:
        yield Steady(id="runs-title")
        with Horizontal(id="runs-body"):
            with Vertical(id="runs-list"):
                yield RunsTable(id="runs-table")
                yield Static("", id="runs-empty", markup=False)
            yield RunPreview(id="runs-preview")
        yield Input(placeholder="words in name, task, model or state", id="runs-filter", compact=True)
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(Input).display = False
        self.query_one("#runs-empty").display = False
        self.table.focus()
        self._poll_every(POLL_SECONDS)
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show())
        self._poll()

    def on_unmount(self) -> None:
        self._worker.close()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    @property
    def table(self) -> KeyedTable:
        """The list."""
        return self.query_one(KeyedTable)

    @property
    def current(self) -> RunSummary | None:
        """The run under the cursor."""
        return self.runs.get(self.table.current or "")

    # -- looking

    @work(group="scan")
    async def _look_for_news(self) -> None:
        try:
            # with the pins, which another dashboard may have changed
            found, self.pinned = await self._worker.call(lambda: (self._catalogue.scan(), load_pins()))
            self.runs = {str(run.run): run for run in found}
            # a run that was deleted must not be counted as marked
            self.marked &= set(self.runs)
            self._read = True
            with contextlib.suppress(NoMatches):  # the screen was closed meanwhile
                self._show()
        except StoreError:
            pass  # closed meanwhile
        finally:
            self._looked()

    def _show(self) -> None:
        width = self.query_one("#runs-list").size.width
        # no width yet before the first layout
        if not self._read or not width:
            return
        shown = self._ordered([run for run in self.runs.values() if self._passes(run)])
        # all names together decide how each is cut, so that they stay apart
        names, setting = (
            [run.name for run in shown],
            Setting(self.marked, time.time(), self.app.theme_variables, self.pinned),
        )
        columns, cells = fit(lambda least: columns_for(width, names, least), shown, setting)
        self.table.set_columns(heads(columns))
        self.table.show({str(run.run): row for run, row in zip(shown, cells, strict=True)})
        self.table.display = bool(shown)
        empty = self.query_one("#runs-empty", Static)
        empty.display = not shown
        empty.update(self._why_empty())
        self._show_title(len(shown))
        self.query_one(RunPreview).show(self.current)

    def _passes(self, run: RunSummary) -> bool:
        # every word, wherever it stands
        return all(word in run.searchable for word in self.query_one(Input).value.lower().split())

    def _ordered(self, runs: list[RunSummary]) -> list[RunSummary]:
        """In the present order, pinned ones before the others."""
        # stable: both groups keep the order
        return sorted(self._sorted(runs), key=lambda run: str(run.run) not in self.pinned)

    def _sorted(self, runs: list[RunSummary]) -> list[RunSummary]:
        if self.order == "success":
            return sorted(runs, key=lambda run: -_last(run.success))
        if self.order == "env steps":
            return sorted(runs, key=lambda run: -(run.env_steps or 0))
        # `scan` gives the newest first
        return sorted(runs, key=lambda run: run.name) if self.order == "name" else runs

    def _why_empty(self) -> Content:
        if self.runs:
            return Content("No run has all these words. escape shows all runs.")
        return Content.assemble(
            f"There are no runs under {paths.runs_dir().absolute()} yet.\n\nStart one:  ",
            ("vlmagent train numberline", "bold"),
        )

    def _show_title(self, shown: int) -> None:
        live = sum(run.state in ("running", "starting") for run in self.runs.values())
        count = f"{len(self.runs)} runs" if shown == len(self.runs) else f"{shown} of {len(self.runs)} runs"
        parts: list[Content | tuple[str, str]] = [(f"vlmagent {__version__}", "bold"), (f"   {count}", "")]
        if live:
            parts.append((f" · {state_sign('running')} {live} running", "$success"))
        if self.marked:
            parts.append((f" · {len(self.marked)} marked", "$warning"))
        parts.append((f" · by {self.order}   {paths.runs_dir()}", "$foreground-muted"))
        self.query_one("#runs-title", Steady).say(Content.assemble(*parts))

    @on(DataTable.RowHighlighted)
    def _highlighted(self) -> None:
        self.query_one(RunPreview).show(self.current)

    # -- actions

    @on(DataTable.RowSelected)
    def action_open(self) -> None:
        run = self.current
        if run is not None:
            others = [
                one.run for path, one in self.runs.items() if path in self.marked and one.run != run.run
            ]
            self.post_message(OpenTrain(run.run, others))

    def action_mark(self) -> None:
        """Mark or unmark, and go on to the next."""
        if self.current is None:
            return
        self.marked ^= {str(self.current.run)}
        self._show()
        self.table.action_cursor_down()

    def action_unmark(self) -> None:
        self.marked.clear()
        self._show()

    @work(group="pin")
    async def action_pin(self) -> None:
        """Pin or unpin the run under the cursor, which stays there."""
        run = self.current
        if run is None:
            return
        pinned = str(run.run) not in self.pinned
        pins = await attempt(self.app, lambda: save_pin(run.run, pinned))
        # None: it could not be kept, which was said
        if pins is not None:
            self.pinned = pins
            with contextlib.suppress(NoMatches):  # the screen was closed meanwhile
                self._show()

    def action_compare(self) -> None:
        """Two marked runs; one and the one under the cursor; or that one's start and newest checkpoint."""
        if self.current is None:
            return
        chosen = [one.run for path, one in self.runs.items() if path in self.marked]
        if len(chosen) > 2:
            self.notify("Mark two runs to compare; enter overlays the curves of more.", severity="warning")
            return
        # one mark and the cursor on another run; with the cursor on the marked one it is compared with itself
        if len(chosen) < 2 and self.current.run not in chosen:
            chosen.append(self.current.run)
        # a single run is first and last: its start against its newest checkpoint
        self.post_message(OpenCompare(chosen[0], chosen[-1]))

    def action_episodes(self) -> None:
        if self.current is not None:
            self.post_message(OpenEpisodes(self.current.run))

    def action_play(self) -> None:
        if self.current is not None:
            self.post_message(OpenPlay(self.current.run))

    def action_sort(self) -> None:
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        self._show()

    def action_stop(self) -> None:
        run = self.current
        if run is not None:
            stop_run(self.app, run.run, run.state, run.alive)

    def action_refresh(self) -> None:
        self._poll()

    # -- the filter

    def action_filter(self) -> None:
        entry = self.query_one(Input)
        entry.display = True
        entry.focus()

    def action_clear(self) -> None:
        entry = self.query_one(Input)
        entry.value = ""
        entry.display = False
        self.table.focus()
        self._show()

    @on(Input.Changed)
    def _filter_changed(self) -> None:
        self._show()

    @on(Input.Submitted)
    def _filter_done(self) -> None:
        entry = self.query_one(Input)
        # a filter stays in sight as long as it hides runs
        entry.display = bool(entry.value)
        self.table.focus()


def _last(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    # below every rate: runs without one stand at the end
    return known[-1] if known else -1.0
