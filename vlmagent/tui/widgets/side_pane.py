"""One side of a synchronized replay: picture, numbers, output.

Deliberately reads nothing: it is handed a story and a picture.
"""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from vlmagent.tui.data.step_text import outcome
from vlmagent.tui.data.story import Story
from vlmagent.tui.widgets.picture import Picture
from vlmagent.tui.widgets.step_facts import StepFacts
from vlmagent.tui.widgets.tokens import Tokens
from vlmagent.types import ImageArray


class SidePane(Vertical):
    """Shows one step of one side; beyond its last step that one stays, dimmed."""

    DEFAULT_CSS = """
    SidePane { width: 1fr; height: 1fr; }
    SidePane > .side-title { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    SidePane > Picture { height: 1fr; }
    SidePane > Tokens { height: 1fr; border: none; border-top: solid $foreground 20%; }
    SidePane.-over > Picture, SidePane.-over > Tokens, SidePane.-over > StepFacts { opacity: 55%; }
    """

    def __init__(self, images: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._images = images

    def compose(self) -> ComposeResult:
        yield Static("", classes="side-title", markup=False)
        picture = Picture(mode=self._images, empty="")
        # numbers and output get the room
        picture.display = self._images != "off"
        yield picture
        yield StepFacts(brief=True)
        yield Tokens()

    def show(
        self, story: Story, at: int, weight: float | None, image: ImageArray | None, moving: bool
    ) -> None:
        """Show step ``at``, or the last one when the episode was over before."""
        last = len(story.steps) - 1
        # the other side's episode is longer
        over, step = at > last, min(at, last)
        row = story.steps[step]
        word = f"over after step {last + 1}" if over else f"step {step + 1} of {last + 1}"
        parts: list[Content | str | tuple[str, str]] = [
            (f"{word}  ", "$warning" if over else "$foreground-muted")
        ]
        parts.append(outcome(story.episode, len(story.steps)))
        self.query_one(".side-title", Static).update(Content.assemble(*parts))
        self.query_one(Picture).show(image, moving=moving)
        self.query_one(StepFacts).show(story.steps, step, weight)
        self.query_one(Tokens).show(row, story.pieces.get(row.id))
        self.set_class(over, "-over")

    def clear(self) -> None:
        """Show nothing."""
        self.query_one(".side-title", Static).update("")
        self.query_one(Picture).show(None)
        self.query_one(StepFacts).clear()
        self.query_one(Tokens).show(None)
        self.set_class(False, "-over")
