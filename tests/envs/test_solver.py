"""The search for formulas, against a classic solver written another way."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vlmagent_envs.formulas import evaluate
from vlmagent_envs.solver import EZPOINTS, complete, solve

DEALS = st.lists(st.integers(1, 13), min_size=4, max_size=4)


def solvable(numbers, target):
    """Classic 24: replace any two numbers by a result of theirs until one is left."""
    if len(numbers) == 1:
        return numbers[0] == target
    for i, j in itertools.permutations(range(len(numbers)), 2):
        a, b = numbers[i], numbers[j]
        rest = [number for k, number in enumerate(numbers) if k not in (i, j)]
        for value in (a + b, a - b, a * b, *([a / b] if b else [])):
            if solvable([*rest, value], target):
                return True
    return False


def used(tokens):
    return sorted(int(token) for token in tokens if token.isdecimal())


@pytest.mark.parametrize(
    ("numbers", "formula"),
    [
        ((3, 3, 8, 8), "8/(3-8/3)"),
        ((1, 5, 5, 5), "5*(5-1/5)"),
        ((1, 1, 2, 10), "2*(10+1+1)"),
        ((1, 2, 3, 4), "4*3*2*1"),
        ((6, 6, 6, 6), "6+6+6+6"),
    ],
)
def test_simplest_formulas(numbers, formula):
    assert "".join(solve(numbers, 24)) == formula


@pytest.mark.parametrize("numbers", [(1, 1, 1, 1), (1, 1, 1, 10), (10, 10, 10, 10), (6, 7, 9, 13)])
def test_impossible(numbers):
    assert solve(numbers, 24) is None
    assert complete(["("], numbers, 24) is None


def test_the_share_of_solvable_deals_is_73_1_percent():
    """The paper's deals: four ranks of an infinite deck, J, Q and K counting as 10."""
    weight, multisets, total = Fraction(0), 0, Fraction(0)
    for numbers in itertools.combinations_with_replacement(range(1, 11), 4):
        orders = math.factorial(4)
        for count in Counter(numbers).values():
            orders //= math.factorial(count)
        chance = Fraction(orders * 4 ** numbers.count(10), 13**4)
        total += chance
        tokens = solve(numbers, 24)
        if tokens is not None:
            assert evaluate(tokens) == 24
            assert used(tokens) == list(numbers)
            weight += chance
            multisets += 1
    assert total == 1
    assert multisets == 566  # of 715
    assert round(float(weight), 4) == 0.7309


@settings(max_examples=40, deadline=None)
@given(DEALS, st.sampled_from([24, 24, 24, 1, 36, 100, 7]))
def test_solves_exactly_the_solvable(numbers, target):
    tokens = solve(numbers, target)
    assert (tokens is not None) == solvable([Fraction(number) for number in numbers], target)
    if tokens is not None:
        assert evaluate(tokens) == target
        assert used(tokens) == sorted(numbers)


@given(DEALS)
@settings(max_examples=40, deadline=None)
def test_following_the_solution_never_changes_it(numbers):
    solution = solve(numbers, 24)
    assume(solution is not None)
    for done in range(len(solution) + 1):
        remaining = sorted((Counter(numbers) - Counter(used(solution[:done]))).elements())
        assert complete(solution[:done], remaining, 24) == solution[done:]


@st.composite
def bracketed(draw, numbers):
    """A formula of all ``numbers`` in this order, with needless brackets and signs."""
    if len(numbers) == 1:
        tokens = [str(numbers[0])]
    else:
        cut = draw(st.integers(1, len(numbers) - 1))
        left, right = draw(bracketed(numbers[:cut])), draw(bracketed(numbers[cut:]))
        tokens = [*left, draw(st.sampled_from("+-*/")), *right]
    shape = draw(st.sampled_from(["plain", "plain", "brackets", "sign"]))
    return {"plain": tokens, "brackets": ["(", *tokens, ")"], "sign": ["(", "-", *tokens, ")"]}[shape]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 10), min_size=2, max_size=4).flatmap(bracketed), st.data())
def test_every_beginning_of_a_right_formula_is_completed(tokens, data):
    target = evaluate(tokens)
    assume(target is not None and target.denominator == 1 and target > 0)
    done = data.draw(st.integers(0, len(tokens)))
    remaining = used(tokens[done:])
    rest = complete(tokens[:done], remaining, int(target))
    assert rest is not None
    assert evaluate([*tokens[:done], *rest]) == target
    assert used(rest) == remaining
    for more in range(len(rest) + 1):  # following it never changes it
        left = sorted((Counter(remaining) - Counter(used(rest[:more]))).elements())
        assert complete([*tokens[:done], *rest[:more]], left, int(target)) == rest[more:]


@pytest.mark.parametrize(
    ("formula", "remaining", "rest"),
    [
        ("( 2", (1, 1, 10), "*(10+1+1))"),
        ("( 2 + 10 ) * ( 1 + 1 )", (), ""),
        ("( 2 + 10 ) * ( 1 + 1", (), ")"),
        ("2 + + 2", (10, 10), "+10+10"),
        ("( ( 12", (12,), "+12))"),
        ("- 6", (10, 10, 10), "+10+10+10"),
        ("( 2 + 10", (1, 1), ")*(1+1)"),
        ("( 12 + 12 )", (1, 1, 1), "*1*1*1"),
        ("( 5 - 5 - 6 ) *", (4,), "-4"),
        ("- 6 * (", (2, 2), "2*-2)"),
        ("-", (2, 2, 6), "6*2*-2"),
    ],
)
def test_completions(formula, remaining, rest):
    found = complete(formula.split(" "), remaining, 24)
    assert "".join(found) == rest


@pytest.mark.parametrize(
    ("formula", "remaining"),
    [
        ("5 5", (7, 7)),  # no number follows a number
        ("2 * *", (3, 4)),
        (")", (6, 6, 6, 6)),
        ("5 / 0", (1,)),
        ("( 12 + 12 )", (5, 7, 9)),
        ("6 + 6 + 6 + 5", ()),
        ("( ( (", ()),
    ],
)
def test_dead_ends(formula, remaining):
    assert complete(formula.split(" "), remaining, 24) is None


def test_limit_counts_tokens():
    assert "".join(complete(["6"], (6, 6, 6), 24, limit=6)) == "+6+6+6"
    assert complete(["6"], (6, 6, 6), 24, limit=5) is None
    assert complete([], (6, 6, 6, 6), 24, limit=6) is None
    assert complete([], (6, 6, 6, 6), 24, limit=7) is not None


def test_ezpoints_knows_plus_and_times_only():
    assert solve((5, 7), 12, EZPOINTS) == ("7", "+", "5")
    assert solve((2, 6), 12, EZPOINTS) == ("6", "*", "2")
    assert solve((2, 10), 12, EZPOINTS) == ("10", "+", "2")
    assert solve((13, 1), 12, EZPOINTS) is None
    pairs = {pair for pair in itertools.product(range(1, 11), repeat=2) if solve(pair, 12, EZPOINTS)}
    assert pairs == {
        pair for pair in itertools.product(range(1, 11), repeat=2) if sum(pair) == 12 or math.prod(pair) == 12
    }
