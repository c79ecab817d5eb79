"""What a run said: its events, newest last, followed until the reader scrolls back.

Deliberately reads nothing: it is handed events.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from vlmagent.store.rows import EventRow
from vlmagent.tui.text import safe_line

# events; all are one text that is laid out anew with each new one
KEPT = 500
CLOCK, LEAST_TEXT = 11, 40
"""Cells of clock and sign, and characters of its text that an event gets however small the pane is."""
_LEVELS = {"error": "bold $error", "warning": "$warning", "phase": "$primary", "info": ""}
_SIGNS = {"error": "✗", "warning": "!", "phase": "▸", "info": "·"}


class EventLog(VerticalScroll):
    """The event log.

    Attributes:
        following: whether the newest event is kept in sight.
        unread: events that came while it did not follow or was not displayed.
    """

    DEFAULT_CSS = """
    EventLog { border: round $foreground 20%; border-title-color: $text-muted; padding: 0 1; }
    EventLog:focus { border: round $primary; border-title-color: $foreground; }
    EventLog { border-subtitle-color: $warning; }
    EventLog > Static { width: 1fr; }
    """

    class UnreadChanged(Message):
        """The number of unread events is another one."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = "events"
        self.following = True
        self.unread = 0
        self._events: deque[EventRow] = deque(maxlen=KEPT)
        self._text = Static("", markup=False)

    def compose(self) -> ComposeResult:
        yield self._text

    @property
    def events(self) -> list[EventRow]:
        """The events shown, oldest first."""
        return list(self._events)

    def add(self, events: Iterable[EventRow], *, old: bool = False) -> None:
        """Show more events. ``old`` ones, from before the dashboard came, are not unread."""
        new = list(events)
        if not new:
            return
        self._events.extend(new)
        self._show()
        if self.following:
            # after the layout: before it the end is where it was without the new events
            self.call_after_refresh(self.scroll_end, animate=False)
        # displayed and followed, an event is read as it comes
        if not old and (not self.following or not self.display):
            self._count(self.unread + len(new))

    def on_resize(self) -> None:
        """How much of a long event is shown depends on the size."""
        self._show()

    def _show(self) -> None:
        """All events; none is longer than half the pane, so that it does not hide what came before it."""
        width, height = self.scrollable_content_region.size
        room = max(LEAST_TEXT, width * (height // 2) - CLOCK)
        self._text.update(Content("\n").join([_line(event, room) for event in self._events]))

    def clear(self) -> None:
        """Forget all events, because another run took the place of the one they are of."""
        self._events.clear()
        self._text.update("")
        self._count(0)

    def follow(self) -> None:
        """Show the newest event, and keep it in sight."""
        self.following = True
        self.scroll_end(animate=False)
        self._count(0)

    def seen(self) -> None:
        """The pane was opened: if it follows, nothing is unread any more."""
        if self.following:
            self._count(0)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """The reader scrolled, or the newest event was brought into sight."""
        super().watch_scroll_y(old_value, new_value)
        # half a line of tolerance, because positions are fractions
        at_end = new_value >= self.max_scroll_y - 0.5
        # new events move the end, not the position: that is no scrolling of the reader's
        if at_end != self.following and new_value != old_value:
            self.following = at_end
            self._count(0 if at_end else self.unread)

    def _count(self, unread: int) -> None:
        changed = unread != self.unread
        self.unread = unread
        if self.following:
            self.border_subtitle = ""
        else:
            self.border_subtitle = f"{unread} new ↓ f" if unread else "f follows"
        if changed:
            self.post_message(self.UnreadChanged())


def _line(event: EventRow, room: int) -> Content:
    clock = time.strftime("%H:%M:%S", time.localtime(event.at))
    style = _LEVELS.get(event.level, "")
    sign = _SIGNS.get(event.level, "·")
    return Content.assemble(
        (f"{clock} ", "$foreground-muted"),
        (f"{sign} ", style or "$foreground-muted"),
        safe_line(event.text, room, style=style),
    )
