"""The running score of a session: success, return, and how often two players chose alike.

Pure values; knows neither tables nor screens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vlmagent.play.table import LOGGED, Moment

MIXED = "together"


@dataclass(frozen=True, slots=True)
class Record:
    """One player's finished episodes."""

    episodes: int = 0
    successes: int = 0
    total: float = 0.0

    @property
    def success(self) -> float:
        """As a fraction; NaN before the first episode."""
        return self.successes / self.episodes if self.episodes else float("nan")

    @property
    def mean_return(self) -> float:
        """NaN before the first episode."""
        return self.total / self.episodes if self.episodes else float("nan")


@dataclass(frozen=True, slots=True)
class Score:
    """Never changes once made.

    Attributes:
        records: by player (``player_of``), in the order of their first episode.
        alike, compared: states in which both were asked, and in how many of them they chose the same.
    """

    records: dict[str, Record] = field(default_factory=dict)
    alike: int = 0
    compared: int = 0

    def with_episode(self, moment: Moment) -> Score:
        """With a finished episode, unless its environment's process was lost: then it has no result."""
        assert moment.end is not None
        if moment.end.ended == "lost":
            return self
        player = player_of(moment)
        old = self.records.get(player, Record())
        new = Record(
            old.episodes + 1, old.successes + moment.end.success, old.total + moment.end.episode_return
        )
        return replace(self, records={**self.records, player: new})

    def with_choices(self, same: int, compared: int) -> Score:
        """With some states in which both chose."""
        return replace(self, alike=self.alike + same, compared=self.compared + compared)


def player_of(moment: Moment) -> str:
    """Who played an episode: one actor's name, or ``MIXED``; steps repeated from a log do not count."""
    actors = [actor for actor in moment.actors if actor != LOGGED]
    return actors[0] if len(actors) == 1 else MIXED
