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
from vlmagent.agents.api.client import CONNECT_SECONDS, ApiClient, ApiStoppedError, retry_after
from vlmagent.agents.api.cost import Budget
from vlmagent.agents.api.endpoints import Endpoint
from vlmagent.agents.api.network import find_route

KEY = "sk-planted-4f1d9c77e2"
PICTURE = "data:image/png;base64,AAAA"


@pytest.fixture
def server():
    with Server().running() as running:
        yield running


@pytest.fixture
def pauses() -> list[float]:
    """What the client asked to wait, in seconds; ``ask`` fills it and waits for nothing."""
    return []


def endpoint(server: Server, **changes) -> Endpoint:
    values = {"model": "m", "base_url": server.url, "attempts": 3, "timeout": 20.0, **changes}
    return Endpoint(**values)


def client_of(asked: Endpoint, key: str | None, budget: Budget, pauses: list[float]) -> ApiClient:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    return ApiClient(asked, key, budget, find_route(asked.base_url), sleep)


def ask(
    server: Server,
    *,
    budget: Budget | None = None,
    times: int = 1,
    key: str | None = KEY,
    pauses: list[float] | None = None,
    **changes,
):
    """``times`` requests one after the other, with pauses that are noted and not made."""

    async def run():
        waited = [] if pauses is None else pauses
        client = client_of(endpoint(server, **changes), key, budget or Budget(None), waited)
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


@pytest.mark.parametrize(
    ("code", "key", "advice"),
    [
        (401, KEY, "Check the key in the environment variable SOME_KEY, and that it may use 'm'."),
        (403, KEY, "Check the key in the environment variable SOME_KEY"),
        (401, None, "It wants a key: set the environment variable SOME_KEY."),
        (402, KEY, "Check what the account has left"),
        (404, KEY, "Either the URL is wrong, or it has no model called 'm'."),
        (405, KEY, "Either the URL is wrong"),
        (407, KEY, "user and password into the proxy's URL"),
        (400, KEY, "Check the model's name, 'm', and the endpoint's values"),
    ],
)
def test_what_no_repetition_can_mend_stops_everything(server, pauses, code, key, advice):
    server.answer = status(code, f"bad key {KEY}" if key else "no")
    with pytest.raises(ApiStoppedError) as caught:
        ask(server, key=key, key_variable="SOME_KEY", pauses=pauses)
    text = str(caught.value)
    assert text.startswith(
        f"{server.url}/chat/completions: HTTP {code}: {'bad key [key]' if key else 'no'}. "
    )
    assert advice in text
    assert KEY not in text
    assert (len(server.requests), pauses) == (1, [])


def test_an_error_inside_an_answer_counts_as_the_status_it_names(server):
    server.answer = raw(b'{"error": {"message": "No auth", "code": 401}}')
    with pytest.raises(ApiStoppedError, match="HTTP 401: No auth"):
        ask(server)


@pytest.mark.parametrize("code", [404, 405])
def test_a_wrong_path_is_told_at_once_with_the_url_and_what_may_be_missing(server, pauses, code):
    server.answer = status(code, "")
    base = server.url.removesuffix("/v1")
    with pytest.raises(ApiStoppedError) as caught:
        ask(server, base_url=base, pauses=pauses)
    assert f"{base}/chat/completions: HTTP {code}" in str(caught.value)
    assert f"({base}/v1?)" in str(caught.value)
    assert pauses == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (status(500, "oops"), "HTTP 500: oops"),
        (status(503, "no"), "HTTP 503: no"),
        (cuts, "the connection broke"),
        (raw(b"<html>Welcome</html>"), "a web page, an answer that is not in OpenAI's format"),
        (raw(b'{"error": "overloaded"}'), "HTTP 502: overloaded"),
    ],
)
def test_a_server_that_has_never_answered_is_given_up_after_seconds(server, pauses, bad, words):
    """Three attempts and at most a second of pauses, whatever the endpoint's patience is otherwise."""
    server.answer = bad
    with pytest.raises(ApiStoppedError) as caught:
        ask(server, attempts=20, backoff=60.0, pauses=pauses)
    assert f"No answer from {server.url}/chat/completions: {words}" in str(caught.value)
    assert "(3 attempts)" in str(caught.value)
    assert len(server.requests) == 3
    assert len(pauses) == 2
    assert max(pauses) <= 0.5


