"""A look at one step beside a list: picture, numbers, output.

Deliberately reads nothing: it is handed a story and a picture.
"""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from vlmagent.store.rows import TransitionRow
from vlmagent.tui.data.story import Story
from vlmagent.tui.widgets.picture import Picture
from vlmagent.tui.widgets.step_facts import StepFacts
from vlmagent.tui.widgets.tokens import Tokens
from vlmagent.types import ImageArray


class StepPreview(Vertical):
    """Shows one step of an episode."""

    DEFAULT_CSS = """
    StepPreview { width: 48; height: 1fr; border-left: solid $foreground 20%; }
    StepPreview > #preview-title { height: 1; padding: 0 1; color: $foreground-muted; text-wrap: nowrap; }
    StepPreview > Picture { height: 2fr; max-height: 24; }
    StepPreview > Tokens { height: 3fr; border: none; padding: 0 1; border-top: solid $foreground 20%; }
    """

    def __init__(self, images: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._images = images
        self.row: TransitionRow | None = None

    def compose(self) -> ComposeResult:
        yield Static("", id="preview-title", markup=False)
        picture = Picture(mode=self._images, empty="")
        picture.display = self._images != "off"
        yield picture
        yield StepFacts()
        yield Tokens()

    def show(
        self, story: Story, step: int, weight: float | None, image: ImageArray | None, moving: bool
    ) -> None:
        """Show a step.

        Args:
            moving: others will follow soon.
        """
        self.row = story.steps[step]
        title = f"episode {story.episode.id:,} · step {step + 1} of {len(story.steps)}"
        self.query_one("#preview-title", Static).update(title)
        self.query_one(Picture).show(image, moving=moving)
        self.query_one(StepFacts).show(story.steps, step, weight)
        self.query_one(Tokens).show(self.row, story.pieces.get(self.row.id))

    def clear(self) -> None:
        """Show nothing."""
        self.row = None
        self.query_one("#preview-title", Static).update("")
        self.query_one(Picture).show(None)
        self.query_one(StepFacts).clear()
        self.query_one(Tokens).show(None)
