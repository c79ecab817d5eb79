"""Where an action's value ends: nothing outside it counts, whatever surrounds it."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vlmagent.tasks.parsing import answer_start, extract_thoughts, find_action_key, parse_action, with_action

SIGNS = ("+", "-")
EZPOINTS = (*map(str, range(1, 11)), "+", "*", "=")
POINTS24 = (*map(str, range(1, 11)), "+", "-", "*", "/", "(", ")", "=")
CARDS = ("stand", "hit")
ROOM = (
    "go to shelf 1", "go to shelf 10", "take apple 1 from shelf 1", "put apple 1 in/on shelf 10", "examine shelf 1",
    "look", "inventory",
)  # fmt: skip
TASKS = (SIGNS, EZPOINTS, POINTS24, CARDS, ROOM)


class NoDraw:
    """A generator that must not be used."""

    def integers(self, *_):
        raise AssertionError("a legal output needs no randomness")


@pytest.mark.parametrize(
    ("output", "legal", "action"),
    [
        # behind the value: reasons
        ('{"action":"hit","thoughts":"If I stand I lose"}', CARDS, "hit"),
        ('{"action": "+", "thoughts": "- would lead away"}', SIGNS, "+"),
        ('{"action": "7", "thoughts": "7+5=12, not 7*5"}', EZPOINTS, "7"),
        ('{"action": "(", "thoughts": "(8-2)*4=24"}', POINTS24, "("),
        ('{"action": "look", "thoughts": "I could go to shelf 10"}', ROOM, "look"),
        ('{"action": "go to shelf 1", "thoughts": "then I look"}', ROOM, "go to shelf 1"),
        ('{"action": "HIT", "thoughts": "STAND loses"}', CARDS, "hit"),
        ('{"action": "hit", "thoughts": {"if I": "stand", "then": ["stand", "lose"]}}', CARDS, "hit"),
        ('{"action": "hit",\n"thoughts": "If I stand I lose"', CARDS, "hit"),  # no closing brace
        ('"action": "hit"\nIf I stand I lose', CARDS, "hit"),  # no braces at all
        ('"action": "hit"\nAnd so I do not stand', CARDS, "hit"),
        ('{"action": "hit" "thoughts": "If I stand I lose"}', CARDS, "hit"),  # no comma
        ('{"action": "hit"\n"thoughts": "If I stand I lose"}', CARDS, "hit"),
        ('{"action": "hit"; "thoughts": "If I stand I lose"}', CARDS, "hit"),
        ('{"action": "hit" because if I stand I lose}', CARDS, "hit"),
        ('{"action": "hit"  // not stand\n}', CARDS, "hit"),
        ('{"action": "hit" /* not stand */}', CARDS, "hit"),
        ('{"action": "hit"} I will not stand', CARDS, "hit"),
        ('```json\n{"action": "hit"}\n```\nTo stand would lose.', CARDS, "hit"),
        ('{"action": "hit", "action_reason": "to stand would lose"}', CARDS, "hit"),
        # escapes
        (
            '{"action": "put apple 1 in\\/on shelf 10", "thoughts": "look"}',
            ROOM,
            "put apple 1 in/on shelf 10",
        ),
        ('{"action": "go to\\u0020shelf 1"}', ROOM, "go to shelf 1"),
        ('{"action": "\\u002b", "thoughts": "no -"}', SIGNS, "+"),
        ('{"action": "\\/", "thoughts": "8/2"}', POINTS24, "/"),
        ('{"action": "a \\"hit\\", please", "thoughts": "stand?"}', CARDS, "hit"),
        ('{"thoughts": "Never \\"action\\": \\"stand\\".", "action": "hit"}', CARDS, "hit"),
        ('{"action": "hit", "thoughts": "Never \\"action\\": \\"stand\\"."}', CARDS, "hit"),
        # values that hold commas, braces, brackets, quotes
        ('{"action": "hit, please", "thoughts": "stand"}', CARDS, "hit"),
        ('{"action": "{hit}", "thoughts": "stand"}', CARDS, "hit"),
        ('{"action": "[hit]: now", "thoughts": "stand"}', CARDS, "hit"),
        ('{"action": "I "hit" now", "thoughts": "stand"}', CARDS, "hit"),
        ('{"action": "don\'t wait, hit", "thoughts": "stand"}', CARDS, "hit"),
        # other quotes
        ("{\"action\": 'hit', \"thoughts\": 'If I stand I lose'}", CARDS, "hit"),
        ("{\"action\": 'I don\\'t wait: hit', \"thoughts\": 'stand'}", CARDS, "hit"),
        ("{\"action\": 'I don't wait: hit', \"thoughts\": 'stand'}", CARDS, "hit"),
        ('{"action": “hit”, "thoughts": “If I stand I lose”}', CARDS, "hit"),
        ('{"action": “hit", "thoughts": "If I stand I lose"}', CARDS, "hit"),
        ('{"action": "hit”, "thoughts": "If I stand I lose"}', CARDS, "hit"),
        ('{"action": ‘hit’, "thoughts": “stand”}', CARDS, "hit"),
        ('{"action": „hit“, "thoughts": „stand“}', CARDS, "hit"),
        ('{"action": «hit», "thoughts": «stand»}', CARDS, "hit"),
        ('{"action": `hit`, "thoughts": "stand"}', CARDS, "hit"),
        # no quotes: up to the next key, the brace, a fence
        ('{"action": hit, "thoughts": "If I stand I lose"}', CARDS, "hit"),
        ("{\"action\": hit, 'thoughts': 'If I stand I lose'}", CARDS, "hit"),
        ('{"action": hit, thoughts: I should not stand}', CARDS, "hit"),
        ('{"action": hit\n"thoughts": "If I stand I lose"}', CARDS, "hit"),
        ('{"action": 10, "thoughts": "10+2=12"}', EZPOINTS, "10"),
        ('{"action": 1,\n  "numbers": [2, 3]}', POINTS24, "1"),
        ('{"action": -, "thoughts": "no +"}', SIGNS, "-"),
        ('{"action": take apple 1 from shelf 1, "next": "look"}', ROOM, "take apple 1 from shelf 1"),
        ('{"action": hit} I will not stand', CARDS, "hit"),
        ('{"action": hit"} I will not "stand"', CARDS, "hit"),
        ('"action": hit\n```\nTo stand would lose.', CARDS, "hit"),
        # never closed
        ('{"action": "hit', CARDS, "hit"),
        ('{"action": "hit}\nTo stand would lose.', CARDS, "hit"),
        ('{"action": "hit\n}\nIf I "stand" I lose.', CARDS, "hit"),
        ('{"action": "hit\n"thoughts": "If I stand I lose"}', CARDS, "hit"),
        ('{"action": "hit, "thoughts": "If I stand I lose"}', CARDS, "hit"),
        ('{"action": "hit\\", "thoughts": "If I stand I lose"}', CARDS, "hit"),
        ('{"action": \'hit, "thoughts": "If I stand I lose"}', CARDS, "hit"),
        # lists and objects
        ('{"action": ["hit"], "thoughts": "stand"}', CARDS, "hit"),
        ('{"action": {"name": "hit"}, "thoughts": "stand"}', CARDS, "hit"),
        (
            '{"action": {"name": "hit", "braces": "}]", "sure": [true, {}]}, "thoughts": "stand"}',
            CARDS,
            "hit",
        ),
        ('{"action": {"name": "hit", "why": "stand loses"', CARDS, "hit"),  # cut off: up to the next key
        ('{"result": {"action": "hit"}, "thoughts": "stand"}', CARDS, "hit"),
        ('{"action": {"action": "hit"}, "thoughts": "stand"}', CARDS, "hit"),
        ('[{"action": "stand"}, {"action": "hit"}]', CARDS, "hit"),
        # several keys: the last, but for those that lie deeper in the same object
        ('{"action": "hit", "alternatives": [{"action": "stand", "p": 0.2}]}', CARDS, "hit"),
        ('{"action": "hit", "rejected": {"action": "stand"}, "thoughts": "if I stand"}', CARDS, "hit"),
        ('{"action": "hit", "tree": {"action": "stand", "then": {"action": "stand"}}}', CARDS, "hit"),
        ('{"history": [{"action": "stand"}, {"action": "stand"}], "action": "hit"}', CARDS, "hit"),
        ('{"plan": {"action": "hit", "else": {"action": "stand"}}}', CARDS, "hit"),
        ('{"action": "stand", "draft": {"action": "stand"}, "action": "hit"}', CARDS, "hit"),
        ('{"step 1": {"action": "stand"}, "step 2": {"action": "hit"}}', CARDS, "hit"),
        ('{"action": "stand"}\nNo: {"action": "hit"}', CARDS, "hit"),
        ('{"action": "stand", "thoughts": "no", "action": "hit"}', CARDS, "hit"),
    ],
)
def test_legal(output, legal, action):
    parsed = parse_action(output, legal, NoDraw())
    assert (parsed.action, parsed.legal_output) == (action, True)


@pytest.mark.parametrize(
    ("output", "legal"),
    [
        ('{"action":"double down","thoughts":"I should not stand with 11"}', CARDS),
        ('{"action": "right", "thoughts": "+ leads there"}', SIGNS),
        ('{"action": "11", "thoughts": "11 is 10+1"}', EZPOINTS),
        ('{"action": "8-2", "thoughts": "("}', POINTS24),
        ('{"action": "go to shelf 2", "thoughts": "or go to shelf 1"}', ROOM),
        ('{"action": "", "thoughts": "hit"}', CARDS),
        ('{"action": null, "thoughts": "hit"}', CARDS),
        ('{"action": 11, "thoughts": "10"}', EZPOINTS),
        ('{"action": [], "thoughts": "hit"}', CARDS),
        ('{"action": {"name": "double"}, "thoughts": "hit"}', CARDS),
        ("{\"action\": 'double', \"thoughts\": 'hit'}", CARDS),
        ('{"action": double, "thoughts": "hit"}', CARDS),
        ('{"action": , "thoughts": "hit"}', CARDS),
        ('{"action": "double"} hit', CARDS),
        ('{"action": "double"\nhit', CARDS),
        # not one but several
        ('{"action": "hit or stand"}', CARDS),
        ('{"action": "hit" or "stand"}', CARDS),
        ('{"action": "hit" OR stand}', CARDS),
        ('{"action": "hit" | "stand"}', CARDS),
        ('{"action": "hit"/"stand"}', CARDS),
        ('{"action": "-" or "+", "thoughts": "+"}', SIGNS),
        ("{\"action\": '-' or '+'}", SIGNS),
        ('{"action": ["stand", "hit"]}', CARDS),
        ('{"action": {"hit": 0.7, "stand": 0.3}}', CARDS),
        ('{"action": "double", "rejected": {"action": "hit"}}', CARDS),
        ('{"action": hit, stand}', CARDS),
        ('{"action": hit and stand}', CARDS),
    ],
)
def test_not_legal(output, legal):
    assert not parse_action(output, legal, np.random.default_rng(0)).legal_output


@pytest.mark.parametrize(
    ("output", "text", "covered"),
    [
        ('{"action":"hit","thoughts":"stand"}', "hit", '"action":"hit"'),
        ('{"action": \'hit\', "x": 1}', "hit", "\"action\": 'hit'"),
        ('{"action": “hit” , "x": 1}', "hit", '"action": “hit”'),
        ('{"action": hit , "x": 1}', "hit", '"action": hit'),
        ('{"action": hit,\n}', "hit", '"action": hit'),
        ('{"action": ["hit", {"a": "}"}], "x": 1}', '["hit", {"a": "}"}]', '"action": ["hit", {"a": "}"}]'),
        ('{"action": "-" or "+", "x": 1}', '"-" or "+"', '"action": "-" or "+"'),
        ('{"action": "hit" because, "x": 1}', "hit", '"action": "hit"'),
        ('{"action": "hit}\nend', "hit", '"action": "hit'),
        ('{"action": "hit\n "x": 1}', "hit", '"action": "hit'),
        ('{"action": , "x": 1}', "", '"action":'),
        ('{"action": "\\u002b"}', "\\u002b", '"action": "\\u002b"'),
        ('<think>"action": "stand"</think>{"action": "hit"}', "hit", '"action": "hit"'),
        ('{"action": "hit", "rejected": {"action": "stand"}}', "hit", '"action": "hit"'),
    ],
)
def test_action_text_and_span(output, text, covered):
    parsed = parse_action(output, CARDS, np.random.default_rng(0))
    assert parsed.action_text == text
    assert output[slice(*parsed.span)] == covered


# Thinking


@pytest.mark.parametrize(
    ("output", "start"),
    [
        ("", 0),
        ("no tags", 0),
        ("<think>a</think>b", 16),
        ("a</think>b", 9),  # some chat templates write the opening tag into the prompt
        ("<think>a</think>b</think>c", 25),
        ("<think><think>a</think>b", 23),
        ("<thinking>a</thinking>b", 22),
        ("[THINK]a[/THINK]b", 16),
        ("◁think▷a◁/think▷b", 16),
        ("<think>", None),
        ("<think>a", None),
        ("a<think>b", None),
        ("<think>a</think>b<think>c", None),
        ("</think><think>", None),
    ],
)
def test_where_the_answer_begins(output, start):
    assert answer_start(output) == start


@pytest.mark.parametrize(
    ("output", "legal_output", "thoughts"),
    [
        ('<think>"action": "stand"?</think>{"thoughts": "I hit.", "action": "hit"}', True, "I hit."),
        ('<think>I could hit.</think>\n{"action": "hit"}', True, "I could hit."),
        ('so I hit</think>{"action": "hit"}', True, "so I hit"),
        # the format quoted while thinking, and nothing behind it
        ('<think>It wants {"thoughts": "x", "action": "hit"}.</think> I am not sure.', False, None),
        ('<think>A draft: {"thoughts": "x", "action": "hit"}, or', False, None),
        ('{"action": "hit"}<think>Wait', False, None),
    ],
)
def test_the_action_is_read_behind_the_thinking(output, legal_output, thoughts):
    parsed = parse_action(output, CARDS, np.random.default_rng(0))
    assert parsed.legal_output is legal_output
    assert (find_action_key(output) is None) == (parsed.span is None) == (not legal_output)
    if thoughts is not None:
        assert (parsed.action, extract_thoughts(output)) == ("hit", thoughts)
    assert "think>" not in extract_thoughts(output)


# Any text

WORDS = st.sampled_from(
    [word for legal in TASKS for word in legal] + ["not", ",", "{", "}", "'", '"', "\n", ":"]
)
TEXTS = st.one_of(st.text(max_size=20), st.lists(WORDS, max_size=6).map(" ".join))
VALUES = st.one_of(
    TEXTS,
    st.integers(-5, 15),
    st.none(),
    st.lists(TEXTS, max_size=3),
    st.dictionaries(TEXTS, TEXTS, max_size=2),
)
KEYS = TEXTS.filter(lambda key: key != "action")
OTHERS = st.one_of(
    VALUES,
    st.fixed_dictionaries({"action": TEXTS}),
    st.lists(st.fixed_dictionaries({"action": TEXTS}), max_size=3),
)
TAILS = st.lists(WORDS, max_size=6).map(" ".join).filter(lambda text: '"action"' not in text)


def result(output, legal):
    parsed = parse_action(output, legal, np.random.default_rng(0))
    return parsed.legal_output, parsed.action_text, parsed.action if parsed.legal_output else None


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(TASKS),
    VALUES,
    st.dictionaries(KEYS, OTHERS, max_size=3),
    st.dictionaries(KEYS, OTHERS, max_size=3),
    st.booleans(),
    st.sampled_from([None, 2]),
    TAILS,
)
@example(CARDS, "double down", {}, {"thoughts": "I should not stand with 11"}, True, None, "")
@example(CARDS, "hit", {}, {"thoughts": "If I stand I lose"}, True, None, "")
@example(CARDS, "hit", {"before": {"action": "stand"}}, {"instead of": {"action": "stand"}}, True, None, "")
def test_in_json_nothing_but_the_value_counts(legal, value, before, after, ascii_, indent, tail):
    """The answer to any JSON object is the answer to one that has nothing but the action."""
    written = json.dumps({**before, "action": value, **after}, ensure_ascii=ascii_, indent=indent)
    alone = json.dumps({"action": value}, ensure_ascii=ascii_, indent=indent)
    expected = result(alone, legal)
    if indent is None:
        assert result(written, legal) == expected
    assert result(f"```json\n{written}\n```\n{tail}", legal)[::2] == expected[::2]
    assert result(f"<think>{tail}</think>{written}", legal)[::2] == expected[::2]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(TASKS), st.lists(st.one_of(WORDS, st.just('"action"'), st.just('"action":')), max_size=14)
)
def test_in_any_text_nothing_outside_the_span_counts(legal, words):
    output = " ".join(words)
    span = parse_action(output, legal, np.random.default_rng(0)).span
    if span is not None:
        assert result("{" + output[slice(*span)] + "}", legal)[::2] == result(output, legal)[::2]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TASKS), st.data())
def test_an_action_written_into_any_text_is_read_back(legal, data):
    words = st.one_of(WORDS, st.sampled_from(['"action"', '"action":', "<think>", "</think>", "\\"]))
    output = " ".join(data.draw(st.lists(words, max_size=14)))
    action = data.draw(st.sampled_from(legal))
    parsed = parse_action(with_action(output, action), legal, NoDraw())
    assert parsed.action == action
