"""EZPoints: make 12 from two cards with + and * (paper, appendix B.1.2)."""

from __future__ import annotations

from itertools import combinations_with_replacement

from vlmagent_envs.base import PAPER, RELEASED
from vlmagent_envs.cards import SUITS, Card
from vlmagent_envs.points import PointsEnv
from vlmagent_envs.solver import EZPOINTS, solve

OPERATORS = ("+", "*")
LIMIT = 5


def is_possible(target: int) -> bool:
    """Whether any two cards make ``target``."""
    # every pair of values once; the order of cards makes no other formulas under + and *
    return any(solve(pair, target, EZPOINTS) for pair in combinations_with_replacement(range(1, 11), 2))


class EZPointsEnv(PointsEnv):
    """Write a formula that uses both cards once and equals 12.

    ## Action space
    `Discrete(13)`: "1" to "10", "+", "*", "=", in this order. J, Q and K count as 10.

    ## Observation space
    `Box(0, 255, (300, 300, 3), uint8)`: two cards on a green table and the formula below. A new array at each
    step.

    ## Starting state
    Two cards from an infinite deck, dealt again until they can make the target; an empty formula.
    `reset(options={"cards": ["7H", "5S"]})` sets the cards.

    ## Reward
    0 for a legal token. -1 for an illegal one: a number that is not on the cards or has been used; the
    formula stays as it is. "=": +10 if the formula uses every card and equals the target, else -1.

    ## Episode end
    Terminated by "="; truncated after 5 actions, illegal ones included.

    ## Info
    The true state: `points.PointsInfo`.

    ## Arguments
    `target` (12). `rules`: "paper", or "released" as in the paper's released code: its way of dealing (never
    an ace), an illegal number appends a blank, an action after more than 5 tokens is discarded with -1 and
    truncates, the formula is Python's (`2**`, `//`, digits that join). `render_mode`: None or "rgb_array".

    ## Version history
    v0: the rules of the paper, B.1.2.
    """

    def __init__(
        self, target: int = 12, rules: str = PAPER, holdout: float = 0.0, render_mode: str | None = None
    ) -> None:
        super().__init__(
            numbers=2,
            operators=OPERATORS,
            target=target,
            limit=LIMIT,
            face_cards=10,
            solvable_only=True,
            rules=rules,
            holdout=holdout,
            render_mode=render_mode,
        )
        if rules == RELEASED and target != 12:
            # `_deal_released` makes every hand from 12
            raise ValueError(f"The released rules deal for target = 12 only, but received {target!r}.")
        if not is_possible(target):
            raise ValueError(f"No two cards can make target = {target!r} by + or *.")

    def _deal(self) -> list[Card]:
        return self._deal_released() if self.rules == RELEASED else super()._deal()

    def _deal_released(self) -> list[Card]:
        """The first card is no ace; the second one is 12 less it, or half the time the other factor of 12."""
        # 2 to 13: never an ace
        rank = int(self.np_random.integers(2, 14))
        factor = bool(self.np_random.integers(2))
        swap = bool(self.np_random.integers(2))
        value = min(rank, 10)
        # the other factor, where 12 divides by the first card without a rest; else what is missing from a sum of 12
        other = 12 // value if factor and value in (2, 3, 4, 6) else 12 - value
        suits = self.np_random.integers(4, size=2).tolist()
        cards = [Card(rank, SUITS[suits[0]]), Card(other, SUITS[suits[1]])]
        return cards[::-1] if swap else cards
