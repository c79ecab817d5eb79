"""What a screen asks of the application: to put another screen on top of it.

Screens post these and never import each other, so that each is loaded when it is opened and none depends on who opens
it; ``navigate`` answers them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from textual.message import Message

from vlmagent.paths import Run
from vlmagent.tui.data.trail import Place, Trail


@dataclass
class Open(Message):
    """Asks for a screen.

    Attributes:
        asked_at: when, on the monotonic clock. A key pressed twice on a busy machine asks twice before the first
            screen is there; the second wish was meant for the old screen and is dropped.
    """

    asked_at: float = field(default_factory=time.monotonic, kw_only=True, compare=False, repr=False)


@dataclass
class OpenTrain(Open):
    """The live view of a run, with ``overlays`` laid over its curves."""

    run: Run
    overlays: Sequence[Run] = ()


@dataclass
class LogScale(Message):
    """The scale of the charts was changed; runs that are opened later have the same one."""

    on: bool


@dataclass
class OpenEpisodes(Open):
    """The episodes of a run; ``updates`` leaves only those that ended in these, first and last included."""

    run: Run
    updates: tuple[int, int] | None = None


@dataclass
class OpenReplay(Open):
    """One episode, step by step.

    Attributes:
        step: the step to begin with.
        database: where the episode is; None stands for the run's own database.
        trail: the episodes that next and previous go through; None for all of the database.
        on_return: called when the replay is left, with the place where it stood last.
    """

    run: Run
    episode_id: int
    step: int = 0
    database: Path | None = None
    trail: Trail | None = None
    on_return: Callable[[Place | None], None] | None = None


@dataclass
class OpenCompare(Open):
    """Two runs on the same seeds; twice the same run stands for its start and its furthest checkpoint."""

    left: Run
    right: Run


@dataclass
class OpenPlay(Open):
    """A table beside a run, after the question who plays.

    Attributes:
        database, place: the recorded state to play on from; None begins a new episode.
    """

    run: Run
    database: Path | None = None
    place: Place | None = None
