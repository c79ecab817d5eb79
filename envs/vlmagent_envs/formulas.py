"""Formulas as sequences of tokens, read strictly from left to right and evaluated with exact fractions.

A token is what one action appends: a number ("1" to "13") or one of ``+ - * / ( )``. Precedence, brackets and
signs are those of ordinary arithmetic; two numbers in a row, ``**``, ``//`` and everything else that is no
arithmetic have no value. The work is linear in the number of tokens: no recursion, no ``eval``.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, cast

_ZERO, _ONE = Fraction(0), Fraction(1)
_LONGEST = 80  # more than any game can write; Python's parser recurses, and fails on very long texts
_MOST_BITS = 10_000  # 10**10**10 must not hang, nor fill the memory
_PYTHON_CHARACTERS = set("0123456789+-*/() ")
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


class Level(NamedTuple):
    """What is known inside one pair of brackets: ``total`` plus the product that is being written.

    Attributes:
        total: sum of the finished terms.
        term: the unfinished term so far, with its sign.
        divides: whether the next operand divides the term.
    """

    total: Fraction
    term: Fraction
    divides: bool


class Partial(NamedTuple):
    """All that matters of a formula's beginning: beginnings with equal ``Partial`` have equal endings.

    Attributes:
        levels: the outermost level first; one more for each open bracket.
        wants_operand: whether a number or an opening bracket comes next (else an operator or a closing one).
    """

    levels: tuple[Level, ...]
    wants_operand: bool

    @property
    def value(self) -> Fraction | None:
        """The formula's value if it could end here."""
        if self.wants_operand or len(self.levels) > 1:
            return None
        return self.levels[0].total + self.levels[0].term


FRESH = Level(_ZERO, _ONE, False)
START = Partial((FRESH,), True)


def extend(partial: Partial, token: str) -> Partial | None:
    """``partial`` with one token more, or None when no formula begins so (division by zero included)."""
    if token in ("*", "/", ")"):
        return None if partial.wants_operand else _continue(partial, token)
    if not partial.wants_operand:
        return _continue(partial, token) if token in ("+", "-") else None
    level = partial.levels[-1]
    if token == "(":
        return Partial((*partial.levels, FRESH), True)
    if token in ("+", "-"):
        signed = level._replace(term=-level.term) if token == "-" else level
        return Partial((*partial.levels[:-1], signed), True)
    return operand(partial, Fraction(int(token))) if token.isdecimal() else None


def operand(partial: Partial, value: Fraction) -> Partial | None:
    """``partial``, which wants an operand, with one of this value; None on division by zero."""
    total, term, divides = partial.levels[-1]
    # exact fractions have no infinity
    if divides and not value:
        return None
    # the term goes on: products bind tighter than sums
    product = term / value if divides else term * value
    return Partial((*partial.levels[:-1], Level(total, product, False)), False)


def _continue(partial: Partial, token: str) -> Partial | None:
    """``partial``, which has just had an operand, with an operator or a closing bracket."""
    *outer, (total, term, _) = partial.levels
    if token == ")":
        # a closed bracket is an operand of the level around it; without one open there is no such formula
        return operand(Partial(tuple(outer), True), total + term) if outer else None
    if token in ("*", "/"):
        return Partial((*outer, Level(total, term, token == "/")), True)
    # a sign begins a new term; the one before is added to the total of its level
    return Partial((*outer, Level(total + term, -_ONE if token == "-" else _ONE, False)), True)


def parse(tokens: Sequence[str]) -> Partial | None:
    """The state after ``tokens``, or None when no formula begins with them."""
    partial: Partial | None = START
    for token in tokens:
        if partial is None:
            return None
        partial = extend(partial, token)
    return partial


def evaluate(tokens: Sequence[str]) -> Fraction | None:
    """The exact value of a whole formula, or None if it has none."""
    partial = parse(tokens)
    return None if partial is None else partial.value


def evaluate_like_python(text: str) -> complex | None:
    """The value that Python gives ``text``, as the released code of the paper did; None where Python raises.

    Digits join, ``**`` and ``//`` are operators and division is in floats. Unlike ``eval`` it knows only
    numbers and operators, and a power of more than some thousand digits has no value instead of hanging.
    """
    if len(text) > _LONGEST or not set(text) <= _PYTHON_CHARACTERS:
        return None
    try:
        return cast(complex, _python_value(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, ValueError, ArithmeticError, TypeError):
        return None


def _python_value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_python_value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_python_value(node.left), _python_value(node.right))
    raise ValueError("not arithmetic")


def _power(base: Any, exponent: Any) -> Any:
    whole = isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1
    if whole and abs(exponent) * base.bit_length() > _MOST_BITS:
        raise OverflowError("a power too large to matter")
    return base**exponent


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: _power,
}
