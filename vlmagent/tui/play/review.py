"""An episode in review: the person's moves beside the opponent's and the expert's, and the score so far.

Deliberately reads nothing: it is handed a game.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import ClassVar

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.css.query import NoMatches
from textual.screen import ModalScreen
from textual.widgets import Static

from vlmagent.errors import StoreError
from vlmagent.play.table import Moment
from vlmagent.text import percent
from vlmagent.tui.data.step_text import signed
from vlmagent.tui.keys import key
from vlmagent.tui.play.game import Choice, Game
from vlmagent.tui.play.status import opponent_name, outcome_words, player_name
from vlmagent.tui.text import safe_cell

# between looks for answers that came meanwhile
LOOK_SECONDS = 0.5


class PlayReviewScreen(ModalScreen[bool]):
    """Dismissed with True when the next episode is wanted. Answers that are still to come appear as they come."""

    CSS_PATH = "review.tcss"
    BINDINGS: ClassVar = [
        key("n,enter", "answer(True)", "Next", "play-review.next", "The next episode"),
        key("escape,v", "answer(False)", "Close", "play-review.close", "Back to the table"),
    ]

    def __init__(self, game: Game) -> None:
        super().__init__()
        self.game = game

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="play-review-box") as box:
            box.border_title = "review"
            box.border_subtitle = "n: next episode · escape: back"
            yield Static(id="play-review-text")

    def on_mount(self) -> None:
        self.set_interval(LOOK_SECONDS, self._look)
        self._look()

    @work(exclusive=True)
    async def _look(self) -> None:
        # the review or the whole session was closed while the expert was asked
        with contextlib.suppress(NoMatches, StoreError):
            choices = await self.game.choices()
            self.query_one("#play-review-text", Static).update(review(self.game, choices))

    def action_answer(self, goes_on: bool) -> None:
        self.dismiss(goes_on)


def review(game: Game, choices: Sequence[Choice]) -> Group:
    """The whole text."""
    parts: list[Text | Table] = []
    # one table or two
    for name, moment in zip(("you", opponent_name(game)), game.moments, strict=False):
        parts.append(_line("table" if len(game.moments) == 1 else name, moment))
    parts.append(Text())
    if choices:
        parts += [_table(game, choices), Text()]
    same, compared = game.alike
    if compared:
        parts.append(Text(f"alike in {same} of {compared} states ({percent(same / compared)})"))
    for player, record in game.score.records.items():
        facts = f"success {record.successes} of {record.episodes} ({percent(record.success)})"
        text = Text.assemble(safe_cell(f"{player_name(player)}: ", style="bold"), facts)
        parts.append(text.append(f" · mean return {signed(record.mean_return)}"))
    return Group(*parts)


def _line(name: str, moment: Moment) -> Text:
    text = Text.assemble(safe_cell(f"{name}: ", style="bold"), outcome_words(moment))
    return text.append_text(safe_cell("  " + " ".join(moment.actions), 200, style="dim"))


def _table(game: Game, choices: Sequence[Choice]) -> Table:
    """One row per step; columns that would say nothing are left out."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    columns = {
        "step": [Text(str(len(choice.before.steps) + 1), justify="right") for choice in choices],
        "state": [safe_cell(choice.before.observation.state_text or "", 40) for choice in choices],
        "you": [safe_cell(choice.action, 30, style="bold") for choice in choices],
        opponent_name(game): [_move(choice.theirs, choice.action) for choice in choices],
        "expert": [_move(choice.expert, choice.action) for choice in choices],
        "reward": [Text(signed(choice.reward), justify="right") for choice in choices],
    }
    # a title is missing where there is no opponent; a column is empty where there is no expert or no answer
    said = {title: cells for title, cells in columns.items() if title and any(cell.plain for cell in cells)}
    for title in said:
        table.add_column(safe_cell(title, 30))
    for row in zip(*said.values(), strict=True):
        table.add_row(*row)
    return table


def _move(action: str | None, yours: str) -> Text:
    """Another one's move: a tick where it is the same, nothing where it is not known."""
    if action is None:
        return Text()
    return safe_cell(
        f"{action} {'✓' if action == yours else '✗'}", 30, style="green" if action == yours else "yellow"
    )
