"""Where a replay stands: the step shown, whether it plays, how fast.

Deliberately knows no widget and no clock: whoever owns one calls ``tick``.
"""

from __future__ import annotations

from dataclasses import dataclass

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Steps a second."""


@dataclass
class Playback:
    """A position among ``count`` steps; every method keeps it inside and says whether it changed."""

    count: int = 0
    at: int = 0
    playing: bool = False
    speed: float = 1.0

    @property
    def last(self) -> bool:
        """Whether the last step is shown."""
        return self.at >= self.count - 1

    def resize(self, count: int) -> None:
        """There are now ``count`` steps."""
        self.count = count
        self.at = min(self.at, max(0, count - 1))

    def seek(self, step: int) -> bool:
        """Go to a step, the first or last one if it lies outside."""
        before = self.at
        self.at = min(max(0, step), max(0, self.count - 1))
        return self.at != before

    def move(self, steps: int) -> bool:
        """Go some steps on or back."""
        return self.seek(self.at + steps)

    def seek_share(self, share: float) -> bool:
        """Go to a part of the whole, 0 to 1."""
        return self.seek(round(share * (self.count - 1)))

    def toggle(self) -> None:
        """Play or pause; playing at the end begins anew."""
        # a single step has nowhere to go
        self.playing = not self.playing and self.count > 1
        if self.playing and self.last:
            self.at = 0

    def tick(self) -> bool:
        """One step on while playing; stops at the end."""
        if not self.playing:
            return False
        changed = self.move(1)
        # with the last step, not one tick later: nothing more will move
        self.playing = not self.last
        return changed

    def faster(self, levels: int) -> None:
        """Another speed, some levels up or down."""
        # either end is kept rather than gone round: faster must not become slowest
        place = SPEEDS.index(self.speed) + levels
        self.speed = SPEEDS[min(max(0, place), len(SPEEDS) - 1)]
