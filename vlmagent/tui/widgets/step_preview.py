"""A look at one step beside a list: picture, numbers, output.

Deliberately reads nothing: it is handed a look at a step.
"""

from __future__ import annotations

import time

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from vlmagent.store.rows import TransitionRow
from vlmagent.tui.data.episode_feed import Look
from vlmagent.tui.widgets.picture import Picture
from vlmagent.tui.widgets.step_facts import StepFacts
from vlmagent.tui.widgets.tokens import Tokens

# steps that follow each other sooner are looked through, with a key held down
MOVING_SECONDS = 0.5


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
        self._shown_at = 0.0

    def compose(self) -> ComposeResult:
        yield Static("", id="preview-title", markup=False)
        picture = Picture(mode=self._images, empty="")
        picture.display = self._images != "off"
        yield picture
        yield StepFacts()
        yield Tokens()

    def show(self, look: Look) -> None:
        """Show a step; while one follows the other, pictures are drawn the fast way."""
        now = time.monotonic()
        moving = now - self._shown_at < MOVING_SECONDS
        self._shown_at = now
        story, step = look.story, look.step
        self.row = story.steps[step]
        title = f"episode {story.episode.id:,} · step {step + 1} of {len(story.steps)}"
        self.query_one("#preview-title", Static).update(title)
        self.query_one(Picture).show(look.image, moving=moving)
        self.query_one(StepFacts).show(story.steps, step, look.weight)
        self.query_one(Tokens).show(self.row, story.pieces.get(self.row.id))

    def clear(self) -> None:
        """Show nothing."""
        self.row = None
        self.query_one("#preview-title", Static).update("")
        self.query_one(Picture).show(None)
        self.query_one(StepFacts).clear()
        self.query_one(Tokens).show(None)
