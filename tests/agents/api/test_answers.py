"""What counts as an answer of the model, what it says, and which answers name no action for a reason of their own."""

import json

import pytest

from vlmagent.agents.api.answers import (
    AnswerError,
    AnswerFormatError,
    count_flaws,
    error_text,
    flaw,
    read_answer,
)
from vlmagent.store.rows import AnswerRow


def body(message: object, **choice: object) -> bytes:
    return json.dumps({"choices": [{"message": message, **choice}]}).encode()


DRAFT = '{"thoughts": "a draft", "action": "-"}'
CHOSEN = '{"thoughts": "sure", "action": "+"}'


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": CHOSEN}, CHOSEN),
        ({"content": CHOSEN, "reasoning_content": DRAFT, "reasoning": DRAFT}, CHOSEN),
        ({"content": None, "reasoning_content": DRAFT}, ""),
        ({"content": "", "tool_calls": [{"function": {"name": "act", "arguments": DRAFT}}]}, ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": [{"type": "output_text", "text": "a"}, "b", {"text": "c"}]}, "abc"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": DRAFT}]}]}, ""),
        ({"content": [{"type": "reasoning", "text": DRAFT}, {"type": "text", "text": CHOSEN}]}, CHOSEN),
        ({"content": [{"type": "text", "text": None}, 3, None, {"type": "image_url"}]}, ""),
        ({"content": {"text": CHOSEN}}, ""),
        ({"content": None, "refusal": None}, ""),
        (None, ""),
        (["content"], ""),
    ],
)
def test_what_the_model_wrote(message, text):
    answer = read_answer(body(message))
    assert (answer.text, answer.refused) == (text, False)


@pytest.mark.parametrize(
    ("message", "finish", "text"),
    [
        ({"content": None, "refusal": "I cannot."}, "stop", "I cannot."),
        ({"content": [{"type": "refusal", "refusal": "I cannot."}]}, "stop", "I cannot."),
        ({"content": ""}, "content_filter", ""),
        ({"content": "So"}, "SAFETY", "So"),
        ({"content": None}, "refusal", ""),
    ],
)
def test_what_counts_as_refused(message, finish, text):
    answer = read_answer(body(message, finish_reason=finish))
    assert (answer.text, answer.refused, answer.finish_reason) == (text, True, finish)


@pytest.mark.parametrize(
    ("document", "status", "text"),
    [
        ({"error": {"message": "busy", "code": 503}}, 503, "busy"),
        ({"error": {"message": "busy", "code": "429"}}, 429, "busy"),
        ({"error": {"message": "busy", "status": 500}, "choices": []}, 500, "busy"),
        ({"error": {"message": "busy", "code": "server_error"}}, 502, "busy"),
        ({"error": {"message": "busy", "code": 200}}, 502, "busy"),
        ({"error": {"message": "busy", "code": 1e999}}, 502, "busy"),
        ({"error": "busy"}, 502, "busy"),
        ({"error": {"detail": "busy"}}, 502, '{"detail": "busy"}'),
        ({"error": ["busy"]}, 502, '["busy"]'),
        (
            {"choices": [{"message": {"content": CHOSEN}, "error": {"message": "cut", "code": 524}}]},
            524,
            "cut",
        ),
        ({"choices": [{"error": {"message": "no message either"}}]}, 502, "no message either"),
        (
            {"choices": [{"message": {"content": CHOSEN}, "finish_reason": "error"}]},
            502,
            "finish_reason: error",
        ),
        ({"choices": [{"finish_reason": "ERROR"}]}, 502, "finish_reason: error"),
    ],
)
def test_an_error_in_the_answers_place(document, status, text):
    with pytest.raises(AnswerError) as caught:
        read_answer(json.dumps(document).encode())
    assert (caught.value.status, str(caught.value)) == (status, text)


@pytest.mark.parametrize("empty", [None, "", {}, False])
def test_an_error_field_with_nothing_in_it_is_none(empty):
    document = {"error": empty, "choices": [{"message": {"content": CHOSEN}, "error": empty}]}
    assert read_answer(json.dumps(document).encode()).text == CHOSEN


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html><html></html>",
        body({"content": CHOSEN})[:-3],
        b"[" * 100_000,
        b"[]",
        b"3",
        b"null",
        b"\xff\xfe",
        b"{}",
        b'{"choices": null}',
        b'{"choices": {"0": {}}}',
        b'{"choices": ["text"]}',
        b'{"choices": [{"text": "of the older completions"}]}',
    ],
)
def test_what_is_no_chat_completion(data):
    with pytest.raises(AnswerFormatError):
        read_answer(data)


def test_usage_is_believed_only_where_it_can_be_true():
    def counted(usage: object) -> tuple[int | None, int | None]:
        answer = read_answer(json.dumps({"choices": [], "usage": usage}).encode())
        return answer.input_tokens, answer.output_tokens

    assert counted({"prompt_tokens": 5, "completion_tokens": 0}) == (5, 0)
    assert counted({"prompt_tokens": -1, "completion_tokens": True}) == (None, None)
    assert counted({"prompt_tokens": "5", "completion_tokens": 10**12}) == (None, None)
    assert counted(None) == counted([1]) == (None, None)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"error": {"message": "no"}}', "no"),
        (b'[{"error": {"message": "no"}}]', "no"),
        (b'{"error": "no"}', "no"),
        (b'{"message": "no"}', "no"),
        (b'{"detail": "no"}', '{"detail": "no"}'),
        (b"plain", "plain"),
        (b"[" * 100_000, "[" * 100_000),
        (b"\xff", "\ufffd"),
    ],
)
def test_the_words_of_an_error(data, text):
    assert error_text(data) == text


def row(
    text: str, finish: str | None = "stop", *, refusal: bool = False, error: str | None = None
) -> AnswerRow:
    return AnswerRow("k", text, refusal, finish, 1, 1, 0.0, 1, 0.0, error)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (row(CHOSEN), None),
        (row("no JSON at all"), None),
        (row(f"<think>{DRAFT}</think>{CHOSEN}"), None),
        (row(CHOSEN, "length"), "cut"),
        (row("", "length"), "cut"),
        (row("", "MAX_TOKENS"), "cut"),
        (row(f"<think>{DRAFT}", None), "cut"),
        (row(f"<think>{DRAFT}", "stop"), "cut"),
        (row("", "stop"), "empty"),
        (row(" \n", None), "empty"),
        (row("", "tool_calls"), "empty"),
        (row(f"<think>{DRAFT}</think>\n", "stop"), "empty"),
        (row("I cannot.", "stop", refusal=True), "refused"),
        (row("", "length", refusal=True), "refused"),
        (row("", None, error="HTTP 500"), None),
    ],
)
def test_each_answer_has_one_flaw_at_most(answer, found):
    assert flaw(answer) == found


def test_flaws_are_counted():
    rows = [
        row(""),
        row("", "length"),
        row("x", "length"),
        row("no", refusal=True),
        row(CHOSEN),
        row("", error="e"),
    ]
    assert count_flaws(rows) == {"refused": 1, "cut": 2, "empty": 1}
    assert count_flaws([]) == {"refused": 0, "cut": 0, "empty": 0}
