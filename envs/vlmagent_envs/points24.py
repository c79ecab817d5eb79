"""Points24: make 24 from four cards (paper, appendix B.1.3)."""

from __future__ import annotations

from vlmagent_envs.base import PAPER
from vlmagent_envs.points import PointsEnv

OPERATORS = ("+", "-", "*", "/", "(", ")")
LIMIT = 20


class Points24Env(PointsEnv):
    """Write a formula that uses all four cards once and equals 24.

    ## Action space
    `Discrete(17)`: "1" to "10", "+", "-", "*", "/", "(", ")", "=", in this order; with
    `face_cards="11-12-13"` `Discrete(20)`, the numbers going to "13".

    ## Observation space
    `Box(0, 255, (300, 300, 3), uint8)`: four cards on a green table and the formula below. A new array at
    each step.

    ## Starting state
    Four cards from an infinite deck; an empty formula. 73.1 % of deals have a solution.
    `reset(options={"cards": ["AH", "2S", "10D", "KC"]})` sets the cards.

    ## Reward
    0 for a legal token. -1 for an illegal one: a number that is not on the cards or has been used; the
    formula stays as it is. "=": +10 if the formula uses every card and equals the target, exactly, else -1.

    ## Episode end
    Terminated by "="; truncated after 20 actions, illegal ones included.

    ## Info
    The true state: `points.PointsInfo`.

    ## Arguments
    `target` (24). `face_cards`: 10, or "11-12-13" for J, Q and K. `solvable_only` (False): deal until there
    is a solution. `rules`: "paper", or "released" as in the paper's released code: an illegal number appends
    a blank, an action after more than 20 tokens is discarded with -1 and truncates, the formula is Python's
    (floats, `**`, `//`, digits that join). `render_mode`: None or "rgb_array".

    ## Version history
    v0: the rules of the paper, B.1.3.
    """

    def __init__(
        self,
        target: int = 24,
        face_cards: int | str = 10,
        solvable_only: bool = False,
        rules: str = PAPER,
        holdout: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            numbers=4,
            operators=OPERATORS,
            target=target,
            limit=LIMIT,
            face_cards=face_cards,
            solvable_only=solvable_only,
            rules=rules,
            holdout=holdout,
            render_mode=render_mode,
        )
