"""Does something once the user has rested for a moment, not at every key on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from textual.css.query import NoMatches
from textual.message_pump import MessagePump
from textual.timer import Timer


class Delays:
    """Actions of one widget or screen that wait, by name; asking for one again begins its wait anew."""

    def __init__(self, owner: MessagePump) -> None:
        self._owner = owner
        self._timers: dict[str, Timer] = {}

    def later(self, name: str, seconds: float, action: Callable[[], object]) -> None:
        """Do ``action`` after a while, unless the same name is asked for or cancelled before."""
        self.cancel(name)

        def act() -> None:
            with contextlib.suppress(NoMatches):  # the screen was closed meanwhile
                action()

        # one that has fired stays in the table: to stop it again does nothing
        self._timers[name] = self._owner.set_timer(seconds, act)

    def cancel(self, name: str) -> None:
        """Do not do it, if it still waits."""
        if name in self._timers:
            self._timers.pop(name).stop()
