"""Two evaluations on the same seeds, episode by episode: who succeeded where.

Deliberately knows no widget.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from vlmagent.evaluation.mcnemar import mcnemar
from vlmagent.store.rows import EpisodeRow

Kind = Literal["both", "left", "right", "neither"]
KINDS: tuple[Kind, ...] = ("both", "left", "right", "neither")


@dataclass(frozen=True, slots=True)
class Pair:
    """The two episodes of one seed."""

    seed: int
    left: EpisodeRow
    right: EpisodeRow

    @property
    def sides(self) -> tuple[EpisodeRow, EpisodeRow]:
        """Left, then right."""
        return self.left, self.right

    @property
    def kind(self) -> Kind:
        """Who succeeded."""
        if self.left.success:
            return "both" if self.right.success else "left"
        return "right" if self.right.success else "neither"

    @property
    def difference(self) -> float:
        """Return of the right episode minus that of the left one."""
        return (self.right.episode_return or 0.0) - (self.left.episode_return or 0.0)


@dataclass(frozen=True, slots=True)
class Tally:
    """All pairs counted.

    Attributes:
        counts: pairs of each kind.
        left_return, right_return: means; NaN without pairs.
        p: McNemar's test that both succeed equally often.
        alone: episodes of either side without a partner.
    """

    counts: dict[Kind, int]
    left_return: float
    right_return: float
    p: float
    alone: int

    @property
    def total(self) -> int:
        """Number of pairs."""
        return sum(self.counts.values())

    def success(self, side: Literal["left", "right"]) -> float:
        """Success rate of one side over the pairs."""
        return (self.counts["both"] + self.counts[side]) / self.total if self.total else math.nan


def pair_up(left: Iterable[EpisodeRow], right: Iterable[EpisodeRow]) -> tuple[list[Pair], int]:
    """Finished episodes of equal seeds in the order of the left side, and how many have no partner.

    Where a seed was played several times, the first meets the first, the second the second.
    """
    partners: dict[int, list[EpisodeRow]] = defaultdict(list)
    for row in right:
        if row.ended != "running":
            partners[row.seed].append(row)
    pairs, alone = [], 0
    for row in left:
        if row.ended == "running":
            continue
        if partners[row.seed]:
            pairs.append(Pair(row.seed, row, partners[row.seed].pop(0)))
        else:
            alone += 1
    # whoever was not taken from the right side is alone too
    return pairs, alone + sum(len(rows) for rows in partners.values())


def count(pairs: Sequence[Pair], alone: int = 0) -> Tally:
    """Pairs of each kind, mean returns, and McNemar's test of the difference."""
    counts: dict[Kind, int] = dict.fromkeys(KINDS, 0)
    for pair in pairs:
        counts[pair.kind] += 1
    size = len(pairs)
    left = sum(pair.left.episode_return or 0.0 for pair in pairs) / size if size else math.nan
    right = sum(pair.right.episode_return or 0.0 for pair in pairs) / size if size else math.nan
    # McNemar's test looks only at pairs that differ: those that both or neither won say nothing of a difference
    return Tally(counts, left, right, mcnemar(counts["left"], counts["right"]), alone)
