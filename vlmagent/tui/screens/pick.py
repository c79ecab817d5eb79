"""Choosing runs: which to lay over the present one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import SelectionList, Static
from textual.widgets.selection_list import Selection

from vlmagent.paths import Run
from vlmagent.tui.data.catalogue import RunSummary
from vlmagent.tui.data.states import state_sign
from vlmagent.tui.keys import key
from vlmagent.tui.text import safe_line


class PickRunsScreen(ModalScreen[list[Run] | None]):
    """Lists runs with boxes to tick; answers the ticked ones, None when left with escape."""

    CSS_PATH = "pick.tcss"
    BINDINGS: ClassVar = [
        key("enter", "accept", "Show", "pick.accept", "Show the chosen runs"),
        key("escape", "leave", "Cancel", "pick.leave", "Leave everything as it was"),
    ]

    def __init__(self, runs: Sequence[RunSummary], chosen: Sequence[Run]) -> None:
        super().__init__()
        self._runs, self._chosen = runs, set(chosen)

    def compose(self) -> ComposeResult:
        with Vertical(id="pick-box") as box:
            box.border_title = "overlay runs"
            box.border_subtitle = "space chooses · enter shows · escape leaves"
            if not self._runs:
                yield Static("There is no other run.")
            yield _List(
                *(
                    Selection(
                        safe_line(f"{state_sign(run.state)} {run.name}  {run.task}"),
                        run.run,
                        run.run in self._chosen,
                    )
                    for run in self._runs
                )
            )

    def action_accept(self) -> None:
        self.dismiss(list(self.query_one(_List).selected))

    def action_leave(self) -> None:
        self.dismiss(None)


class _List(SelectionList[Run]):
    """A list in which enter is left to the screen."""

    BINDINGS: ClassVar = [
        key("space", "select", "Choose", "pick.toggle", "Choose or drop this run"),
        # the list's own enter would tick the row
        key("enter", "screen.accept", "Show", "pick.show", "Show the chosen runs", show=False),
    ]
