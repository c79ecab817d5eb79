"""Processes that train one run together: who they are and what they tell each other.

A process that trains alone is a group of one, so that callers have one path. Every call is made by all processes, in
the same order. Knows neither torch nor what is said: ``distributed.group`` connects several.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class Ranks(Protocol):
    """The processes of a run, numbered from 0."""

    @property
    def rank(self) -> int:
        """This process's number."""

    @property
    def world(self) -> int:
        """How many there are."""

    def table(self, values: Sequence[float]) -> NDArray[np.float64]:
        """Every process's ``values``, (world, n); all give equally many."""

    def gather(self, item: T) -> list[T]:
        """Every process's item in the order of their numbers, in the first; nothing elsewhere."""

    def share(self, item: T) -> T:
        """The first process's item, in all."""

    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite ``tensors`` with the first process's."""


class Alone:
    """One process."""

    rank = 0
    world = 1

    def table(self, values: Sequence[float]) -> NDArray[np.float64]:
        """The values themselves, (1, n)."""
        return np.array([values], dtype=np.float64)

    def gather(self, item: T) -> list[T]:
        """The item alone."""
        return [item]

    def share(self, item: T) -> T:
        """The item itself."""
        return item

    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Nothing to do."""


ALONE = Alone()


def part(ranks: Ranks, total: int) -> range:
    """Which of ``total`` things belong to this process: a stretch of equal length for each."""
    # divides without a rest: the config refuses other numbers (`Config._equal_shares`)
    size = total // ranks.world
    return range(ranks.rank * size, (ranks.rank + 1) * size)


def anyone(ranks: Ranks, flag: bool) -> bool:
    """Whether any process says so."""
    return flag if ranks.world == 1 else bool(ranks.table([flag]).any())
