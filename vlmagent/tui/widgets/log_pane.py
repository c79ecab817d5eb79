"""The end of a log file: follows what is written, and lets a reader scroll back without being dragged down.

Deliberately reads nothing: it is handed lines, and asks for earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from vlmagent.tui.data.log_tail import LogNews
from vlmagent.tui.keys import key

# lines that are kept while following, and at most while a reader scrolls back
FOLLOWED, MOST_LINES = 5_000, 50_000


class LogPane(ScrollView, can_focus=True):
    """Lines of a log.

    Attributes:
        following: whether the newest line is kept in sight.
        lines: those kept, oldest first.
        problem: what is said instead of lines; "" when there is something to show.
    """

    DEFAULT_CSS = """
    LogPane { border: round $foreground 20%; border-title-color: $text-muted; padding: 0 1; }
    LogPane { border-subtitle-color: $warning; }
    LogPane:focus { border: round $primary; border-title-color: $foreground; }
    """
    BINDINGS: ClassVar = [
        key(
            "enter", "screen.follow", "Follow", "log.follow", "To the newest line, and follow it", show=False
        ),
    ]

    class TopReached(Message):
        """The reader has scrolled to the first line there is: earlier ones may be wanted."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = "log"
        self.following = True
        self.lines: list[str] = []
        self.problem = ""
        self._partial = ""
        self._missed = 0

    @property
    def shown(self) -> Sequence[str]:
        """The lines, with the one that is still being written."""
        return [*self.lines, self._partial] if self._partial else self.lines

    def show(self, news: LogNews) -> None:
        """Add what was written since the last look, or begin anew."""
        self.problem = news.problem
        if news.anew:
            self.lines, self.following, self._missed = [], True, 0
        if news.anew or news.lines or news.partial != self._partial:
            self.lines.extend(news.lines)
            self._partial = news.partial
            self._missed += 0 if self.following else len(news.lines)
            self._forget_oldest()
            self._changed()

    def put_before(self, lines: Sequence[str]) -> None:
        """Earlier lines; what the reader looks at stays where it is."""
        self.lines[:0] = lines
        self._changed()
        self.scroll_to(y=self.scroll_y + len(lines), animate=False, force=True)

    @property
    def is_full(self) -> bool:
        """Whether no earlier lines should come."""
        return len(self.lines) >= MOST_LINES

    def follow(self) -> None:
        """Show the newest line, and keep it in sight."""
        self.following, self._missed = True, 0
        self._changed()

    def _forget_oldest(self) -> None:
        more = len(self.lines) - (FOLLOWED if self.following else MOST_LINES)
        if more > 0:
            del self.lines[:more]
            if not self.following:
                self.scroll_to(y=max(0, self.scroll_y - more), animate=False, force=True)

    def _changed(self) -> None:
        width = max((cell_len(line) for line in self.shown), default=0)
        self.virtual_size = Size(width, len(self.shown))
        self._subtitle()
        self.refresh()
        if self.following:
            # after the layout: before it the end is where it was without the new lines
            self.call_after_refresh(self._to_end)

    def _to_end(self) -> None:
        if self.following:
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True)

    def on_resize(self) -> None:
        self._to_end()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """The reader scrolled, or the newest line was brought into sight."""
        super().watch_scroll_y(old_value, new_value)
        # new lines move the end, not the position: only upwards is a reader's own doing
        if new_value < old_value and new_value < self.max_scroll_y:
            self.following = False
        elif new_value >= self.max_scroll_y:
            self.following, self._missed = True, 0
        self._subtitle()
        if new_value < 1 <= old_value:
            self.post_message(self.TopReached())

    def _subtitle(self) -> None:
        if self.following:
            self.border_subtitle = ""
        else:
            self.border_subtitle = f"{self._missed:,} new ↓ f" if self._missed else "f follows"

    def render_line(self, y: int) -> Strip:
        """One line in sight."""
        left, top = self.scroll_offset
        width, lines = self.scrollable_content_region.width, self.shown
        if self.problem or not lines:
            text = (self.problem or "nothing was written yet") if y == 0 else ""
            return Strip([Segment(text, self.rich_style)]).adjust_cell_length(width, self.rich_style)
        text = lines[top + y] if top + y < len(lines) else ""
        return Strip([Segment(text, self.rich_style)]).crop_extend(left, left + width, self.rich_style)
