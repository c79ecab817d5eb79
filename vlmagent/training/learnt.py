"""Whether a run has learnt its task: success over the last training episodes, and when it first passed a bar.

Everything is read from the episodes in the run's database, bounded by the update that is asked about. What a killed
run had logged beyond its checkpoint therefore counts when its update is done again, and not before: a resumed run ends
where one left alone ends. Knows nothing of policies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vlmagent.config.sections import StopConfig
from vlmagent.store.reader import StoreReader
from vlmagent.store.study import EndedEpisode, ended_episodes
from vlmagent.text import percent

BARS = (0.90, 0.95, 0.99)
"""Shares of success whose first passing is a metric."""
WINDOW = 100
"""Episodes that these are taken over: one number for every run, whatever stops it."""


def metric_of(bar: float) -> str:
    """The metric with the environment steps at which ``bar`` was first passed."""
    return f"learnt/steps_to_{100 * bar:.0f}"


class Progress:
    """Success over the episodes that ended last, taken in the order in which they ended."""

    def __init__(self, stop: StopConfig) -> None:
        self._stop = stop
        self._last: deque[bool] = deque(maxlen=stop.episodes)
        self._window: deque[bool] = deque(maxlen=WINDOW)
        self._left = list(BARS)

    def take(self, episodes: Iterable[EndedEpisode]) -> dict[str, float]:
        """Add the episodes that ended next.

        Returns:
            Metrics of the bars that were passed for the first time; each comes once in a run.
        """
        passed: dict[str, float] = {}
        for episode in episodes:
            self._last.append(episode.success)
            self._window.append(episode.success)
            # the short episodes end first, and most of them are won: a part of a window would say too much
            if len(self._window) < WINDOW:
                continue
            share = sum(self._window) / WINDOW
            for bar in [bar for bar in self._left if share >= bar]:
                self._left.remove(bar)
                passed[metric_of(bar)] = episode.env_steps
        return passed

    @property
    def learnt(self) -> bool:
        """Whether the bar that ends PPO is reached."""
        stop = self._stop
        if not stop.success or len(self._last) < stop.episodes:
            return False
        # a quotient, not a product: 396 / 400 is the number that 0.99 is, 0.99 * 400 may be a little more than 396
        return sum(self._last) / stop.episodes >= stop.success

    @property
    def words(self) -> str:
        """What was reached, and the bar, for people."""
        bar = f"{100 * self._stop.success:g} %"
        share = sum(self._last) / max(1, len(self._last))
        return f"success {percent(share)} of the last {len(self._last)} episodes (bar {bar})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the end of an update says of a run.

    Attributes:
        passed: metrics of bars that were passed in it.
        words: why PPO ends here, None where it goes on.
    """

    passed: dict[str, float]
    words: str | None


class LearntWatch:
    """Looks at a run's database after each update.

    Args:
        database: of the run; everything up to the update that is asked about has been written.
    """

    def __init__(self, database: Path, stop: StopConfig) -> None:
        self._database = database
        self._progress = Progress(stop)
        self._update = 0

    def after(self, update: int, env_steps: int) -> Verdict:
        """How the run stands after an update; those in between are taken first. Updates only go up.

        Args:
            env_steps: of the run at its end.
        """
        with StoreReader(self._database) as reader:
            passed = self._progress.take(ended_episodes(reader, updates=(self._update + 1, update)))
            # a bar that was lowered, or set, on a run that was killed: what it has logged since is learnt from, too
            ends = self._progress.learnt and reader.env_steps() <= env_steps
        self._update = update
        return Verdict(passed, self._progress.words if ends else None)
