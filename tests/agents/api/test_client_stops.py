"""What ends all asking: refusals, outages, and a budget that is used up."""

import asyncio

import pytest

from tests.agents.api.asking import KEY, PICTURE, ask, client_of, endpoint
from tests.agents.api.openai_server import (
    action,
    cuts,
    in_turn,
    says,
    status,
)
from vlmagent.agents.api.client import ApiStoppedError
from vlmagent.agents.api.cost import Budget


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