def test_nobody_listens(server, pauses):
    with pytest.raises(ApiStoppedError) as caught:
        ask(server, base_url="http://127.0.0.1:9", attempts=20, pauses=pauses)
    text = str(caught.value)
    assert text.startswith(
        "No answer from http://127.0.0.1:9/chat/completions: no connection: connection refused, nothing listens there"
    )
    assert "is /v1 missing (http://127.0.0.1:9/v1)?" in text
    assert len(pauses) == 2


def test_a_server_that_takes_all_its_time_is_not_asked_again_before_its_first_answer(server, pauses):
    server.answer = server.hold
    with pytest.raises(ApiStoppedError, match=r"no answer within 0\.3 s"):
        ask(server, timeout=0.3, attempts=20, pauses=pauses)
    assert (len(server.requests), pauses) == (1, [])


def test_connecting_takes_seconds_before_the_first_answer_and_an_attempts_time_after_it(server, monkeypatch):
    """What the network layer is told, for a server that answers and a time limit of a minute."""
    limits: list[float | None] = []
    send = httpx2.AsyncClient.stream

    def noted(*args, timeout: httpx2.Timeout, **kwargs):
        limits.append(timeout.connect)
        return send(*args, timeout=timeout, **kwargs)

    monkeypatch.setattr(httpx2.AsyncClient, "stream", noted)
    ask(server, times=2, timeout=60.0)
    assert limits == [CONNECT_SECONDS, 60.0]
    assert CONNECT_SECONDS <= 5


def test_a_model_that_loads_is_waited_for_as_it_asks_and_what_for_is_said_once(server, pauses, caplog):
    loading = status(503, "loading the model", {"Retry-After": "10"})
    server.answer = in_turn(*[loading] * 8, then=action("+"))
    (row,) = ask(server, attempts=3, pauses=pauses)
    assert (row.error, row.attempts) == (None, 9)
    assert pauses == [10.0] * 8
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("vlmagent")]
    assert line == (
        f"{server.url}/chat/completions asks to wait 10 s (HTTP 503: loading the model): waiting, 300 s at most."
    )


@pytest.mark.parametrize(("asked", "attempts"), [("60", 6), ("0", 301), ("100", 4)])
def test_the_patience_for_a_server_that_never_answers_is_bounded(server, pauses, asked, attempts):
    """300 s in all; a wait of no time counts as one of a second."""
    server.answer = status(503, "loading", {"Retry-After": asked})
    with pytest.raises(ApiStoppedError, match="HTTP 503: loading"):
        ask(server, attempts=3, pauses=pauses)
    assert len(server.requests) == attempts
    assert sum(pauses) == 300
    pauses.clear()
    server.answer = status(503, "loading", {"Retry-After": "9999"})
    with pytest.raises(ApiStoppedError, match="it asks to wait 9999 s"):
        ask(server, pauses=pauses)
    assert pauses == []


def test_a_rate_limit_before_the_first_answer_has_the_patience_of_one_after_it(server, pauses):
    server.answer = in_turn(*[status(429)] * 4, then=action("+"))
    (row,) = ask(server, attempts=6, pauses=pauses)
    assert (row.error, row.attempts, len(pauses)) == (None, 5, 4)


def test_the_first_reason_is_told_when_many_are_asked_at_once(server):
    server.answer = status(500, "broken")

    async def run():
        client = client_of(endpoint(server), None, Budget(None), [])
        try:
            asked = (client.ask(str(i), "?", PICTURE) for i in range(12))
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await client.close()

    found = asyncio.run(run())
    assert {type(item) for item in found} == {ApiStoppedError}
    assert len({str(item) for item in found}) == 1
    assert len(server.requests) <= 8 * 3


