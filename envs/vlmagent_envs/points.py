"""What EZPoints and Points24 share: a formula is written from the cards, token by token (paper, B.1.2-3).

Knows the rules; the picture is ``table``'s, arithmetic is ``formulas``'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations_with_replacement
from typing import Any, TypedDict

from vlmagent_envs.base import PAPER, RELEASED, Picture, PictureEnv, Step, check_choice, check_integer
from vlmagent_envs.cards import Card, deal, parse_card
from vlmagent_envs.formulas import evaluate, evaluate_like_python
from vlmagent_envs.holdout import Holdout
from vlmagent_envs.solver import operators_of, solve
from vlmagent_envs.table import deal_picture, write_formula

FACE_CARDS = (10, "11-12-13")
# A target that can be made hardly ever takes so many; one that cannot must not hang.
_MOST_DEALS = 10_000


class PointsInfo(TypedDict):
    """The true state of EZPoints and Points24."""

    cards: list[str]
    """Names such as ``10H``."""
    numbers: list[int]
    """What the cards count, in their order."""
    remaining: list[int]
    """Those that the formula has not used yet."""
    formula: list[str]
    """Its tokens: numbers, operators, and by the released rules blanks for illegal numbers."""
    formula_text: str
    """The same as one text."""
    target: int
    step: int
    """Actions taken so far, but for discarded ones."""
    steps_left: int
    """Actions before the episode is truncated."""
    illegal: bool
    """Whether the last action was."""
    goal: bool
    """Whether the episode ended with the right formula."""


def largest_number(face_cards: int | str) -> int:
    """The largest number that a card counts: 10, or 13 where jack, queen and king count on from 10."""
    return 10 if face_cards == 10 else 13


def action_names(operators: Sequence[str], face_cards: int | str = 10) -> tuple[str, ...]:
    """Names of the actions, in their order: every number that a card may count, the operators, "="."""
    return (*map(str, range(1, largest_number(face_cards) + 1)), *operators, "=")


class PointsEnv(PictureEnv):
    """A card game in which actions append to a formula that should equal a target.

    Args:
        numbers: how many cards are dealt.
        operators: names of the actions beside numbers and "=".
        target: what the formula should equal.
        limit: the paper's T; see the rules.
        face_cards: 10, or "11-12-13" for jack, queen and king.
        solvable_only: deal again until there is a solution.
        rules: "paper" or "released".
        holdout: share of the deals, by their values in any order, that only episodes of evaluation begin with (seeds
            from 2**31 on).
    """

    def __init__(
        self,
        *,
        numbers: int,
        operators: tuple[str, ...],
        target: int,
        limit: int,
        face_cards: int | str,
        solvable_only: bool,
        rules: str,
        holdout: float,
        render_mode: str | None,
    ) -> None:
        check_choice("rules", rules, (PAPER, RELEASED))
        check_choice("face_cards", face_cards, FACE_CARDS)
        super().__init__(action_names(operators, face_cards), render_mode)
        self.largest = largest_number(face_cards)
        self.count, self.limit = numbers, limit
        self._operators = operators_of(operators)
        self.target = check_integer("target", target, 1, 10_000)
        self.solvable_only, self.rules = solvable_only, rules
        self.holdout = Holdout(
            holdout, lambda: self._deals(solvable=True), lambda: self._deals(solvable=False)
        )
        self._begin([Card(1, "S")] * numbers)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Picture, dict[str, Any]]:
        """Deal; ``options={"cards": ["7H", "10S"]}`` deals these instead.

        Raises:
            ValueError: an option is unknown, or the cards are not as many valid names as the game has.
        """
        self._seed(seed)
        # a deal that was asked for may be one that is held out
        dealt = (
            self._chosen(options)
            if options
            else self.holdout.draw(self._deal, self._start, evaluates=self.evaluates)
        )
        self._begin(dealt)
        return self._started()

    def step(self, action: int) -> Step:
        """Append a token, or end with "="; see the class for rewards and ends."""
        token = self._name(action)
        if self.rules == RELEASED and len(self._formula) > self.limit:
            return self._stepped(-1.0, truncated=True)  # the action is discarded
        self._step += 1
        self._illegal = token.isdecimal() and int(token) not in self._remaining
        if token == "=":
            self._goal = self._solved()
            return self._stepped(10.0 if self._goal else -1.0, terminated=True)
        if not self._illegal:
            self._formula.append(token)
            if token.isdecimal():
                self._remaining.remove(int(token))
        elif self.rules == RELEASED:
            self._formula.append(" ")
        truncated = self.rules == PAPER and self._step >= self.limit
        return self._stepped(-1.0 if self._illegal else 0.0, truncated=truncated)

    def _begin(self, cards: list[Card]) -> None:
        self._cards = cards
        self._numbers = [min(card.rank, self.largest) for card in cards]
        self._remaining = list(self._numbers)
        self._formula: list[str] = []
        self._step, self._illegal, self._goal = 0, False, False
        self._table: Picture | None = None  # drawn once an episode: only the formula below it changes

    def starts(self) -> Iterator[str]:
        """All deals, as ``holdout`` names them: by their values, since their order and suits change no solution."""
        yield from self._deals(solvable=True)
        if not self.solvable_only:
            yield from self._deals(solvable=False)

    def _deals(self, *, solvable: bool) -> Iterator[str]:
        for values in combinations_with_replacement(range(1, self.largest + 1), self.count):
            if bool(solve(list(values), self.target, self._operators)) is solvable:
                yield _named(values)

    def _start(self, cards: list[Card]) -> str:
        return _named(min(card.rank, self.largest) for card in cards)

    def _deal(self) -> list[Card]:
        """Cards from an infinite deck; again until they can be solved where that is asked for."""
        for _ in range(_MOST_DEALS):
            cards = deal(self.np_random, self.count)
            values = [min(card.rank, self.largest) for card in cards]
            if not self.solvable_only or solve(values, self.target, self._operators):
                return cards
        raise ValueError(
            f"None of {_MOST_DEALS} deals of {self.count} cards can make target = {self.target}."
        )

    def _chosen(self, options: dict[str, Any]) -> list[Card]:
        names = options.get("cards")
        if set(options) != {"cards"} or not isinstance(names, list | tuple) or len(names) != self.count:
            raise ValueError(
                f"Reset options must be {{'cards': {self.count} names like '10H'}}; received {options!r}."
            )
        return [parse_card(name) for name in names]

    def _solved(self) -> bool:
        """Whether the formula uses every card and equals the target."""
        if self._remaining:
            return False
        if self.rules == RELEASED:
            return evaluate_like_python("".join(self._formula)) == self.target
        return evaluate(self._formula) == self.target

    def _info(self) -> PointsInfo:
        # the paper counts actions; the released code counts tokens, and ends with the first action after too many
        left = self.limit - self._step if self.rules == PAPER else self.limit + 1 - len(self._formula)
        return {
            "cards": [card.name for card in self._cards],
            "numbers": list(self._numbers),
            "remaining": list(self._remaining),
            "formula": list(self._formula),
            "formula_text": "".join(self._formula),
            "target": self.target,
            "step": self._step,
            "steps_left": max(0, left),
            "illegal": self._illegal,
            "goal": self._goal,
        }

    def _picture(self) -> Picture:
        if self._table is None:
            self._table = deal_picture(self._cards)
        picture = self._table.copy()
        write_formula(picture, self._formula)
        return picture


def _named(values: Iterable[int]) -> str:
    """A deal by its values, in ascending order."""
    return " ".join(map(str, sorted(values)))
