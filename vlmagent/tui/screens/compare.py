"""Two evaluations on the same seeds: who succeeded where, and both episodes of a seed side by side in step.

Deliberately knows no SQL: ``compare_feed`` reads, ``pairs`` counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.css.query import NoMatches
from textual.widgets import DataTable, Footer, Static

from vlmagent.errors import StoreError
from vlmagent.tui.data.columns import fit, heads
from vlmagent.tui.data.commands import how_to_evaluate
from vlmagent.tui.data.compare_feed import CompareSide, Comparison, Side
from vlmagent.tui.data.evaluations import Evaluation
from vlmagent.tui.data.pair_list import COLOURS, ORDERS, SHOWN, columns_for, key_of, tally_content
from vlmagent.tui.data.pairs import Pair
from vlmagent.tui.data.trail import FixedTrail
from vlmagent.tui.delays import Delays
from vlmagent.tui.keys import key
from vlmagent.tui.messages import OpenReplay
from vlmagent.tui.screens.choose import ChooseScreen
from vlmagent.tui.screens.stepping import SteppingScreen, seek_bindings, speed_bindings
from vlmagent.tui.settings import images_of
from vlmagent.tui.text import fitted, safe_line
from vlmagent.tui.widgets.growing_table import GrowingTable
from vlmagent.tui.widgets.side_pane import SidePane
from vlmagent.tui.widgets.timeline import Timeline

__all__ = ["CompareScreen", "CompareSide"]

WIDTHS = [(0, "-narrow"), (110, "-wide"), (170, "-huge")]
# the cursor rests so long before a pair is read: a key held down passes over many
LOOK_SECONDS = 0.05
# fewer than a replay's, because each is two pictures
FETCHED_AHEAD = 100
"""Steps whose pictures are decoded before they are asked for."""
SIDES = ("left", "right")
ARROW = "   ↔   "


class PairsTable(GrowingTable):
    """The list of pairs; left and right are the screen's."""

    BINDINGS: ClassVar = [
        key("enter", "select_cursor", "Play", "compare.open", "Show the two episodes and play them"),
        key("left", "screen.move(-1)", "Back", "compare.back-step", "One step back", show=False, display="←"),
        key("right", "screen.move(1)", "Step", "compare.step", "One step on", show=False, display="→"),
    ]


