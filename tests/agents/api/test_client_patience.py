"""How long a server that cannot be reached, or has never answered, is asked again, and what is said of it."""

import asyncio

import httpx2
import pytest

from tests.agents.api.asking import PICTURE, ask
from tests.agents.api.openai_server import (
    action,
    cuts,
    in_turn,
    raw,
    status,
)
from vlmagent.agents.api.client import CONNECT_SECONDS, ApiClient, ApiStoppedError
from vlmagent.agents.api.cost import Budget
from vlmagent.agents.api.endpoints import Endpoint
from vlmagent.agents.api.network import find_route


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
