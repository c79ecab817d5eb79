"""The way of next and previous through the episodes of a list, also beyond the rows that were read so far.

Deliberately knows no widget and no SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Place = tuple[int, int]
"""An episode's id and the step to show of it."""


class Trail(Protocol):
    """Places in the order of a list."""

    @property
    def places(self) -> Sequence[Place]:
        """Those known so far."""

    @property
    def more(self) -> bool:
        """Whether others are known to follow."""

    async def extend(self, by: int) -> bool:
        """Look for places after the last one, or before the first one where ``by`` is negative.

        Returns: whether there are any now.

        Raises:
            StoreError: the database cannot be read.
        """


@dataclass(frozen=True, slots=True)
class FixedTrail:
    """A list that is known as a whole."""

    places: Sequence[Place]
    more: bool = False

    async def extend(self, by: int) -> bool:
        """There is nothing else."""
        return False


def find(places: Sequence[Place], place: Place) -> int | None:
    """Where a place is among others; failing that, its episode; else None."""
    # in a ranking an episode may stand several times, at different steps
    if place in places:
        return places.index(place)
    return next((number for number, (episode, _) in enumerate(places) if episode == place[0]), None)
