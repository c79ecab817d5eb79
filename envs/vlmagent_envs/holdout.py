"""Starting states that training never has, so that what was learnt can be told from what was remembered.

Where a game has few starting states, evaluation meets those of training, whatever its seeds are: NumberLine has 30,
EZPoints 7 pairs of values. A share of them can be held out: episodes of seeds below ``EVALUATION_SEEDS`` never begin in
one, those of higher seeds always do. Knows nothing of any game: a state is a text.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

S = TypeVar("S")

EVALUATION_SEEDS = 2**31
"""Seeds from here on are evaluation's; those below train."""
LARGEST_LIST = 100_000
"""Games with more starting states are split by a hash of each state instead of by a list of them."""
LARGEST_SHARE = 0.9
# with a share of 0.9 held out one deal in ten is training's: so many in a row cannot fail by chance
_MOST_DRAWS = 100_000


class Holdout:
    """Which starting states are evaluation's alone.

    Args:
        share: of the starting states, from 0 (none) to ``LARGEST_SHARE``; of a list, at least one is held out and at
            least one is left.
        states: lists all of them, as texts; asked only where a share is held out. None: there are too many.
        apart: further states, of which the same share is held out whatever is in the first list: an environment that
            deals only the first ones holds out the same of them.

    Raises:
        ValueError: ``share`` is no such number, or there are fewer than two states.
    """

    def __init__(
        self,
        share: float,
        states: Callable[[], Iterable[str] | None],
        apart: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= LARGEST_SHARE:
            raise ValueError(f"holdout must be a number from 0 to {LARGEST_SHARE}, but received {share!r}.")
        self.share = float(share)
        # not asked without a share: listing all deals takes time that most environments need not spend
        listed = states() if share else ()
        self._held: frozenset[str] | None = None
        if listed is not None:
            others = sorted(set(apart())) if share else []
            # chosen from each list by itself: what one environment does not deal must not shift what another holds out
            self._held = self._chosen(sorted(set(listed))) | (self._chosen(others) if others else frozenset())

    def _chosen(self, states: Sequence[str]) -> frozenset[str]:
        if not self.share:
            return frozenset()
        if len(states) < 2:
            raise ValueError(f"holdout needs two starting states or more, but this game has {len(states)}.")
        # at least one on either side, however small the game
        count = min(max(1, round(self.share * len(states))), len(states) - 1)
        # by a hash of the state and not by drawing: no seed, and no order of the list, has a say
        return frozenset(sorted(states, key=_place)[:count])

    def holds(self, state: str) -> bool:
        """Whether a starting state is held out."""
        if self._held is None:
            # too many for a list: each state decides by itself, so that about the share is held out
            return _place(state) < self.share * 2**32
        return state in self._held

    def draw(self, deal: Callable[[], S], name: Callable[[S], str], *, evaluates: bool) -> S:
        """Deal until the state is one of training's, or of evaluation's.

        Args:
            deal: draws a starting state; called once where nothing is held out, so that seeds deal what they did.
            name: the state as a text.

        Raises:
            ValueError: none came.
        """
        for _ in range(_MOST_DRAWS):
            dealt = deal()
            if not self.share or self.holds(name(dealt)) == evaluates:
                return dealt
        raise ValueError(
            f"None of {_MOST_DRAWS:,} deals was one of {'evaluation' if evaluates else 'training'}'s."
        )


def _place(state: str) -> int:
    """A number in [0, 2^32) that depends on the state alone: the same states are held out everywhere, always."""
    return zlib.crc32(state.encode())
