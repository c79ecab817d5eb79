"""One line that shows where a replay stands and what each step earned; a click seeks.

Deliberately knows nothing of episodes: it is handed marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from vlmagent.tui.data.playback import Playback

# cells: a short episode must not be stretched over the whole line
WIDEST_STEP = 8


def mark_of(reward: float | None) -> str:
    """``good``, ``bad`` or ``plain`` for a step's reward; None for a step that is not there."""
    if not reward:
        return "plain"
    return "good" if reward > 0 else "bad"


class Timeline(Widget):
    """Play state, speed, one bar a step, and the position in numbers."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "timeline--good", "timeline--bad", "timeline--plain", "timeline--here", "timeline--words",
    }  # fmt: skip
    DEFAULT_CSS = """
    Timeline {
        height: 1; width: 1fr; padding: 0 1; background: $panel;
        & > .timeline--good { color: $success; }
        & > .timeline--bad { color: $error; }
        & > .timeline--plain { color: $foreground 35%; }
        & > .timeline--here { color: $foreground; text-style: bold; }
        & > .timeline--words { color: $text-muted; }
    }
    """

    @dataclass
    class Seek(Message):
        """The user points at a step."""

        step: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._marks: tuple[str, ...] = ()
        self._state = (0, False, 1.0)
        self._bar = (0, 0)  # first cell and number of cells of the bar

    def show(self, marks: Sequence[str], playback: Playback) -> None:
        """Show a position.

        Args:
            marks: what each step earned, see ``mark_of``.
        """
        wanted = (tuple(marks), (playback.at, playback.playing, playback.speed))
        if wanted != (self._marks, self._state):
            self._marks, self._state = wanted
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The line."""
        at, playing, speed = self._state
        width, count = self.content_size.width, len(self._marks)
        words = self.get_component_rich_style("timeline--words")
        left = f"{'▶' if playing else '‖'} {f'{speed:g}/s':<7}"
        right = f" {at + 1 if count else 0}/{count}"
        room = max(0, width - len(left) - len(right))
        # with more steps than room a cell stands for several
        cells = min(room, count * WIDEST_STEP) if count <= room else room
        self._bar = (len(left), cells)
        segments = [Segment(left, self.get_component_rich_style("timeline--here") if playing else words)]
        # the middle of the cells of the present step; -1 is in no cell
        knob = cells * (2 * at + 1) // (2 * count) if count else -1
        for cell in range(cells):
            first, last = _steps_of(cell, cells, count)
            # among several steps the one that stands out is shown, a bad one before a good one
            kind = next((k for k in ("bad", "good") if k in self._marks[first:last]), "plain")
            # a gap after the last cell of a step, where steps have several cells
            edge = cell + 1 < cells and _steps_of(cell + 1, cells, count)[0] != first and count < cells
            # a cell that stands for several steps is the present one if it has it among them
            here = cell == knob or (count > cells and first <= at < last)
            style = self.get_component_rich_style("timeline--here" if here else f"timeline--{kind}")
            character = "╸" if edge else "━"
            segments.append(Segment("●" if here else character, style))
        segments.append(Segment(right, words))
        return Strip(segments).adjust_cell_length(width, self.rich_style)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self._point(event)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        # dragged, not only moved over
        if event.button:
            self._point(event)

    def _point(self, event: events.MouseEvent) -> None:
        first, cells = self._bar
        # from the widget's left edge, inside which the padding and the words come first
        cell = event.x - self.styles.padding.left - first
        if 0 <= cell < cells:
            self.post_message(self.Seek(_steps_of(cell, cells, len(self._marks))[0]))


def _steps_of(cell: int, cells: int, count: int) -> tuple[int, int]:
    """The steps [first, last) that a cell of the bar stands for; at least one."""
    first = cell * count // cells
    return first, max(first + 1, (cell + 1) * count // cells)
