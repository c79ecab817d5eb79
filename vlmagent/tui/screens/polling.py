"""What screens that look for news every so often have in common: the clock, and that they rest when covered.

Deliberately knows nothing of what they look for.
"""

from __future__ import annotations

from textual.screen import Screen, ScreenResultType
from textual.timer import Timer


class PollingScreen(Screen[ScreenResultType]):
    """Looks for news while no other screen is on top of it, never twice at a time.

    A subclass says how in ``_look_for_news``, a worker that calls ``_looked`` at its end.
    """

    def __init__(self) -> None:
        super().__init__()
        self._busy = False
        self._clock: Timer | None = None

    def on_screen_suspend(self) -> None:
        """Another screen is on top: rest."""
        # reading what nobody sees would take time from the training beside it
        if self._clock is not None:
            self._clock.pause()

    def on_screen_resume(self) -> None:
        if self._clock is not None:
            self._clock.resume()
            # at once: what came while the screen was covered should not wait for the clock
            self._poll()

    def _poll_every(self, seconds: float) -> None:
        self._clock = self.set_interval(seconds, self._tick)

    def _tick(self) -> None:
        self._poll()

    def _poll(self) -> None:
        """Look now, unless a look is under way."""
        # a database that is locked is waited for longer than the clock's interval: looks must not pile up
        if not self._busy:
            self._busy = True
            self._look_for_news()

    def _look_for_news(self) -> object:
        raise NotImplementedError

    def _looked(self) -> None:
        self._busy = False
