"""The client against a real server that misbehaves in every way the protocol allows."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from tests.agents.api.openai_server import (
    Server,
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
from vlmagent.agents.api import client as api_client
from vlmagent.agents.api.client import ApiClient, ApiStoppedError, retry_after
from vlmagent.agents.api.cost import Budget
from vlmagent.agents.api.endpoints import Endpoint

KEY = "sk-planted-4f1d9c77e2"
PICTURE = "data:image/png;base64,AAAA"


@pytest.fixture
def server():
    with Server().running() as running:
        yield running


@pytest.fixture
def pauses(monkeypatch):
    """What the client would have waited, in seconds."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(api_client, "sleep", sleep)
    return waited


def endpoint(server: Server, **changes) -> Endpoint:
    values = {"model": "m", "base_url": server.url, "attempts": 3, "timeout": 20.0, **changes}
    return Endpoint(**values)


def ask(server: Server, *, budget: Budget | None = None, times: int = 1, key: str | None = KEY, **changes):
    """``times`` requests one after the other."""

    async def run():
        client = ApiClient(endpoint(server, **changes), key, budget or Budget(None))
        try:
            return [await client.ask(f"k{i}", "Which way?", PICTURE) for i in range(times)]
        finally:
            await client.close()

    return asyncio.run(run())


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
    (row,) = ask(server)
    assert pauses == [7.0]
    assert (row.attempts, row.error) == (2, None)
    assert "-" in row.text


def test_without_retry_after_the_pauses_double_with_jitter(server, pauses):
    server.answer = status(503)
    (row,) = ask(server, attempts=5, backoff=2.0, max_wait=10.0)
    assert row.error == "HTTP 503: no"
    assert row.attempts == 5
    assert len(pauses) == 4
    for pause, longest in zip(pauses, (2.0, 4.0, 8.0, 10.0), strict=True):
        assert longest / 2 <= pause <= longest


def test_a_server_that_wants_too_long_a_wait_is_not_asked_again(server, pauses):
    server.answer = status(429, "tomorrow", {"Retry-After": "86400"})
    (row,) = ask(server)
    assert pauses == []
    assert row.error == "HTTP 429: tomorrow; it asks to wait 86400 s"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (status(500, "oops"), "HTTP 500: oops"),
        (cuts, "the connection broke"),
        (raw(b"<html>gateway</html>"), "not in OpenAI's format"),
        (raw(b'{"choices": 3}'), "not in OpenAI's format"),
        (raw(b'{"error": {"message": "overloaded"}}'), "not in OpenAI's format"),
        (raw(b"[" * 100_000), "not in OpenAI's format"),
        (raw(b""), "not in OpenAI's format"),
    ],
)
def test_a_failed_attempt_is_repeated_and_then_recorded(server, pauses, bad, error):
    server.answer = in_turn(bad, then=action("+"))
    (row,) = ask(server)
    assert (row.attempts, row.error) == (2, None)
    server.requests.clear()
    server.answer = bad
    (row,) = ask(server)
    assert row.text == ""
    assert error in row.error
    assert len(server.requests) == row.attempts == 3


def test_a_slow_server_is_given_up(server, pauses):
    server.answer = in_turn(server.hold, then=action("+"))
    (row,) = ask(server, timeout=1.0, attempts=20)
    assert row.error is None
    assert row.attempts >= 2
    server.answer = server.hold
    (row,) = ask(server, timeout=0.3, attempts=1)
    assert row.error == "no answer within 0.3 s"


def test_nobody_listens(server, pauses):
    (row,) = ask(server, base_url="http://127.0.0.1:9/v1")
    assert row.error.startswith("no connection")


@pytest.mark.parametrize(
    ("answer", "text", "refusal", "finish"),
    [
        (refuses, "I cannot help with that.", True, "stop"),
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


@pytest.mark.parametrize("code", [401, 403, 404, 402])
def test_what_no_repetition_can_mend_stops_everything(server, code):
    server.answer = status(code, f"bad key {KEY}")
    with pytest.raises(ApiStoppedError) as caught:
        ask(server)
    assert f"HTTP {code}: bad key [key]" in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(server.requests) == 1


def test_an_exhausted_account_is_not_a_rate_limit(server, pauses):
    body = b'{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}'
    server.answer = lambda request: request.send(429, body)
    with pytest.raises(ApiStoppedError, match="You exceeded your quota"):
        ask(server)


def test_a_rejected_request_stops_everything_unless_others_were_answered(server, pauses):
    server.answer = status(400, "unknown parameter")
    with pytest.raises(ApiStoppedError, match="unknown parameter"):
        ask(server)
    server.requests.clear()
    server.answer = in_turn(action("+"), then=status(400, "content policy"))
    rows = ask(server, times=2)
    assert [row.error for row in rows] == [None, "HTTP 400: content policy"]


def test_a_redirect_is_not_followed(server):
    server.answer = status(307, headers={"Location": "http://127.0.0.1:9/"})
    with pytest.raises(ApiStoppedError, match="HTTP 307"):
        ask(server)


def test_too_many_failures_in_a_row_stop_everything(server, pauses):
    server.answer = status(500)
    with pytest.raises(ApiStoppedError, match="2 requests in a row"):
        ask(server, times=3, attempts=1, max_failures=2)
    assert len(server.requests) == 2


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_budget_stops_to_the_request(server, concurrency):
    """Ten tokens for 0.01 $ each: 0.055 $ pay for five answers, however many are asked for at once."""
    prices = {"input_price": 0.0, "output_price": 1000.0, "max_output_tokens": 10, "concurrency": concurrency}
    budget = Budget(0.055)

    async def run():
        client = ApiClient(endpoint(server, **prices), None, budget)
        try:
            return await asyncio.gather(
                *(client.ask(str(i), "?", PICTURE) for i in range(12)), return_exceptions=True
            )
        finally:
            await client.close()

    found = asyncio.run(run())
    assert len(server.requests) == 5
    assert budget.spent == pytest.approx(0.05)
    stopped = [item for item in found if isinstance(item, ApiStoppedError)]
    assert len(stopped) == 7
    assert "higher --max-cost and --resume" in str(stopped[0])


def test_attempts_that_may_have_been_charged_count(server, pauses):
    """A refused connection costs nothing, a 500 nothing, a cut answer as much as it may have cost."""
    prices = {"input_price": 0.0, "output_price": 1000.0, "max_output_tokens": 10}
    server.answer = in_turn(status(500), cuts, then=says("ok", tokens=(5, 4)))
    budget = Budget(1.0)
    (row,) = ask(server, budget=budget, **prices)
    assert row.cost == pytest.approx(0.01 + 0.004)
    assert budget.spent == pytest.approx(row.cost)


def test_without_usage_the_worst_is_assumed(server):
    server.answer = says("ok", tokens=None)
    (row,) = ask(server, input_price=1.0, output_price=1000.0, max_output_tokens=10, image_tokens=84)
    assert row.cost == pytest.approx((84 + len("Which way?") // 3 + 16) * 1e-6 + 0.01)


def test_the_key_is_cleared_from_whatever_a_server_sends(server, pauses):
    server.answer = says(f"your key is {KEY}")
    (row,) = ask(server)
    assert row.text == "your key is [key]"
    server.answer = status(500, f"{KEY}\x1b[31m" + "x" * 1000)
    (row,) = ask(server)
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
