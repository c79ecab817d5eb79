"""The episodes of a run, and of its evaluations: filtered, ranked, searched, with a look at each.

Deliberately knows no SQL: ``EpisodeFeed`` keeps the rows, ``episode_list`` makes cells of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.css.query import NoMatches
from textual.widgets import DataTable, Footer, Input, Static

from vlmagent.errors import StoreError, UsageError
from vlmagent.paths import Run
from vlmagent.tui.data.episode_feed import EpisodeFeed, RowsTrail
from vlmagent.tui.data.episode_list import Row, View, episode_of, parse_updates
from vlmagent.tui.data.trail import Place, find
from vlmagent.tui.delays import Delays
from vlmagent.tui.keys import key
from vlmagent.tui.messages import OpenCompare, OpenPlay, OpenReplay
from vlmagent.tui.screens.choose import ChooseScreen
from vlmagent.tui.screens.polling import PollingScreen
from vlmagent.tui.settings import images_of
from vlmagent.tui.text import fitted, safe_line
from vlmagent.tui.widgets.episode_table import EpisodesTable
from vlmagent.tui.widgets.filter_bar import FilterBar
from vlmagent.tui.widgets.filter_entry import FilterEntry
from vlmagent.tui.widgets.step_preview import StepPreview

WIDTHS = [(0, "-narrow"), (110, "-wide"), (170, "-huge")]
POLL_SECONDS = 1.0  # between looks for new episodes
TYPING_SECONDS = 0.2  # after the last letter of a search
LOOK_SECONDS = 0.05  # a key held down passes over rows
NEAR_END = 40  # rows from the last one at which the next page is read


class EpisodesScreen(PollingScreen[None]):
    """Lists the finished episodes of a run.

    Args:
        run: the run's folder.
        updates: show only those that ended in these updates, first and last.
    """

    CSS_PATH = "episodes.tcss"
    HORIZONTAL_BREAKPOINTS = WIDTHS
    BINDINGS: ClassVar = [
        key("slash", "search", "Search", "episodes.search", "Search the outputs for words", display="/"),
        key("f", "outcome", "Outcome", "episodes.outcome", "All, successes, failures"),
        key("i", "illegal", "Illegal", "episodes.illegal", "Only episodes (or outputs) without a legal action"),
        key("o", "order(1)", "Order", "episodes.order", "Next order; the last two rank single outputs"),
        key("O", "order(-1)", "Order back", "episodes.order-back", "Previous order", show=False),
        key("a", "rank('largest |advantage|')", "|adv.|", "episodes.advantage", "Outputs by |advantage|", show=False),
        key("l", "rank('lowest log-prob')", "log-prob", "episodes.logprob", "Outputs by log-prob", show=False),
        key("u", "updates", "Updates", "episodes.updates", "Only episodes that ended in some updates"),
        key("d", "data", "Data", "episodes.data", "Training episodes, those of an evaluation, or games played"),
        key("v", "preview", "View", "episodes.preview", "The step beside the list, shown or hidden"),
        key("y", "copy", "Copy", "episodes.copy", "Copy the output of the step beside the list", show=False),
        key("p", "play", "Play", "episodes.play", "Play on from the state of the step beside the list", show=False),
        key("c", "compare", "Compare", "episodes.compare", "Compare two evaluations of this run", show=False),
        key("r", "refresh", "New rows", "episodes.refresh", "Show the episodes that came meanwhile", show=False),
        key("escape", "back", "Back", "episodes.back", "Clear what was typed, then the filters set here, then go back"),
    ]  # fmt: skip

    def __init__(self, run: Run, *, updates: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.run = run
        self.feed = EpisodeFeed(run, View().with_filter(updates=updates))
        self._trail = RowsTrail(self.feed, self._show_all)
        self._delays = Delays(self)

    def compose(self) -> ComposeResult:
        yield Static("", id="episodes-title", markup=False)
        yield Static("", id="episodes-problem", markup=False)
        yield FilterBar()
        with Horizontal(id="episodes-body"):
            with Vertical(id="episodes-list"):
                yield EpisodesTable(id="episodes-table")
                yield Static("", id="episodes-empty", markup=False)
            yield StepPreview(images_of(self.app), id="episodes-preview")
        yield FilterEntry(id="episodes-entry")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one("#episodes-problem").display = False
        self.table.focus()
        self.watch(self.table, "scroll_y", self._read_ahead, init=False)
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show_all())
        self._poll_every(POLL_SECONDS)
        self._show_chips()
        self._begin()

    def on_unmount(self) -> None:
        self.feed.close()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_all)

    @property
    def view(self) -> View:
        """What is listed: filters, order, search."""
        return self.feed.view

    @property
    def table(self) -> EpisodesTable:
        """The list."""
        return self.query_one(EpisodesTable)

    @property
    def entry(self) -> FilterEntry:
        """The line to type in."""
        return self.query_one(FilterEntry)

    @property
    def following(self) -> bool:
        """Whether newly finished episodes appear by themselves: the user is at the top."""
        return self.feed.shown.can_grow and self.table.cursor_row == 0 and self.table.scroll_y < 1

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        return self.feed.rows.get(self.table.current or "")

    # -- reading

    def change(self, view: View) -> None:
        """Show this view, read from its beginning."""
        if view != self.view:
            self.feed.view = view
            self._begin()

    def _begin(self) -> None:
        """Read the list anew; what was being read is given up."""
        self.feed.loading = True
        self._restart()

    @work(group="page", exclusive=True)
    async def _restart(self) -> None:
        """The first page of the present view, then its counts."""
        with self._reading():
            await self.feed.restart()
            self._show_all(restart=True)
            self._show_chips()
            await self.feed.count()
            self._show_title()
            await self._fill()

    @work(group="page", exclusive=True)
    async def _load_more(self) -> None:
        """The next page."""
        with self._reading():
            self._append(await self.feed.read_more())
            await self._fill()

    @property
    def _wanted(self) -> int:
        """Rows to have while the user is at the top: what is in sight and what is read ahead."""
        return self.table.size.height + NEAR_END

    async def _fill(self) -> None:
        """Go on while the filters let little through and the list is not full."""
        while self.feed.more and len(self.feed.rows) < self._wanted:
            self._append(await self.feed.read_more())
            self._show_chips()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """While a page is read; afterwards, whatever came of it is shown."""
        with contextlib.suppress(NoMatches):  # the screen was closed meanwhile
            with self.feed.reading():
                yield
            self._show_problem()
            self._show_empty()
            self._show_chips()

    def _append(self, rows: list[Row]) -> None:
        self.table.append_rows(rows)
        self._show_empty()

    @on(DataTable.RowHighlighted)
    def _highlighted(self) -> None:
        self._read_ahead()
        self._look()

    def _read_ahead(self) -> None:
        """The next page, when the end comes near."""
        lowest = max(self.table.cursor_row, round(self.table.scroll_y) + self.table.size.height)
        if self.feed.more and not self.feed.loading and lowest > self.table.row_count - NEAR_END:
            self._load_more()

    def _poll(self) -> None:
        if self.feed.problem and not self.feed.loading:
            self._begin()
        elif not self.feed.loading:
            super()._poll()

    @work(group="news")
    async def _look_for_news(self, now: bool = False) -> None:
        """Episodes that ended meanwhile; ``now`` shows them also to a user who has scrolled."""
        try:
            if not (await self.feed.has_news() or now):
                return
            if self.feed.shown.can_grow and await self.feed.read_news(lambda: now or self.following):
                self._show_news()
            await self.feed.count()
            self._show_title()
            self._show_chips()
        except StoreError as error:
            self.feed.problem = str(error)
            self._show_problem()
        except NoMatches:
            pass  # the screen was closed meanwhile
        finally:
            self._looked()

    def _show_news(self) -> None:
        """The rows with the new ones on top, where a reader who follows stays."""
        follows = self.following or self.current is None
        if follows:
            self.feed.forget_end(self._wanted)
        self._show_all()
        if follows:
            self.table.move_cursor(row=0)

    # -- showing

    def _show_problem(self) -> None:
        with contextlib.suppress(NoMatches):
            problem = self.query_one("#episodes-problem", Static)
            problem.display = bool(self.feed.problem)
            problem.update(safe_line(self.feed.problem))

    def _show_all(self, restart: bool = False) -> None:
        """The whole table from the feed's rows."""
        with contextlib.suppress(NoMatches):
            width = self.query_one("#episodes-list").size.width
            self.table.show_rows(self.feed.rows, self.feed.shown, width, restart=restart)
            self._show_empty()
            self._show_title()
            self._look()

    def _show_empty(self) -> None:
        empty, rows = self.query_one("#episodes-empty", Static), bool(self.feed.rows)
        self.table.display, empty.display = rows, not rows
        empty.update(self.feed.why_empty())
        if rows and self.focused is None:
            self.table.focus()

    def _show_title(self) -> None:
        """The run and its counts, which stay whole where the name has to be cut."""
        facts = Content.assemble("  episodes", (f"  {self.feed.counts}", "$foreground-muted"))
        name = fitted(self.run.name, self.size.width - 2 - facts.cell_length, most=40, style="bold")
        self.query_one("#episodes-title", Static).update(name + facts)

    def _show_chips(self) -> None:
        self.query_one(FilterBar).show(self.feed)

    def _look(self) -> None:
        """Show the step under the cursor soon, once the cursor rests."""
        self._delays.later("look", LOOK_SECONDS, self._look_now)

    def _look_now(self) -> None:
        preview, row = self.query_one(StepPreview), self.current
        if row is None:
            preview.clear()
        elif preview.display:
            self._read_step(row)

    @work(group="look", exclusive=True)
    async def _read_step(self, row: Row) -> None:
        with contextlib.suppress(StoreError, NoMatches):  # the poll says what is wrong
            self.query_one(StepPreview).show(await self.feed.look(row))

    # -- actions

    def action_outcome(self) -> None:
        self.change(self.view.next_outcome())

    def action_illegal(self) -> None:
        self.change(self.view.with_filter(illegal=None if self.view.filter.illegal else True))

    def action_order(self, by: int) -> None:
        self.change(self.view.next_order(by))

    def action_rank(self, order: str) -> None:
        self.change(self.view.ranked(order))

    @work(group="data", exclusive=True)
    async def action_data(self) -> None:
        try:
            found = await self.feed.recordings()
        except StoreError:
            return  # closed meanwhile
        now = next((k for k, one in enumerate(found) if one.database == self.feed.database), 0)
        choices = [(one.name, one.facts) for one in found]
        chosen = await self.app.push_screen_wait(ChooseScreen("episodes of", choices, now))
        if chosen is not None and found[chosen].database != self.feed.database:
            self.feed.use(found[chosen])
            self._begin()

    def action_preview(self) -> None:
        self.toggle_class("-shown" if self.has_class("-narrow") else "-hidden")
        self.call_after_refresh(self._show_all)

    def action_copy(self) -> None:
        row = self.query_one(StepPreview).row
        if row is not None:
            self.app.copy_to_clipboard(row.output)
            self.notify(f"Copied the output of step {row.step + 1} of episode {row.episode_id}.", timeout=3)

    def action_play(self) -> None:
        row = self.query_one(StepPreview).row
        if row is not None:
            self.post_message(OpenPlay(self.run, self.feed.database, (row.episode_id, row.step)))

    def action_compare(self) -> None:
        self.post_message(OpenCompare(self.run, self.run))

    def action_refresh(self) -> None:
        """Show the rows that wait; lists that do not grow are read anew."""
        if self.view.can_grow:
            self._look_for_news(now=True)
        else:
            self._begin()

    @on(DataTable.RowSelected)
    def _replay(self) -> None:
        if self.current is None:
            return
        episode, step = episode_of(self.current)
        self.post_message(
            OpenReplay(
                self.run, episode, step or 0, self.feed.database, self._trail, on_return=self._came_back
            )
        )

    def _came_back(self, place: Place | None) -> None:
        """The selection goes along to what was replayed last."""
        row = find(self._trail.places, place) if place is not None else None
        if row is not None:
            self.table.move_cursor(row=row)

    # -- typing

    def action_search(self) -> None:
        self.entry.ask_search(self.view.text)

    def action_updates(self) -> None:
        self.entry.ask_updates(self.view.filter.updates)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        if not self.entry.asks_updates:
            self._delays.later("type", TYPING_SECONDS, lambda: self._search(event.value))

    def _search(self, text: str) -> None:
        self.change(replace(self.view, text=text))

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        try:
            if self.entry.asks_updates:
                bounds = self.feed.summary.updates if self.feed.summary else None
                self.change(self.view.with_filter(updates=parse_updates(event.value, bounds)))
            else:
                self._search(event.value)
        except UsageError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self._close_entry()

    def _close_entry(self) -> None:
        self._delays.cancel("type")
        self.entry.display = False
        self.table.focus()

    def action_back(self) -> None:
        """Undo the innermost thing: typing, the search, the filters but those it was opened with, the screen."""
        if self.entry.display:
            self._close_entry()
            if not self.entry.asks_updates:
                self._search("")
            return
        undone = self.feed.undone()
        if undone is not None:
            self.change(undone)
        elif len(self.app.screen_stack) > 1:
            self.dismiss()