class CompareScreen(SteppingScreen[None]):
    """Compares two evaluations of the same seeds.

    Args:
        left, right: what to compare; two equal sides mean a run's start and its furthest checkpoint.
    """

    CSS_PATH = "compare.tcss"
    HORIZONTAL_BREAKPOINTS = WIDTHS
    BINDINGS: ClassVar = [
        key("space", "play", "Play", "compare.play", "Play or pause both"),
        *seek_bindings("compare"),
        *speed_bindings("compare"),
        key("f", "filter", "Filter", "compare.filter", "All pairs, those that differ, both, only one, neither"),
        key("o", "order", "Order", "compare.order", "Order: seeds, difference of the returns, length"),
        key("l", "choose(0)", "Left", "compare.left", "Choose the evaluation on the left"),
        key("r", "choose(1)", "Right", "compare.right", "Choose the evaluation on the right"),
        key("s", "swap", "Swap", "compare.swap", "Swap the sides", show=False),
        key("left_square_bracket", "replay(0)", "Replay left", "compare.replay-left", "Replay the left episode alone",
            show=False, display="["),
        key("right_square_bracket", "replay(1)", "Replay", "compare.replay-right", "Replay the right episode alone",
            display="[ ]"),
        key("left", "move(-1)", "Back", "compare.step-back", "One step back", show=False, display="←"),
        key("right", "move(1)", "Step", "compare.step-on", "One step on", display="→"),
        key("up", "pair(-1)", "Pair above", "compare.up", "The pair above", show=False),
        key("down", "pair(1)", "Pair below", "compare.down", "The pair below", show=False),
        key("v", "panes", "View", "compare.view", "The two episodes, shown or hidden", show=False),
        key("escape", "back", "Back", "compare.back", "Back to the list, else go back"),
    ]  # fmt: skip

    def __init__(self, left: CompareSide, right: CompareSide) -> None:
        super().__init__()
        self.comparison = Comparison(left, right)
        self.shown = 0
        self.order = "seeds"
        self._delays = Delays(self)

    def compose(self) -> ComposeResult:
        yield Static("", id="compare-title", markup=False)
        yield Static("", id="compare-problem", markup=False)
        yield Static("", id="compare-tally", markup=False)
        with Horizontal(id="compare-body"):
            with Vertical(id="compare-list"):
                yield PairsTable(id="compare-table")
                yield Static("", id="compare-empty", markup=False)
            with Horizontal(id="compare-panes"):
                for name in SIDES:
                    yield SidePane(images_of(self.app), id=f"compare-{name}")
        yield Timeline(id="compare-timeline")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one("#compare-problem").display = False
        self.query_one("#compare-empty", Static).update("looking …")
        # an empty table would show its head beside "looking ..."
        self.table.display = False
        self.table.focus()
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show_pairs())
        self._begin()

    def on_unmount(self) -> None:
        self.comparison.close()

    def on_resize(self) -> None:
        self._show_title()
        # the new width is known after the layout only
        self.call_after_refresh(self._show_pairs)

    @property
    def table(self) -> PairsTable:
        """The list of pairs."""
        return self.query_one(PairsTable)

    @property
    def current(self) -> Pair | None:
        """The pair under the cursor."""
        name = self.table.current
        return next((pair for pair in self.comparison.pairs if key_of(pair) == name), None)

    @property
    def listed(self) -> list[Pair]:
        """The pairs of the list, filtered and in its order."""
        pairs = [pair for pair in self.comparison.pairs if pair.kind in SHOWN[self.shown][1]]
        order = ORDERS[self.order]
        return pairs if order is None else sorted(pairs, key=order)

    @property
    def sides(self) -> list[Side]:
        """Left and right; empty while there is nothing to compare."""
        return self.comparison.sides

    @property
    def marks(self) -> Sequence[str]:
        """Steps with different actions stand out."""
        return self.comparison.marks

    # -- reading

    @work(group="read", exclusive=True)
    async def _begin(self) -> None:
        with self._telling():
            left, right = await self.comparison.find()
            if left is None or right is None:
                self._say_what_is_missing((left, right))
                return
            await self._use(left, right)

    async def _use(self, left: Evaluation, right: Evaluation) -> None:
        """Compare these two."""
        self.remove_class("-missing")
        await self.comparison.use(left, right)
        self._show_title()
        self._show_tally()
        self._show_pairs(restart=True)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """What goes wrong is said on the screen."""
        text = ""
        try:
            yield
        except StoreError as error:
            text = str(error)
        except NoMatches:
            return  # the screen was closed meanwhile
        with contextlib.suppress(NoMatches):
            problem = self.query_one("#compare-problem", Static)
            problem.display = bool(text)
            problem.update(safe_line(text))
            if text:
                self.query_one("#compare-empty", Static).update("")

    def _say_what_is_missing(self, chosen: tuple[Evaluation | None, Evaluation | None]) -> None:
        lines: list[Content | str | tuple[str, str]] = []
        for run, what in self.comparison.missing(chosen).items():
            lines += [safe_line(f"The run {run.name} has {what} yet. Make what is missing with"), "\n\n  "]
            lines += [safe_line(how_to_evaluate(run), style="bold"), "\n\n"]
        known = sum(len(found) for found in self.comparison.known.values())
        lines.append(
            (f"l and r choose among the {known} evaluations there are." if known else "", "$foreground-muted")
        )
        self.query_one("#compare-empty", Static).update(Content.assemble(*lines))
        self.add_class("-missing")
        self._show_title()

    @work(group="pair", exclusive=True)
    async def _load(self, pair: Pair, play: bool = False) -> None:
        """Read the two episodes of a pair."""
        with self._telling():
            steps = await self.comparison.load(pair)
            # only when both are read: the position is one of the new pair
            self.playback.playing, self.playback.at = False, 0
            self.playback.resize(steps)
            if play:
                self.playback.toggle()
            self._show_step()
            # both sides of a step before the next one: they are shown together
            for step in range(min(self.playback.count, FETCHED_AHEAD)):
                for side in self.sides:
                    await side.image(step)

    @work(group="image", exclusive=True)
    async def _show_step_when_read(self, at: int) -> None:
        with contextlib.suppress(StoreError, NoMatches):
            for side in self.sides:
                await side.image(at)
            # the user may have gone on while the pictures were read
            if at == self.playback.at:
                self._show_panes()

    # -- showing

    def _show_title(self) -> None:
        """Both sides on one line, a common run once; names of runs are cut before those of evaluations."""
        # before anything is read, what was asked for stands in the title
        runs = [side.evaluation.run for side in self.sides] or [side.run for side in self.comparison.wanted]
        names = [side.evaluation.name for side in self.sides]
        names = names or [side.checkpoint or "?" for side in self.comparison.wanted]
        shown = [safe_line(name, 50) for name in names]
        room = self.size.width - 2 - len(ARROW) - sum(name.cell_length for name in shown)
        common = Content()
        if runs[0] == runs[1]:
            common = fitted(runs[0].name, room - 3, most=40, style="bold") + Content("   ")
        else:
            shown = [
                fitted(run.name, room // 2 - 1, least=6, most=40) + Content(" ") + name
                for run, name in zip(runs, shown, strict=True)
            ]
        left = shown[0].stylize(f"bold ${COLOURS['left']}")
        right = shown[1].stylize(f"bold ${COLOURS['right']}")
        self.query_one("#compare-title", Static).update(common + left + Content(ARROW) + right)

    def _show_tally(self) -> None:
        tally = self.comparison.tally
        if tally is None:
            return
        block = self.query_one("#compare-tally", Static)
        block.update(tally_content(tally, max(20, min(100, block.content_size.width or 78))))

    def _show_pairs(self, restart: bool = False) -> None:
        """The list, filtered and in order."""
        if self.comparison.tally is None:
            return
        with contextlib.suppress(NoMatches):
            pairs = self.listed
            colours = self.app.theme_variables
            width = self.query_one("#compare-list").size.width
            columns, cells = fit(lambda least: columns_for(width, least), pairs, colours)
            self.table.set_columns(heads(columns))
            rows = {key_of(pair): row for pair, row in zip(pairs, cells, strict=True)}
            # another filter or order: changing the old rows into the new ones would cost more than new rows
            if restart:
                self.table.restart(rows)
            else:
                self.table.show(rows)
            self.table.display = bool(pairs)
            empty = self.query_one("#compare-empty", Static)
            empty.display = not pairs
            # the table loses the focus when it is hidden, and nothing else can have it
            if pairs and self.focused is None and self.table.is_on_screen:
                self.table.focus()
            empty.update(
                "No pair is like this."
                if self.comparison.pairs
                else "The two have no seed in common: evaluate both with the same --seed."
            )
            title = f"{len(pairs):,} pairs · {SHOWN[self.shown][0]} · by {self.order}"
            self.query_one("#compare-list").border_title = title
            self._look()

    def _show_step(self) -> None:
        """Both panes at the present step."""
        self._show_playing()
        if self.comparison.pair is None:
            return
        at = self.playback.at
        if any(side.known_image(at) is None for side in self.sides):
            self._show_step_when_read(at)
        self._show_panes()

    def _show_panes(self) -> None:
        at = self.playback.at
        for name, side in zip(SIDES, self.sides, strict=True):
            if side.story is not None:
                pane = self.query_one(f"#compare-{name}", SidePane)
                pane.show(side.story, at, side.weight, side.known_image(at), self.playback.playing)

    @on(DataTable.RowHighlighted)
    def _look(self) -> None:
        """Show the pair under the cursor soon, once the cursor rests."""
        self._delays.later("look", LOOK_SECONDS, self._look_now)

    def _look_now(self) -> None:
        pair = self.current
        if pair is None:
            self.comparison.pair = None
            for pane in self.query(SidePane):
                pane.clear()
            self._show_playing()
        # the same pair again after a resize or an order: nothing to read
        elif pair is not self.comparison.pair:
            self._load(pair)

    # -- actions

    @on(DataTable.RowSelected)
    def _open(self) -> None:
        """Play the pair; where there is no room for all, in place of the list."""
        pair = self.current
        if pair is not None:
            self.add_class("-opened")
            self._load(pair, play=True)

    def action_pair(self, by: int) -> None:
        """The pair above or below, also while the list is hidden."""
        self.table.move_cursor(row=self.table.cursor_row + by)

    def action_filter(self) -> None:
        self.shown = (self.shown + 1) % len(SHOWN)
        self._show_pairs(restart=True)

    def action_order(self) -> None:
        names = list(ORDERS)
        self.order = names[(names.index(self.order) + 1) % len(names)]
        self._show_pairs(restart=True)

    @work(group="choose", exclusive=True)
    async def action_choose(self, number: int) -> None:
        found = [one for run in self.comparison.known.values() for one in run if not one.problem]
        several = len(self.comparison.known) > 1
        choices = [(f"{one.run.name} {one.name}" if several else one.name, one.facts) for one in found]
        present = self.sides[number].evaluation.database if self.sides else None
        now = next((k for k, one in enumerate(found) if one.database == present), 0)
        chosen = await self.app.push_screen_wait(ChooseScreen(f"the {SIDES[number]} side", choices, now))
        if chosen is None:
            return
        # nothing was compared yet: the choice stands on both sides until the other one is chosen
        both = [side.evaluation for side in self.sides] or [found[chosen], found[chosen]]
        both[number] = found[chosen]
        with self._telling():
            await self._use(both[0], both[1])

    @work(group="choose", exclusive=True)
    async def action_swap(self) -> None:
        if self.sides:
            with self._telling():
                await self._use(self.sides[1].evaluation, self.sides[0].evaluation)

    def action_replay(self, number: int) -> None:
        pair = self.comparison.pair
        if pair is None:
            return
        side = self.sides[number].evaluation
        # next and previous go through this side of the pairs, as they are filtered and ordered
        trail = FixedTrail([(one.sides[number].id, 0) for one in self.listed])
        episode = pair.sides[number].id
        self.post_message(OpenReplay(side.run, episode, self.playback.at, side.database, trail))

    def action_panes(self) -> None:
        self.toggle_class("-opened" if self.has_class("-narrow") else "-closed")
        self.call_after_refresh(self._show_pairs)

    def action_back(self) -> None:
        """From the two episodes to the list, else leave."""
        if self.has_class("-opened") and self.has_class("-narrow"):
            self.remove_class("-opened")
            self.playback.playing = False
            self._show_playing()
            self.call_after_refresh(self._show_pairs)
        elif len(self.app.screen_stack) > 1:
            self.dismiss()
