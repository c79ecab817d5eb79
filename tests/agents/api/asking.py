"""Asks a server of the tests through the client, with pauses that are noted and not made."""

import asyncio

from tests.agents.api.openai_server import Server
from vlmagent.agents.api.client import ApiClient
from vlmagent.agents.api.cost import Budget
from vlmagent.agents.api.endpoints import Endpoint
from vlmagent.agents.api.network import find_route

KEY = "sk-planted-4f1d9c77e2"
PICTURE = "data:image/png;base64,AAAA"


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
