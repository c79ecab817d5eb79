"""A question before something that cannot be undone."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from vlmagent.paths import Run
from vlmagent.tui.background import attempt
from vlmagent.tui.data.commands import how_to_resume
from vlmagent.tui.keys import key
from vlmagent.tui.text import safe


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
        with Vertical(id="confirm-box"):
            yield Static(self._question, id="confirm-question")
            with Horizontal(id="confirm-buttons"):
                yield Button(f"{self._no} (n)", id="confirm-no", compact=True)
                yield Button(f"{self._yes} (y)", id="confirm-yes", variant="error", compact=True)

    def on_mount(self) -> None:
        """Enter at once changes nothing."""
        self.query_one("#confirm-no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "confirm-yes")

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)

    def action_other(self) -> None:
        # there are two buttons, so that the next one is the other in either direction
        self.focus_next()


# how long a run may take to finish its step and its checkpoint before it is said to go on
STOP_SECONDS = 600.0


def stop_run(app: App[Any], run: Run, state: str, alive: bool) -> None:
    """Ask whether to stop the run, then do it without holding anything up; says how it went."""
    if alive:
        # the application's worker, not the screen's: it goes on when the screen is left meanwhile
        app.run_worker(_stop(app, run), group="stop")
    else:
        app.notify(f"This run is not running: it is {state}.", severity="warning")


async def _stop(app: App[Any], run: Run) -> None:
    name = safe(run.name, 80, lines=False)
    question = Content.assemble(
        "Stop ", (name, "bold"), "?\n\nIt finishes its step, saves a checkpoint and ends. It can be continued with ",
        (safe(how_to_resume(run), lines=False), "$foreground-muted"), ".",
    )  # fmt: skip
    if not await app.push_screen_wait(ConfirmScreen(question, "Stop the run")):
        return
    app.notify(f"{name} is finishing its step …", markup=False)
    # here: it builds the models of every setting, a fifth of the time to the first frame
    from vlmagent.runs import launch

    state = await attempt(app, lambda: launch.stop_run(run, STOP_SECONDS))
    if state is not None:
        app.notify(f"{name}: {state}.", markup=False)
