"""Exact evaluation against literal values and against an evaluator written another way."""

import ast
import itertools
import warnings
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmagent_envs.formulas import evaluate, evaluate_like_python, extend, parse

TOKENS = [*map(str, range(1, 14)), "+", "-", "*", "/", "(", ")"]


def independent(tokens):
    """Python's own grammar over a text with a space between tokens, computed with fractions."""
    try:
        return walk(ast.parse(" ".join(tokens), mode="eval").body)
    except (SyntaxError, ZeroDivisionError, KeyError, AttributeError):
        return None


def walk(node):
    if isinstance(node, ast.Constant):
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp):
        return -walk(node.operand) if isinstance(node.op, ast.USub) else walk(node.operand)
    left, right = walk(node.left), walk(node.right)
    return {
        ast.Add: lambda: left + right,
        ast.Sub: lambda: left - right,
        ast.Mult: lambda: left * right,
        ast.Div: lambda: left / right,
    }[type(node.op)]()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5 + 7", 12),
        ("8 / ( 3 - 8 / 3 )", 24),
        ("( 2 + 10 ) * ( 1 + 1 )", 24),
        ("2 - 3 - 4", -5),
        ("12 / 2 / 3", 2),
        ("12 / 2 * 3", 18),
        ("2 + 3 * 4 - 6 / 4", Fraction(25, 2)),
        ("- ( 3 - 9 ) * 4", 24),
        ("2 * - 3", -6),
        ("2 - - 3", 5),
        ("+ 7", 7),
        ("( ( ( 4 ) ) )", 4),
        ("1 / 3 + 1 / 3 + 1 / 3", 1),
        ("10 / ( 5 - 3 * ( 1 + 2 / 3 ) + 1 )", 10),
    ],
)
def test_values(text, value):
    assert evaluate(text.split(" ")) == value


@pytest.mark.parametrize(
    "text",
    ["", "+", "1 2", "1 0", "5 +", "( 5", "5 )", "( )", "2 * * 3", "6 / / 2", "5 / 0", "5 / ( 3 - 3 )",
     "2 ( 3 )", "( 2 ) ( 3 )", "( 2 ) 3", ") 2 (", "5 = 5", "a", "2.5", "1e3", "-3", "٣ x", "* 3", "( * 3 )"],
)  # fmt: skip
def test_no_value(text):
    assert evaluate(text.split(" ")) is None


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=12))
def test_any_tokens_agree_with_the_independent_evaluator(tokens):
    if not {("*", "*"), ("/", "/")} & set(itertools.pairwise(tokens)):
        assert evaluate(tokens) == independent(tokens)
    else:
        assert evaluate(tokens) is None


@st.composite
def expressions(draw, depth=4):
    """Well-formed formulas, brackets and signs included."""
    kind = draw(st.sampled_from(["number", "sum", "sum", "bracket", "sign"])) if depth else "number"
    if kind == "number":
        return [draw(st.sampled_from(TOKENS[:13]))]
    if kind == "sum":
        operator = draw(st.sampled_from("+-*/"))
        return [*draw(expressions(depth=depth - 1)), operator, *draw(expressions(depth=depth - 1))]
    inner = draw(expressions(depth=depth - 1))
    return ["(", *inner, ")"] if kind == "bracket" else [draw(st.sampled_from("+-")), *inner]


@settings(max_examples=500, deadline=None)
@given(expressions())
def test_formulas_agree_with_the_independent_evaluator(tokens):
    assert evaluate(tokens) == independent(tokens)


@given(expressions(), st.integers(0, 30))
def test_a_beginning_of_a_formula_is_never_refused_unless_it_divides_by_zero(tokens, length):
    if evaluate(tokens) is not None:
        assert parse(tokens[:length]) is not None


def test_an_equal_state_means_equal_endings():
    assert parse(["2", "+", "3"]) == parse(["2", "+", "3", "*", "1"]) != parse(["3", "+", "2"])
    assert parse(["6", "*", "2", "+"]) == parse(["10", "+", "2", "+"])
    assert parse(["(", "12", ")"]) == parse(["12"])
    assert extend(parse(["5"]), "5") is None


def test_long_formulas_need_no_recursion():
    assert evaluate(["("] * 5000 + ["1"] + [")"] * 5000) == 1
    assert evaluate(["-"] * 20_001 + ["1"]) == -1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2**3+8+8", 24),
        ("12+12", 24),
        ("49//2", 24),
        ("8/(3-8/3)", 8 / (3 - 8 / 3)),
        (" 5 +7", 12),
        ("10*10**-1", 1.0),
        ("++5+7", 12),
    ],
)
def test_like_python(text, value):
    assert evaluate_like_python(text) == value
    assert evaluate_like_python("8/(3-8/3)") != 24  # floats


@pytest.mark.parametrize(
    "text",
    ["", "5+", "5 7", "5/0", "5(7)", "()", "(5)(7)", "10**10**10**10", "10**1000000", "2***3", "5,7",
     "__import__('os')", "x", "1e9", "5=5", "(" * 79, "9" * 81, "0777", "5\n+7", "10.0**400"],
)  # fmt: skip
def test_like_python_without_a_value(text):
    assert evaluate_like_python(text) is None  # at once: none of these may be computed


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=9).filter(lambda t: "**" not in "".join(t)))
def test_like_python_agrees_with_python(tokens):
    text = "".join(tokens)
    try:
        with warnings.catch_warnings(action="ignore"):
            expected = eval(text, {"__builtins__": {}})
    except Exception:
        expected = None
    if not isinstance(expected, int | float | complex):
        expected = None
    assert evaluate_like_python(text) == expected
