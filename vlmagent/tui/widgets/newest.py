"""The newest step of a run: its picture, what the model thought, what it did.

Deliberately reads nothing: it is handed a step and its picture.
"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.content import Content

from vlmagent.store.rows import TransitionRow
from vlmagent.text import number
from vlmagent.tui.keys import key
from vlmagent.tui.text import safe_line, safe_text
from vlmagent.tui.widgets.picture import Picture
from vlmagent.tui.widgets.steady import Steady
from vlmagent.types import ImageArray


class StepText(VerticalScroll):
    """The text part, which scrolls."""

    BINDINGS: ClassVar = [
        key("enter", "screen.replay", "Replay", "newest.replay", "Replay the episode of this step")
    ]


class NewestStep(Container):
    """The newest step, followed until the reader scrolls its text.

    Attributes:
        following: whether a newer step replaces the one shown.
        waiting: steps that came while it did not follow.
    """

    DEFAULT_CSS = """
    NewestStep { border: round $foreground 20%; border-title-color: $text-muted; layout: vertical; }
    NewestStep:focus-within { border: round $primary; border-title-color: $foreground; }
    NewestStep { border-subtitle-color: $warning; }
    NewestStep > Picture { height: 1fr; }
    NewestStep > StepText { height: 1fr; padding: 0 1; }
    NewestStep Static { width: 1fr; height: auto; }
    """

    def __init__(self, images: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = "newest step"
        self.following = True
        self.waiting = 0
        self.step: TransitionRow | None = None
        self.picture = Picture(None, mode=images, empty="")
        self.picture.display = images != "off"
        self._pane = StepText()
        self._text = Steady("no step yet")

    def compose(self) -> ComposeResult:
        yield self.picture
        with self._pane:
            yield self._text

    def on_mount(self) -> None:
        # not at the start: the first position is nobody's scrolling
        self.watch(self._pane, "scroll_y", self._scrolled, init=False)

    def show(self, step: TransitionRow, image: ImageArray | None) -> None:
        """Show a newer step, unless the reader is still at another one: then only count."""
        if self.step is not None and not self.following:
            # ids of steps are consecutive: the difference is how many came since the one shown
            self.waiting += step.id - self.step.id - self.waiting
            self._subtitle()
            return
        self.step = step
        self.waiting = 0
        self.picture.show(image, moving=True)
        self._text.say(describe(step))
        self._subtitle()

    def clear(self) -> None:
        """Forget the step."""
        self.step, self.following = None, True
        self.picture.show(None)
        self._text.say(Content("no step yet"))

    def follow(self) -> None:
        """Show newer steps again."""
        self.following = True
        self.waiting = 0
        self._pane.scroll_home(animate=False)
        self._subtitle()

    def focus_text(self) -> None:
        """Give the scrolling text the focus."""
        self._pane.focus()

    def _scrolled(self, scroll_y: float) -> None:
        # at the top, with half a line of tolerance: whoever scrolls is reading
        self.following = scroll_y < 0.5
        if self.following:
            self.waiting = 0
        self._subtitle()

    def _subtitle(self) -> None:
        if self.following:
            self.border_subtitle = ""
        else:
            self.border_subtitle = f"{self.waiting:,} newer ↓ f" if self.waiting else "f follows"


def describe(step: TransitionRow) -> Content:
    """A step in words."""
    where = f"env {step.env_index} · episode {step.episode_id:,} · step {step.step + 1}"
    action = safe_line(step.action, 80, style="bold $success" if step.legal_output else "bold $warning")
    parts: list[Content | tuple[str, str]] = [
        (where, "$foreground-muted"),
        Content("\n"),
        ("action  ", "$foreground-muted"),
        action,
    ]
    if not step.legal_output:
        parts.append(("  drawn at random: no legal output", "$warning"))
    parts += [("   reward ", "$foreground-muted"), (number(step.reward), "bold"), Content("\n")]
    # an output that was not understood has no thoughts; then all of it is shown
    label = "" if step.thoughts else "output: "
    parts += [(label, "$foreground-muted"), safe_text(step.thoughts or step.output, 6000), Content("\n")]
    known = [
        ("value", step.value),
        ("log-prob thought", step.thought_logprob),
        ("action", step.action_logprob),
    ]
    texts = [f"{name} {number(value)}" for name, value in known if value is not None]
    parts.append((" · ".join(texts), "$foreground-muted"))
    return Content.assemble(*parts)
