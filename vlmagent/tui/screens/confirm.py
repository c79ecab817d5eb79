"""A question before something that cannot be undone."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from vlmagent.tui.keys import key


class ConfirmScreen(ModalScreen[bool]):
    """Asks a question; answers True or False. The harmless answer has the focus."""

    CSS_PATH = "confirm.tcss"
    BINDINGS: ClassVar = [
        key("y", "answer(True)", "Yes", "confirm.yes", "Do it", show=False),
        key("n,escape", "answer(False)", "No", "confirm.no", "Leave it", show=False),
        key("left,right", "other", "Other answer", "confirm.other", "The other answer", show=False),
    ]

    def __init__(self, question: Content, yes: str, no: str = "Cancel") -> None:
        super().__init__()
        self._question, self._yes, self._no = question, yes, no

    def compose(self) -> ComposeResult:
        """The question and two buttons."""
        with Vertical(id="confirm-box"):
            yield Static(self._question, id="confirm-question")
            with Horizontal(id="confirm-buttons"):
                yield Button(f"{self._no} (n)", id="confirm-no", compact=True)
                yield Button(f"{self._yes} (y)", id="confirm-yes", variant="error", compact=True)

    def on_mount(self) -> None:
        """Enter at once changes nothing."""
        self.query_one("#confirm-no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """A button was chosen."""
        self.dismiss(event.button.id == "confirm-yes")

    def action_answer(self, yes: bool) -> None:
        """A key was chosen."""
        self.dismiss(yes)

    def action_other(self) -> None:
        """To the other button."""
        self.focus_next()