def test_an_outage_may_be_forgotten_but_a_refused_key_not(server):
    server.answer = in_turn(*[status(500)] * 3, action("+"), then=status(401, "bad key"))

    async def run():
        client = client_of(endpoint(server), KEY, Budget(None), [])
        try:
            with pytest.raises(ApiStoppedError, match="HTTP 500"):
                await client.ask("first", "?", PICTURE)
            with pytest.raises(ApiStoppedError, match="HTTP 500"):
                await client.ask("before it is forgotten", "?", PICTURE)
            client.forget_outage()
            row = await client.ask("afterwards", "?", PICTURE)
            with pytest.raises(ApiStoppedError, match="bad key"):
                await client.ask("refused", "?", PICTURE)
            client.forget_outage()
            with pytest.raises(ApiStoppedError, match="bad key"):
                await client.ask("refused again", "?", PICTURE)
        finally:
            await client.close()
        return row

    assert asyncio.run(run()).error is None
    assert len(server.requests) == 5


@pytest.fixture
def proxy(server):
    """The test server as a proxy for plain HTTP: it answers whatever host is asked for."""
    return {"http_proxy": server.url.removesuffix("/v1")}


def through(environment: dict[str, str], base_url: str, pauses: list[float]):
    async def run():
        asked = Endpoint(model="m", base_url=base_url)

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)

        client = ApiClient(asked, None, Budget(None), find_route(base_url, environment), sleep)
        try:
            return await client.ask("k", "?", PICTURE)
        finally:
            await client.close()

    return asyncio.run(run())


def test_a_proxy_is_gone_through_and_named_when_it_fails(server, proxy, pauses):
    row = through(proxy, "http://models.invalid/v1", pauses)
    assert row.error is None
    assert server.requests[0].headers["Host"] == "models.invalid"
    server.answer = status(407, "who are you")
    with pytest.raises(ApiStoppedError) as caught:
        through(proxy, "http://models.invalid/v1", pauses)
    assert f"through the proxy of $http_proxy ({proxy['http_proxy']})" in str(caught.value)
    nobody = {"HTTPS_PROXY": "http://me:s3cret@127.0.0.1:9", "NO_PROXY": "elsewhere"}
    with pytest.raises(ApiStoppedError) as caught:
        through(nobody, "https://models.invalid/v1", pauses)
    assert (
        "through the proxy of $HTTPS_PROXY (http://***@127.0.0.1:9): no connection: connection refused"
        in str(caught.value)
    )
    assert "s3cret" not in str(caught.value)


def test_a_name_that_nobody_knows(pauses):
    with pytest.raises(ApiStoppedError, match="the host's name was not found"):
        through({}, "http://models.invalid/v1", pauses)


def test_a_server_that_speaks_no_tls(server, pauses):
    base = server.url.replace("http:", "https:")
    with pytest.raises(ApiStoppedError, match=r"the TLS handshake failed .*http instead of https\?"):
        through({}, base, pauses)


def test_an_exhausted_account_is_not_a_rate_limit(server):
    body = b'{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}'
    server.answer = lambda request: request.send(429, body)
    with pytest.raises(ApiStoppedError, match="You exceeded your quota"):
        ask(server)


def test_a_rejected_request_stops_everything_unless_others_were_answered(server):
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


def test_too_many_failures_in_a_row_stop_everything(server):
    server.answer = in_turn(action("+"), then=status(500))
    with pytest.raises(ApiStoppedError, match="2 requests in a row"):
        ask(server, times=4, attempts=1, max_failures=2)
    assert len(server.requests) == 3


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_budget_stops_to_the_request(server, concurrency):
    """Ten tokens for 0.01 $ each: 0.055 $ pay for five answers, however many are asked for at once."""
    prices = {"input_price": 0.0, "output_price": 1000.0, "max_output_tokens": 10, "concurrency": concurrency}
    budget = Budget(0.055)

    async def run():
        client = client_of(endpoint(server, **prices), None, budget, [])
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


def test_attempts_that_may_have_been_charged_count(server):
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
