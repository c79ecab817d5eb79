"""Exhaustive search for formulas: which deals can be solved, and the simplest way to finish any beginning.

"Simplest" is one total order of formulas (fewest signs, as in ``*-4``, then fewest tokens, then fewest ``/``
and ``-``, then the order of ``RANK``), so following a completion token by token never changes it. Answers are
kept for the process's life.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, product
from typing import NamedTuple

from vlmagent_envs.formulas import Partial, extend, operand, parse

Numbers = tuple[int, ...]
"""A multiset of card values, ascending."""

POINTS24 = "+-*/("
"""The operators of Points24; "(" stands for brackets."""
EZPOINTS = "+*"
"""The operators of EZPoints."""

RANK = {token: rank for rank, token in enumerate((*map(str, range(13, 0, -1)), "*", "+", "-", "/", ")", "("))}
"""Ties between equally simple formulas go to the one whose tokens come first here."""
# One sum orders formulas: a sign outweighs all tokens that a formula can have, a token all its "/" and "-".
# a token of 1000, and one or two more for what should come last among formulas of equal length
_COST = {"-": 1001, "/": 1002}
_TOKEN, _SIGN = 1000, 100_000


class Piece(NamedTuple):
    """A piece of formula; the lesser of two is the simpler one."""

    cost: int
    order: tuple[int, ...]
    tokens: tuple[str, ...]

    def followed_by(self, other: Piece) -> Piece:
        """Both in a row."""
        return Piece(self.cost + other.cost, self.order + other.order, self.tokens + other.tokens)


class Forms(NamedTuple):
    """The simplest ways to write one value: anyhow, as a factor of a product, and as a divisor."""

    whole: Piece
    factor: Piece | None
    divisor: Piece | None


Pieces = dict[Fraction, Piece]
Values = dict[Fraction, Forms]

_EMPTY = Piece(0, (), ())
_MINUS = Piece(_SIGN, (RANK["-"],), ("-",))


def operators_of(actions: Sequence[str]) -> str:
    """The operators of a game as ``solve`` and ``complete`` take them, from the names of its actions."""
    return "".join(action for action in actions if action in POINTS24)


def solve(numbers: Sequence[int], target: int, operators: str = POINTS24) -> tuple[str, ...] | None:
    """The simplest formula that uses every number once and equals ``target``, or None."""
    goal = Fraction(target)
    # the search backwards from a goal divides by it, so that for 0 every value is worked out
    # a zero `goal` is false and becomes None
    forms = _values(tuple(sorted(numbers)), operators, goal or None).get(goal)
    return None if forms is None else forms.whole.tokens


def complete(
    formula: Sequence[str],
    remaining: Sequence[int],
    target: int,
    operators: str = POINTS24,
    limit: int = 1000,
) -> tuple[str, ...] | None:
    """The simplest tokens after ``formula`` that use up ``remaining`` and make it equal ``target``.

    New signs are tried only if nothing else helps. They suffice before operands: a bracketed formula with
    signs inside has, but for a sign, the value of one without.

    Args:
        target: at least 1.
        limit: how many tokens may follow.

    Returns:
        () when the formula is complete; None when nothing of that length can complete it.
    """
    if not formula:
        tokens = solve(remaining, target, operators)
    else:
        partial = parse(formula)
        if partial is None or _fewest(partial, len(remaining)) > limit:
            return None
        search = partial, tuple(sorted(remaining)), target, operators
        piece = _completion(*search, signs=False)
        # only now: signs make the search several times as large, and few beginnings need them
        if piece is None and "-" in operators:
            piece = _completion(*search, signs=True)
        tokens = None if piece is None else piece.tokens
    return None if tokens is None or len(tokens) > limit else tokens


def _fewest(partial: Partial, numbers: int) -> int:
    """No completion has fewer tokens: closing brackets, numbers, an operator before each but a wanted one."""
    # levels above the first are brackets that are still open
    return len(partial.levels) - 1 + 2 * numbers - partial.wants_operand


@lru_cache(maxsize=512)
def _piece(token: str) -> Piece:
    return Piece(_COST.get(token, _TOKEN), (RANK[token],), (token,))


def _bracketed(piece: Piece) -> Piece:
    return _piece("(").followed_by(piece).followed_by(_piece(")"))


@lru_cache(maxsize=4096)
def _splits(numbers: Numbers) -> tuple[tuple[Numbers, Numbers], ...]:
    """Every way to take a part, at least one number, out of a multiset: (part, rest)."""
    indices = range(len(numbers))
    # from small to large parts, each as numbers and not as places: equal cards make equal formulas
    found = {}
    for size in range(1, len(numbers) + 1):
        for chosen in combinations(indices, size):
            part = tuple(numbers[index] for index in chosen)
            found[part] = tuple(numbers[index] for index in indices if index not in chosen)
    return tuple(found.items())


@lru_cache(maxsize=8192)
def _values(numbers: Numbers, operators: str, goal: Fraction | None = None) -> Values:
    """Every value of a formula that uses each of ``numbers`` once, with its simplest forms.

    Args:
        goal: if given, not zero; other values may then be missing, which is much faster.
    """
    if len(numbers) == 1:
        piece = _piece(str(numbers[0]))
        return {Fraction(numbers[0]): Forms(piece, piece, piece)}
    sums: Pieces = {}
    products: Pieces = {}
    for left, right in _splits(numbers):
        if right:
            values = _values(left, operators), _values(right, operators)
            for a, b in _pairs(*values, goal):
                _combine(a, values[0][a], b, values[1][b], operators, sums, products)
    brackets = "(" in operators
    table = {}
    for value in {**sums, **products}:
        # a sum and a product may have the same value: the simpler form stands for it
        whole = min(piece for piece in (sums.get(value), products.get(value)) if piece)
        # as a divisor even a product needs brackets: a/(b*c)
        divisor = _bracketed(whole) if brackets else None
        # a product is a factor as it stands, a sum needs brackets
        factor = min((p for p in (products.get(value), divisor) if p), default=None)
        table[value] = Forms(whole, factor, divisor)
    return table


def _pairs(left: Values, right: Values, goal: Fraction | None) -> Iterator[tuple[Fraction, Fraction]]:
    """Pairs of operands; with a ``goal`` only those that one operator might bring there."""
    if goal is None:
        yield from product(left, right)
    elif len(left) <= len(right):
        # what b has to be for a + b, a - b, a / b or a * b to be the goal: four look-ups in place of all pairs
        for a in left:
            yield from ((a, b) for b in (goal - a, a - goal, a / goal, goal / a if a else None) if b in right)
    else:
        for b in right:
            yield from ((a, b) for a in (goal - b, goal + b, goal * b, goal / b if b else None) if a in left)


def _combine(
    a: Fraction, left: Forms, b: Fraction, right: Forms, operators: str, sums: Pieces, products: Pieces
) -> None:
    """Enter every ``left operator right`` into ``sums`` or ``products``."""
    if "+" in operators:
        _offer(sums, a + b, left.whole, "+", right.whole)
    if "-" in operators:
        _offer(sums, a - b, left.whole, "-", right.factor)
    # `factor` and `divisor` have the brackets that a sum needs behind a minus or beside `*`, and all but a number
    # behind `/`
    if "*" in operators:
        _offer(products, a * b, left.factor, "*", right.factor)
    if "/" in operators and b:
        _offer(products, a / b, left.factor, "/", right.divisor)


def _offer(table: Pieces, value: Fraction, left: Piece | None, operator: str, right: Piece | None) -> None:
    if left is None or right is None:
        return
    known = table.get(value)
    # most candidates cost more than what is known: they are turned away before their tokens are joined
    if known is not None and left.cost + _COST.get(operator, _TOKEN) + right.cost > known.cost:
        return
    piece = left.followed_by(_piece(operator)).followed_by(right)
    if known is None or piece < known:
        table[value] = piece


@lru_cache(maxsize=1 << 18)
def _completion(
    partial: Partial, remaining: Numbers, target: int, operators: str, signs: bool
) -> Piece | None:
    """The simplest piece that turns ``partial`` into a formula that equals ``target``, or None."""
    if not partial.wants_operand and not remaining and partial.value == target:
        return _EMPTY
    candidates = []
    steps = (
        _operands(partial, remaining, operators, signs)
        if partial.wants_operand
        else _joints(partial, remaining, operators)
    )
    for piece, state, rest in steps:
        tail = _completion(state, rest, target, operators, signs)
        if tail is not None:
            candidates.append(piece.followed_by(tail))
    return min(candidates, default=None)


def _operands(
    partial: Partial, remaining: Numbers, operators: str, signs: bool
) -> Iterator[tuple[Piece, Partial, Numbers]]:
    """Every number or bracketed group that can come next: its tokens, the state after it, what is left."""
    for part, rest in _splits(remaining):
        for value, forms in _values(part, operators).items():
            state = operand(partial, value)
            if state is not None and forms.divisor is not None:
                yield forms.divisor, state, rest
            state = operand(partial, -value) if signs else None
            if state is not None and forms.divisor is not None:
                yield _MINUS.followed_by(forms.divisor), state, rest


def _joints(partial: Partial, remaining: Numbers, operators: str) -> Iterator[tuple[Piece, Partial, Numbers]]:
    """Every operator or closing bracket that can come next."""
    for token in ")" + (operators.replace("(", "") if remaining else ""):
        state = extend(partial, token)
        if state is not None:
            yield _piece(token), state, remaining
