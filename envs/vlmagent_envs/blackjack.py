"""Blackjack by the rules of the paper's released code, with its cards on the table (paper, appendix B.1.4).

The paper says "as Gymnasium's Blackjack-v1". That id counts a player's natural (an ace and a card worth ten) above a
dealer's 21 of three cards or more (its ``sab=True``); in the released code, and here, that is a draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations_with_replacement
from typing import Any, TypedDict

from vlmagent_envs.base import PAPER, RELEASED, Picture, PictureEnv, Step, check_choice
from vlmagent_envs.cards import Card, deal, parse_card
from vlmagent_envs.holdout import Holdout
from vlmagent_envs.table import blackjack_picture

ACTIONS = ("stand", "hit")


class BlackjackInfo(TypedDict):
    """The true state of Blackjack; cards are names such as ``10H``."""

    player: list[str]
    dealer: list[str]
    """All cards, the hidden one too."""
    player_total: int
    """The best total of the player's hand."""
    usable_ace: bool
    """Whether an ace counts as 11 in it."""
    dealer_shows: int
    """Value of the dealer's open card, an ace being 11."""
    dealer_total: int
    step: int
    """Actions taken so far."""
    goal: bool
    """Whether the hand was won."""


def hand_total(ranks: Sequence[int]) -> tuple[int, bool]:
    """The best total of a hand, and whether an ace counts as 11 in it.

    Args:
        ranks: from 1 (ace) to 13; jack, queen and king count as 10.
    """
    total = sum(min(rank, 10) for rank in ranks)
    # 11 or less with the ace as 1: counting it as 11 still makes 21 at most
    usable = 1 in ranks and total <= 11
    return total + 10 * usable, usable


