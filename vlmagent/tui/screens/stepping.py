"""What screens that play episodes step by step have in common: the clock, the timeline and their keys.

Deliberately knows nothing of what a step shows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from textual import on
from textual.binding import Binding
from textual.css.query import NoMatches
from textual.screen import Screen, ScreenResultType
from textual.timer import Timer

from vlmagent.tui.data.playback import Playback
from vlmagent.tui.keys import key
from vlmagent.tui.widgets.timeline import Timeline


def seek_bindings(screen: str) -> list[Binding]:
    """The digits: 0 to the start, 5 to the middle, 9 to nine tenths. One line of help stands for all."""
    words = "Seek: 0 the start, 5 the middle, 9 at 90 %"
    first = key("0", "seek_share(0)", "Seek", f"{screen}.seek", words, show=False, display="0-9")
    rest = (
        Binding(
            str(n),
            f"seek_share({n})",
            "Seek",
            show=False,
            # kept out of help and palette, where nine lines would say the same
            system=True,
            id=f"{screen}.seek-{n}",
            tooltip=f"Seek to {10 * n} %",
        )
        for n in range(1, 10)
    )
    return [first, *rest]


def speed_bindings(screen: str) -> list[Binding]:
    """Slower and faster."""
    return [
        key("minus", "faster(-1)", "Slower", f"{screen}.slower", "Play slower", show=False, display="-"),
        key(
            "plus,equals_sign",
            "faster(1)",
            "Faster",
            f"{screen}.faster",
            "Play faster",
            show=False,
            display="+",
        ),
    ]


class SteppingScreen(Screen[ScreenResultType]):
    """Has a position in time, a timeline that shows it, and keys that move it.

    A subclass shows the position in ``_show_step`` and tells the steps apart in ``marks``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.playback = Playback()
        self._player: Timer | None = None

    @property
    def marks(self) -> Sequence[str]:
        """One mark a step, see ``Timeline.show``; none before there are steps."""
        raise NotImplementedError

    def _show_step(self) -> None:
        """Show everything that depends on the position; calls ``_show_playing``."""
        raise NotImplementedError

    def on_screen_suspend(self) -> None:
        """Another screen is on top: pause."""
        # nobody watches, and a step that passes unseen is one that was missed
        self.playback.playing = False
        self._show_playing()

    def _show_playing(self) -> None:
        """The timeline; starts or stops the clock."""
        with contextlib.suppress(NoMatches):  # the screen was closed meanwhile
            self.query_one(Timeline).show(self.marks, self.playback)
        # a timer for each step, set when the step was drawn: a slow terminal plays slower and never falls behind, and a
        # new speed holds at once
        if self._player is not None:
            self._player.stop()
            self._player = None
        if self.playback.playing:
            self._player = self.set_timer(1 / self.playback.speed, self._play_on)

    def _play_on(self) -> None:
        self.playback.tick()
        self._show_step()

    def action_play(self) -> None:
        self.playback.toggle()
        self._show_step()

    def action_move(self, steps: int) -> None:
        self.action_seek(self.playback.at + steps)

    def action_seek(self, step: int) -> None:
        """To a step; pauses."""
        self.playback.playing = False
        self.playback.seek(step)
        self._show_step()

    def action_seek_share(self, tenths: int) -> None:
        """To some tenths of the whole; pauses."""
        self.playback.playing = False
        self.playback.seek_share(tenths / 10)
        self._show_step()

    def action_faster(self, levels: int) -> None:
        self.playback.faster(levels)
        self._show_playing()

    @on(Timeline.Seek)
    def _seek_by_mouse(self, event: Timeline.Seek) -> None:
        self.action_seek(event.step)
