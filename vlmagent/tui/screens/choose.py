"""Chooses one of several things by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from vlmagent.tui.keys import key
from vlmagent.tui.text import safe_line


class ChooseScreen(ModalScreen[int | None]):
    """Dismissed with the index of the choice, or with None.

    Args:
        title: what is chosen.
        choices: a name and more words for each.
        chosen: index of the present choice.
    """

    CSS_PATH = "choose.tcss"
    BINDINGS: ClassVar = [
        key("enter", "accept", "Choose", "choose.accept", "Take this one"),
        key("escape", "dismiss(None)", "Cancel", "choose.cancel", "Leave everything as it was"),
    ]

    def __init__(self, title: str, choices: Sequence[tuple[str, str]], chosen: int = 0) -> None:
        super().__init__()
        self._title, self.choices, self._chosen = title, choices, chosen

    def compose(self) -> ComposeResult:
        # names are padded to one width, so that what follows them stands in a column
        width = max((len(name) for name, _ in self.choices), default=0)
        options = [
            Option(
                Content.assemble(
                    (f"{'●' if k == self._chosen else ' '} ", "$primary"),
                    safe_line(f"{name:<{min(width, 48)}}", style="bold"),
                    "   ",
                    safe_line(more, style="$foreground-muted"),
                )
            )
            for k, (name, more) in enumerate(self.choices)
        ]
        with Vertical(id="choose-box") as box:
            box.border_title = self._title
            if options:
                yield OptionList(*options, id="choose-list", markup=False)
            else:
                yield Static("There is nothing to choose from.", markup=False)

    def on_mount(self) -> None:
        if self.choices:
            self.query_one(OptionList).highlighted = self._chosen

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_index)

    def action_accept(self) -> None:
        # without choices there is no list to ask
        self.dismiss(self.query_one(OptionList).highlighted if self.choices else None)