class BlackjackEnv(PictureEnv):
    """Come closer to 21 than the dealer, without exceeding it.

    ## Action space
    `Discrete(2)`: 0 is "stand", 1 is "hit".

    ## Observation space
    `Box(0, 255, (300, 300, 3), uint8)`: the dealer's two cards, the second one face down, above all of the
    player's. When the player stands the final picture shows the dealer's whole hand. A new array at each
    step.

    ## Starting state
    Two cards each from an infinite deck. `reset(options={"player": ["AH", "5S"], "dealer": ["10D", "KC"]})`
    sets either hand, with two cards or more.

    ## Reward
    +1 for a win, 0 for a draw, -1 for a loss; `natural` for a win with an ace and a card worth ten.

    ## Episode end
    Terminated by "stand", after which the dealer draws up to 17 or more, or when the player exceeds 21.

    ## Info
    The true state: `BlackjackInfo`.

    ## Arguments
    `natural` (1.0; the option of the paper is 1.5): the reward of a natural win. `rules`: "paper", or
    "released" as in the paper's released code: cards worth ten are never printed as 10, a natural never pays
    more, and the dealer's second card stays face down. `holdout` (0): share of the starting states (the
    dealer's open card and the player's two, by their values) in which only episodes of evaluation begin (seeds
    from 2**31 on). `render_mode`: None or "rgb_array".

    ## Version history
    v0: the rules of the paper, B.1.4.
    """

    def __init__(
        self, natural: float = 1.0, rules: str = PAPER, holdout: float = 0.0, render_mode: str | None = None
    ) -> None:
        check_choice("rules", rules, (PAPER, RELEASED))
        if not isinstance(natural, int | float) or not 1 <= natural <= 10:
            raise ValueError(f"natural must be a number from 1 to 10, but received {natural!r}.")
        super().__init__(ACTIONS, render_mode)
        self.natural, self.rules = float(natural), rules
        self.holdout = Holdout(holdout, self.starts)
        self._dealer, self._player = [Card(1, "S")] * 2, [Card(1, "S")] * 2
        self._step, self._over, self._won = 0, False, False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Picture, dict[str, Any]]:
        """Deal; ``options`` may set ``player`` and ``dealer``.

        Raises:
            ValueError: an option is unknown, or a hand is not made of two or more valid names.
        """
        self._seed(seed)
        chosen = _chosen(options or {})
        if chosen:
            # both hands are drawn even where one is chosen, so that the seed deals the other one as it would without;
            # what was asked for may be held out
            dealer, player = self._hands()
        else:
            dealer, player = self.holdout.draw(self._hands, _start, evaluates=self.evaluates)
        self._dealer = chosen.get("dealer", dealer)
        self._player = chosen.get("player", player)
        self._step, self._over, self._won = 0, False, False
        return self._started()

    def _hands(self) -> tuple[list[Card], list[Card]]:
        """The dealer's hand and the player's."""
        # the dealer first: the order of draws is part of what a seed means
        dealer = self._draw(2)
        return dealer, self._draw(2)

    def starts(self) -> Iterator[str]:
        """All that a player can see at the beginning, as ``holdout`` names it; suits change nothing."""
        for shown in range(1, 11):
            for hand in combinations_with_replacement(range(1, 11), 2):
                yield _named(shown, hand)

    def step(self, action: int) -> Step:
        """Hit or stand; see the class for rewards and ends."""
        name = self._name(action)
        self._step += 1
        if name == "hit":
            self._player += self._draw(1)
            # 21 itself does not end the hand: the player may still stand or err
            bust = _total(self._player) > 21
            return self._stepped(-1.0 if bust else 0.0, terminated=bust)
        # on every 17, a soft one included
        while _total(self._dealer) < 17:
            self._dealer += self._draw(1)
        reward = self._compare()
        self._over, self._won = True, reward > 0
        return self._stepped(reward, terminated=True)

    def _compare(self) -> float:
        """The reward when the player stands."""
        ours, theirs = _counted(self._player), _counted(self._dealer)
        # a natural: 21 with two cards, and only where the dealer has no 21
        if ours > theirs and ours == 21 and len(self._player) == 2 and self.rules == PAPER:
            return self.natural
        return float(ours > theirs) - float(ours < theirs)

    def _draw(self, count: int) -> list[Card]:
        """The next cards. The released code prints all that are worth ten as a face drawn at random."""
        cards = deal(self.np_random, count)
        if self.rules == PAPER:
            return cards
        faces = self.np_random.integers(11, 14, count).tolist()
        # 10 included: the released code never shows a ten
        return [
            Card(face, card.suit) if card.rank >= 10 else card
            for card, face in zip(cards, faces, strict=True)
        ]

    def _info(self) -> BlackjackInfo:
        total, usable = hand_total([card.rank for card in self._player])
        return {
            "player": [card.name for card in self._player],
            "dealer": [card.name for card in self._dealer],
            "player_total": total,
            "usable_ace": usable,
            # the first card alone, an ace as 11
            "dealer_shows": hand_total([self._dealer[0].rank])[0],
            "dealer_total": _total(self._dealer),
            "step": self._step,
            "goal": self._won,
        }

    def _picture(self) -> Picture:
        # the released code never turns the dealer's second card over, at the end neither
        shown = self._over and self.rules == PAPER
        return blackjack_picture(self._dealer if shown else [self._dealer[0], None], self._player)


def _total(cards: Sequence[Card]) -> int:
    return hand_total([card.rank for card in cards])[0]


def _counted(cards: Sequence[Card]) -> int:
    """The total as it is compared: nothing above 21."""
    total = _total(cards)
    return total if total <= 21 else 0


def _chosen(options: dict[str, Any]) -> dict[str, list[Card]]:
    """The hands that reset options name."""
    hands = {}
    for key, names in options.items():
        if key not in ("player", "dealer") or not isinstance(names, list | tuple) or len(names) < 2:
            raise ValueError(
                "Reset options may be 'player' and 'dealer', each with two or more names like '10H'; "
                f"received {key!r}: {names!r}."
            )
        hands[key] = [parse_card(name) for name in names]
    return hands


def _start(hands: tuple[Sequence[Card], Sequence[Card]]) -> str:
    """What a player sees of the dealer's hand and of the own one."""
    dealer, player = hands
    return _named(min(dealer[0].rank, 10), (min(card.rank, 10) for card in player))


def _named(shown: int, hand: Iterable[int]) -> str:
    return f"dealer shows {shown}, player has {' '.join(map(str, sorted(hand)))}"
