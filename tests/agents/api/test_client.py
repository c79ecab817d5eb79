"""What the client sends, what it makes of every answer that the protocol allows, and when it asks again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from tests.agents.api.asking import KEY, PICTURE, ask
from tests.agents.api.openai_server import (
    action,
    cuts,
    document,
    in_turn,
    no_choices,
    raw,
    refuses,
    says,
    status,
)
from vlmagent.agents.api.client import ApiStoppedError, retry_after


def test_what_is_sent_and_what_comes_back(server):
    (row,) = ask(server, request={"temperature": 0.2}, max_output_tokens=77)
    (request,) = server.requests
    assert request.body == {
        "model": "m",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": PICTURE}},
                    {"type": "text", "text": "Which way?"},
                ],
            }
        ],
        "max_tokens": 77,
        "temperature": 0.2,
    }
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert (row.key, row.text, row.error) == ("k0", '{"thoughts": "hm", "action": "+"}', None)
    assert (row.input_tokens, row.output_tokens, row.attempts, row.refusal) == (100, 10, 1, False)


def test_a_server_without_a_key_gets_none(server):
    ask(server, key=None, token_limit_key="max_completion_tokens")
    assert "Authorization" not in server.requests[0].headers
    assert server.requests[0].body["max_completion_tokens"] == 1024


def test_429_is_repeated_after_what_the_server_asked_for(server, pauses):
    server.answer = in_turn(status(429, headers={"Retry-After": "7"}), then=action("-"))
    (row,) = ask(server, pauses=pauses)
    assert pauses == [7.0]
    assert (row.attempts, row.error) == (2, None)
    assert "-" in row.text


def test_without_retry_after_the_pauses_double_with_jitter(server, pauses):
    server.answer = in_turn(action("+"), then=status(503))
    _, row = ask(server, times=2, attempts=5, backoff=2.0, max_wait=10.0, pauses=pauses)
    assert row.error == "HTTP 503: no"
    assert row.attempts == 5
    assert len(pauses) == 4
    for pause, longest in zip(pauses, (2.0, 4.0, 8.0, 10.0), strict=True):
        assert longest / 2 <= pause <= longest


def test_a_server_that_wants_too_long_a_wait_is_not_asked_again(server, pauses):
    server.answer = in_turn(action("+"), then=status(429, "tomorrow", {"Retry-After": "86400"}))
    _, row = ask(server, times=2, pauses=pauses)
    assert pauses == []
    assert row.error == "HTTP 429: tomorrow; it asks to wait 86400 s"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (status(500, "oops"), "HTTP 500: oops"),
        (cuts, "the connection broke"),
        (raw(b"<html>gateway</html>"), "not in OpenAI's format"),
        (raw(b'{"choices": 3}'), "not in OpenAI's format"),
        (raw(b'{"error": {"message": "overloaded"}}'), "HTTP 502: overloaded"),
        (raw(b'{"error": {"message": "slow down", "code": 429}, "choices": []}'), "HTTP 429: slow down"),
        (raw(b'{"choices": [{"message": {"content": "half"}, "error": "upstream"}]}'), "HTTP 502: upstream"),
        (raw(document({"content": '{"action": "+"}'}, finish="error")), "HTTP 502: finish_reason: error"),
        (raw(document({"content": '{"action": "+"}'})[:-9]), "not in OpenAI's format"),
        (raw(b"[" * 100_000), "not in OpenAI's format"),
        (raw(b""), "not in OpenAI's format"),
    ],
)
def test_a_failed_attempt_is_repeated_and_then_recorded(server, bad, error):
    server.answer = in_turn(bad, then=action("+"))
    (row,) = ask(server)
    assert (row.attempts, row.error) == (2, None)
    server.requests.clear()
    server.answer = in_turn(action("+"), then=bad)
    _, row = ask(server, times=2)
    assert row.text == ""
    assert error in row.error
    assert (row.attempts, len(server.requests)) == (3, 4)


def test_a_slow_server_is_given_up(server):
    server.answer = in_turn(action("+"), server.hold, then=action("-"))
    _, row = ask(server, times=2, timeout=1.0, attempts=20)
    assert row.error is None
    assert row.attempts >= 2
    server.requests.clear()
    server.answer = in_turn(action("+"), then=server.hold)
    _, row = ask(server, times=2, timeout=0.3, attempts=2)
    assert (row.error, row.attempts) == ("no answer within 0.3 s", 2)


@pytest.mark.parametrize(
    ("answer", "text", "refusal", "finish"),
    [
        (refuses, "I cannot help with that.", True, "stop"),
        (
            raw(document({"content": None, "reasoning_content": '{"action": "+"}'}, finish="length")),
            "",
            False,
            "length",
        ),
        (
            raw(document({"content": "no", "tool_calls": [{}]}, finish="tool_calls")),
            "no",
            False,
            "tool_calls",
        ),
        (no_choices, "", False, None),
        (raw(document({"content": ""}, finish="content_filter")), "", True, "content_filter"),
        (
            raw(document({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, 3]})),
            "ab",
            False,
            "stop",
        ),
        (raw(document({"content": 17})), "", False, "stop"),
        (raw(b'{"choices": [{"message": null}]}'), "", False, None),
        (says('{"action": "+'), '{"action": "+', False, "stop"),
        (says("\ud800 lone"), "\ud800 lone", False, "stop"),
    ],
)
def test_a_useless_answer_is_an_answer(server, answer, text, refusal, finish):
    server.answer = answer
    (row,) = ask(server)
    assert (row.text, row.refusal, row.finish_reason, row.error) == (text, refusal, finish, None)
    assert len(server.requests) == 1


def test_an_answer_of_two_megabytes_is_not_read_to_its_end(server):
    server.answer = says("x" * 2_000_000)
    (row,) = ask(server)
    assert row.error == "an answer of more than 1,000,000 bytes"
    assert len(server.requests) == 1
    (row,) = ask(server, max_answer_bytes=3_000_000)
    assert len(row.text) == 2_000_000


def test_an_error_inside_an_answer_counts_as_the_status_it_names(server):
    server.answer = raw(b'{"error": {"message": "No auth", "code": 401}}')
    with pytest.raises(ApiStoppedError, match="HTTP 401: No auth"):
        ask(server)


def test_a_redirect_is_not_followed(server):
    server.answer = status(307, headers={"Location": "http://127.0.0.1:9/"})
    with pytest.raises(ApiStoppedError, match="HTTP 307"):
        ask(server)


def test_the_key_is_cleared_from_whatever_a_server_sends(server):
    answer, error = says(f"your key is {KEY}"), status(500, f"{KEY}\x1b[31m" + "x" * 1000)
    server.answer = in_turn(answer, then=error)
    told, row = ask(server, times=2)
    assert told.text == "your key is [key]"
    assert KEY not in row.error
    assert "\x1b" not in row.error
    assert len(row.error) < 350


def test_retry_after_as_date_number_and_nonsense():
    def read(value: str) -> float | None:
        return retry_after(httpx2.Headers({"Retry-After": value}))

    soon = datetime.now(UTC) + timedelta(seconds=100)
    assert 90 < read(format_datetime(soon)) <= 100
    assert read(format_datetime(soon - timedelta(days=1))) == 0.0
    assert read("1.5") == 1.5
    assert read("-3") == 0.0
    assert read("soon") is None
    assert retry_after(httpx2.Headers({})) is None
