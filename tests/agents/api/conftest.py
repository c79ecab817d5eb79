"""A server that answers, and the pauses before it is asked again."""

import pytest

from tests.agents.api.openai_server import Server


@pytest.fixture
def server():
    with Server().running() as running:
        yield running


@pytest.fixture
def pauses() -> list[float]:
    """What the client asked to wait, in seconds; ``ask`` fills it and waits for nothing."""
    return []
