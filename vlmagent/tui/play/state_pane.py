"""What is told of a state in words: the environment's text, or the whole prompt.

Deliberately knows nothing of tasks.
"""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from vlmagent.play.table import Moment
from vlmagent.tui.text import safe_text
from vlmagent.tui.widgets.steady import Steady


def goal_of(moment: Moment) -> str:
    """What is to be reached, where the environment says it in ``info`` in words; "" elsewhere."""
    goal = moment.state.get("goal_text")
    return goal if isinstance(goal, str) else ""


class StatePane(VerticalScroll):
    """A text as high as it needs to be, up to a share of the screen; keys of the screen scroll it.

    Attributes:
        prompt: whether the prompt is shown.
    """

    DEFAULT_CSS = """
    StatePane {
        height: auto; max-height: 50%; border: round $foreground 20%; border-title-color: $text-muted; padding: 0 1;
        scrollbar-size-vertical: 1;
    }
    """

    # keys belong to the actions: a pane with the focus would take the arrows to scroll
    can_focus = False

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = "state"
        self.prompt = False
        self._shown = ""

    def compose(self) -> ComposeResult:
        yield Steady(id="play-state-text")

    def show(self, moment: Moment) -> None:
        """Show a state; from its beginning, where it is another one."""
        self.border_title = "prompt" if self.prompt else "state"
        text = moment.prompt if self.prompt else _without_goal(moment)
        self.display = bool(text)
        self.query_one(Steady).say(safe_text(text))
        if text != self._shown:
            self._shown = text
            self.scroll_home(animate=False)

    def move(self, lines: int) -> None:
        """Scroll some lines down, or up where negative."""
        self.scroll_relative(y=lines, animate=False)


def _without_goal(moment: Moment) -> str:
    """The environment's text; a goal at its end has a line of its own on the screen."""
    goal = goal_of(moment)
    text = moment.observation.state_text or ""
    return text.removesuffix(goal).rstrip() if goal else text
