"""f(v_out), case by case, and on any text at all."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmagent.tasks.parsing import extract_thoughts, find_action_key, parse_action

NUMBERS = tuple(str(number) for number in range(1, 11))
SIGNS = ("+", "-")
POINTS = (*NUMBERS, "+", "-", "*", "/", "(", ")", "=")
CARDS = ("stand", "hit")
ROOM = ("go to shelf 1", "go to shelf 10", "take apple 1 from shelf 1", "put apple 1 in/on shelf 10", "look")


class NoDraw:
    """A generator that must not be used."""

    def integers(self, *_):
        raise AssertionError("a legal output needs no randomness")


def parse(output, legal, rng=None):
    return parse_action(output, legal, rng or np.random.default_rng(0))


@pytest.mark.parametrize(
    ("output", "legal", "action"),
    [
        ('{\n"action": "+"\n}', SIGNS, "+"),
        ('{"action":"-"}', SIGNS, "-"),
        ('{"action" \n : "-"}', SIGNS, "-"),
        ('{"action": +}', SIGNS, "+"),
        ('"action": "+', SIGNS, "+"),
        ("\"action\": '-'", SIGNS, "-"),
        ('{"action": "10"}', POINTS, "10"),
        ('{"action": 10}', POINTS, "10"),
        ('{"action": "1"}', POINTS, "1"),
        ('{"action": "("}', POINTS, "("),
        ('{"action": "="}', POINTS, "="),
        ('{"action": "*"}"', POINTS, "*"),
        ('{"action": "Stand"}', CARDS, "stand"),
        ('{"action": "HIT!"}', CARDS, "hit"),
        ('{"action": "I will hit."}', CARDS, "hit"),
        ('{"action": "hit, hit"}', CARDS, "hit"),  # the same one twice is still one
        ('{"action": "go to shelf 10"}', ROOM, "go to shelf 10"),
        ('{"action": "go to  shelf\n1"}', ROOM, "go to shelf 1"),
        ('{"action": "take apple 1 from shelf 1"}', ROOM, "take apple 1 from shelf 1"),
        ('{"action": "put apple 1 in/on shelf 10."}', ROOM, "put apple 1 in/on shelf 10"),
        ('{"action": "look"} and "action" again', ROOM, "look"),  # no colon: not a key
        ('{"action": "+"} then -', SIGNS, "+"),  # after the object
        ('{"action": "+"}{"action": "-"}', SIGNS, "-"),  # the last key
        ('{"thoughts": "\\"action\\": \\"-\\"", "action": "+"}', SIGNS, "+"),
        ('{"action": "{+}"}', SIGNS, "+"),  # a brace inside quotes ends nothing
    ],
)
def test_legal(output, legal, action):
    parsed = parse_action(output, legal, NoDraw())
    assert (parsed.action, parsed.legal_output) == (action, True)


@pytest.mark.parametrize(
    ("output", "legal"),
    [
        ("", SIGNS),
        ("+", SIGNS),
        ('{"action"', SIGNS),
        ('{"action":', SIGNS),
        ('{"action": ""}', SIGNS),
        ('{"action": "-" or "+"}', SIGNS),
        ('{"action": "+-"}', SIGNS),
        ('{"action": "{number}" or "{operator}"}', POINTS),
        ('{"action": "11"}', POINTS),
        ('{"action": "100"}', POINTS),
        ('{"action": "1.1"}', POINTS),
        ('{"action": "-5"}', POINTS),
        ('{"action": "7 + 5"}', POINTS),
        ('{"action": "standing"}', CARDS),
        ('{"action": "stand" or "hit"}', CARDS),
        ('{"action": "white"}', CARDS),
        ('{"action": "go to shelf 100"}', ROOM),
        ('{"action": "go to shelf 2"}', ROOM),
        ('{"Action": "+"}', SIGNS),
        ('{"action": "+"}{"action": }', SIGNS),  # only the last key counts
    ],
)
def test_not_legal(output, legal):
    parsed = parse(output, legal)
    assert parsed.legal_output is False
    assert parsed.action in legal


def test_fallback_is_uniform_over_the_legal_actions_and_reproducible():
    rng = np.random.default_rng(0)
    drawn = [parse("nonsense", POINTS, rng).action for _ in range(17 * 400)]
    counts = {action: drawn.count(action) for action in POINTS}
    assert min(counts.values()) > 320
    assert max(counts.values()) < 480
    again = np.random.default_rng(0)
    assert [parse("nonsense", POINTS, again).action for _ in range(50)] == drawn[:50]


@pytest.mark.parametrize(
    ("output", "text", "covered"),
    [
        ('{"a": 1, "action": "+"\n}', "+", '"action": "+"'),
        ('{"action" : 10 }', "10", '"action" : 10'),
        ('{"action": " hit "}', "hit", '"action": " hit "'),
        ('{"action": "-" or "+"}', '"-" or "+"', '"action": "-" or "+"'),
        ('{"action": "+', "+", '"action": "+'),
        ('{"action":}', "", '"action":'),
        ('{"action": "+", "x": 1}', "+", '"action": "+"'),
        ('{"action": "-"}{"action": "+"} tail', "+", '"action": "+"'),
        ('{"action": "a \\"b\\" c"}', 'a \\"b\\" c', '"action": "a \\"b\\" c"'),
    ],
)
def test_action_text_and_span(output, text, covered):
    parsed = parse(output, SIGNS)
    assert parsed.action_text == text
    assert output[slice(*parsed.span)] == covered
    assert find_action_key(output) == parsed.span[0]


def test_no_key():
    parsed = parse('action: "+"', SIGNS)
    assert (parsed.action_text, parsed.span) == ("", None)
    assert find_action_key('"action" "+"') is None


@pytest.mark.parametrize(
    ("output", "thoughts"),
    [
        ("", ""),
        ('{\n"action": "+"\n}', ""),
        ('{"thoughts": "I add.", "action": "+"}', "I add."),
        ('{"thoughts": "I \\"add\\"\\n now.",\n"action": "+"}', 'I "add" now.'),
        ('{"thoughts": "I see "a" here.",\n"action": "+"}', 'I see "a" here.'),
        ('{"thoughts": "I add."\n"action": "+"}', "I add."),
        ('{"thoughts": "never closed,\n"action": "+"}', "never closed"),
        ('{"thoughts": {a plan}, "action": "+"}', "a plan"),
        ('{"action": "+", "thoughts": "afterwards"}', "afterwards"),
        ("I think so.\n\"action\": '+'", "I think so."),
        ('{\n"current number": "0",\n"action": "+"}', '"current number": "0"'),
        ("just   words", "just words"),
        ('{"thoughts": "\\ud800"}', "?"),
    ],
)
def test_thoughts(output, thoughts):
    assert extract_thoughts(output) == thoughts


PIECES = st.sampled_from(
    ['"action"', '"thoughts"', ":", " ", "\n", '"', "\\", "{", "}", ",", "'", "\0", *POINTS, *CARDS, *ROOM]
)
OUTPUTS = st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join))


@settings(max_examples=300, deadline=None)
@given(OUTPUTS, st.sampled_from([SIGNS, POINTS, CARDS, ROOM, NUMBERS]))
def test_any_text_is_data(output, legal):
    parsed = parse(output, legal)
    assert parsed.action in legal
    key = find_action_key(output)
    assert (key is None) == (parsed.span is None)
    if parsed.span is not None:
        start, end = parsed.span
        assert start == key
        assert 0 <= start < end <= len(output)
        assert output.startswith('"action"', start)
        assert parsed.action_text in output[start:end]
    else:
        assert not parsed.legal_output
    extract_thoughts(output).encode("utf-8")


@given(st.sampled_from([SIGNS, POINTS, CARDS, ROOM]), st.data(), st.text(alphabet='ab{}":,\n ', max_size=30))
def test_a_well_formed_answer_is_always_read(legal, data, before):
    action = data.draw(st.sampled_from(legal))
    parsed = parse_action(f'{before}{{"action": "{action}"}}', legal, NoDraw())
    assert (parsed.action, parsed.action_text) == (action, action)


@pytest.mark.parametrize(
    "piece",
    [
        '"action"',
        '"action":',
        '"action": "',
        '"action"  ',
        '\\"',
        '"',
        "{",
        "go to ",
        " ",
        "1",
        '"thoughts": "',
        "\\",
        "\n",
        ", ",
        '\n    "key',
        "[",
        "<think>",
        "}",
    ],
)
def test_100_kilobytes_take_no_time(piece):
    many = piece * (100_000 // len(piece))
    for output in (many, f'"action": "{many}', f'"action": {many}', f'"action": [{many}'):
        before = time.process_time()
        parse(output, (*ROOM, *POINTS))
        extract_thoughts(output)
        assert time.process_time() - before < 1.0
