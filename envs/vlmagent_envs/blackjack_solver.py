"""The best way to play Blackjack against an infinite deck, by dynamic programming over all hands.

For a player with best total t (usable: an ace counts as 11) and a dealer who shows d:

    V(t, usable, d) = max(stand, hit)
    stand = P(dealer < t or bust) - P(dealer > t)
    hit = sum over cards c of p(c) V(t', usable', d), or -1 where the card exceeds 21

The dealer draws to 17 and stands on every 17, as in Gymnasium's Blackjack-v1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple

# ten, jack, queen and king count 10: four ranks of thirteen
CHANCES = {rank: (4 if rank == 10 else 1) / 13 for rank in range(1, 11)}
"""Probability of each card value in an infinite deck."""

Policy = Callable[[int, bool, int], bool]
"""(total, usable ace, dealer shows 2 to 11) -> whether to hit."""


class Rates(NamedTuple):
    """Exact probabilities of a hand's three results."""

    win: float
    draw: float
    loss: float


class _Hand(NamedTuple):
    total: int
    usable: bool

    def plus(self, value: int) -> _Hand:
        """With one card more, of this value; an ace counts as 11 while it can."""
        total, usable = self.total + value, self.usable
        if value == 1 and total <= 11:
            # one ace at most counts as 11: two would be 22
            total, usable = total + 10, True
        if total > 21 and usable:
            # the ace that made it exceed 21 counts as 1 again
            total, usable = total - 10, False
        return _Hand(total, usable)


def should_hit(total: int, usable: bool, shows: int) -> bool:
    """Whether a hit has the higher expected reward.

    Args:
        total: the player's best total, 2 to 21.
        usable: whether an ace counts as 11 in it.
        shows: the value of the dealer's open card, 2 to 11 (an ace).
    """
    return _hit_value(_Hand(total, usable), shows) > _stand_value(total, shows)


def rates(policy: Policy = should_hit) -> Rates:
    """The exact results of ``policy`` over all deals."""
    sums = [0.0, 0.0, 0.0]
    for shows in range(2, 12):
        play = _player(policy, shows)
        for first, p in CHANCES.items():
            for second, q in CHANCES.items():
                # the dealer's second card is hidden and drawn like any other, so `_results` covers it
                chance = p * q * CHANCES[1 if shows == 11 else shows]  # an open ace shows 11
                for index, rate in enumerate(play(_Hand(0, False).plus(first).plus(second))):
                    sums[index] += chance * rate
    return Rates(*sums)


def most_wins() -> float:
    """The highest win rate that any policy has; it gives up draws for it."""
    return rates(
        # by the chance of a win alone: a draw is worth as little as a loss here
        lambda total, usable, shows: _win_by_hit(_Hand(total, usable), shows) > _results(total, shows).win
    ).win


def _player(policy: Policy, shows: int) -> Callable[[_Hand], Rates]:
    """The results of a hand from here on under ``policy``."""

    # one cache for each card of the dealer's, gone with it: policies are functions, and would be kept as keys for ever
    @cache
    def play(hand: _Hand) -> Rates:
        if hand.total > 21:
            return Rates(0.0, 0.0, 1.0)
        if not policy(hand.total, hand.usable, shows):
            return _results(hand.total, shows)
        parts = [(p, play(hand.plus(value))) for value, p in CHANCES.items()]
        return Rates(*(sum(p * part[index] for p, part in parts) for index in range(3)))

    return play


def _stand_value(total: int, shows: int) -> float:
    # a draw is worth 0
    result = _results(total, shows)
    return result.win - result.loss


@lru_cache(maxsize=4096)
def _hit_value(hand: _Hand, shows: int) -> float:
    return sum(p * _value(hand.plus(value), shows) for value, p in CHANCES.items())


def _value(hand: _Hand, shows: int) -> float:
    if hand.total > 21:
        return -1.0
    return max(_stand_value(hand.total, shows), _hit_value(hand, shows))


@lru_cache(maxsize=4096)
def _win_by_hit(hand: _Hand, shows: int) -> float:
    """The highest chance of a win after one hit."""
    after = [(p, hand.plus(value)) for value, p in CHANCES.items()]
    return sum(
        p * max(_results(next_.total, shows).win, _win_by_hit(next_, shows))
        for p, next_ in after
        if next_.total <= 21
    )


@lru_cache(maxsize=512)
def _results(total: int, shows: int) -> Rates:
    """Results of standing on ``total``."""
    # an ace shows 11 and is dealt as 1, which `plus` raises to 11
    finals = _dealer(_Hand(0, False).plus(1 if shows == 11 else shows))
    win = sum(p for final, p in finals if final > 21 or final < total)
    draw = sum(p for final, p in finals if final == total)
    return Rates(win, draw, 1 - win - draw)


@lru_cache(maxsize=256)
def _dealer(hand: _Hand) -> tuple[tuple[int, float], ...]:
    """Probabilities of the dealer's final totals; 22 stands for every total above 21."""
    if hand.total >= 17:
        # 22: how far a hand exceeds 21 makes no difference
        return ((min(hand.total, 22), 1.0),)
    finals: dict[int, float] = {}
    for value, p in CHANCES.items():
        for final, q in _dealer(hand.plus(value)):
            finals[final] = finals.get(final, 0.0) + p * q
    return tuple(sorted(finals.items()))
