"""The agent behind an API: sends picture and prompt, reads the action in the answer as it does for any model.

Knows nothing of environments, money or databases: a client asks, a journal remembers. Every answer goes to the
journal as it arrives, and what the journal holds is not asked again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vlmagent.agents.api.client import ApiClient
from vlmagent.agents.api.cost import Budget
from vlmagent.agents.api.endpoints import Endpoint
from vlmagent.agents.api.network import Route, find_route
from vlmagent.store.codec import encode_image, image_key
from vlmagent.store.rows import AnswerRow
from vlmagent.tasks.base import Task
from vlmagent.tasks.parsing import extract_thoughts, parse_action
from vlmagent.types import Decision, ImageArray, Observation

Keep = Callable[[AnswerRow], None]
"""Stores an answer; it must be safe on the disk when this returns."""


class ApiAgent:
    """Implements ``types.Agent``; it cannot be trained.

    An answer that names no action because it was cut, empty or refused is followed by a random one, as any illegal
    output is; ``answers.flaw`` tells these from the others.

    Args:
        endpoint: whom to ask.
        key: its key; None for a server that wants none.
        task: writes prompts and reads actions.
        name: how results call it.
        budget: what may be spent.

    Raises:
        UsageError: the environment's settings of the network cannot work for this endpoint.
    """

    def __init__(self, endpoint: Endpoint, key: str | None, task: Task, name: str, budget: Budget) -> None:
        self.name = name
        self.task = task
        self.endpoint = endpoint
        self.budget = budget
        self._known: dict[str, AnswerRow] = {}
        self._keep: Keep = lambda _: None
        route = find_route(endpoint.base_url)
        # one event loop for the agent's life: connections belong to the loop they were opened in
        self._runner = asyncio.Runner()
        self._client = self._runner.run(_make_client(endpoint, key, budget, route))

    def use_journal(self, known: Sequence[AnswerRow], keep: Keep) -> None:
        """Begin an evaluation.

        Args:
            known: answers of an earlier process of the same evaluation; they are not asked again, and paid for.
            keep: called with every answer as it arrives.
        """
        # a failed request is asked again; what it cost counts all the same, below
        self._known = {row.key: row for row in known if row.error is None}
        self._keep = keep
        self.budget.spent += sum(row.cost for row in known)

    def close(self) -> None:
        """Close the connections."""
        self._runner.run(self._client.close())
        self._runner.close()

    def act(
        self, observations: Sequence[Observation], states: Sequence[Mapping[str, Any]], seed: int
    ) -> list[Decision]:
        """One answer and its action per observation; the true states are not looked at.

        Raises:
            ApiStoppedError: budget, key or endpoint allow no further request; what was answered is in the journal.
        """
        prompts = [self.task.prompt(observation) for observation in observations]
        rows = self._runner.run(self._ask(prompts, [o.image for o in observations], seed))
        return [
            # a stream per environment, not one for all: which answers come first must not change what is drawn
            self._decide(prompt, observation, row, np.random.default_rng([seed, 1, index]))
            for index, (prompt, observation, row) in enumerate(zip(prompts, observations, rows, strict=True))
        ]

    async def _ask(self, prompts: Sequence[str], images: Sequence[ImageArray], seed: int) -> list[AnswerRow]:
        """Everything at once; requests under way are awaited even when one of them stops the evaluation."""
        self._client.forget_outage()  # an evaluation has ended with it, but a game goes on
        questions = zip(prompts, images, strict=True)
        answers = [
            self._answer(prompt, image, seed, index) for index, (prompt, image) in enumerate(questions)
        ]
        # gathering the exceptions too: what was asked is paid for, so its answer must reach the journal
        found = await asyncio.gather(*answers, return_exceptions=True)
        failures = [result for result in found if isinstance(result, BaseException)]
        if failures:
            raise failures[0]
        if self._client.stopped is not None:
            raise self._client.stopped
        return [result for result in found if isinstance(result, AnswerRow)]

    async def _answer(self, prompt: str, image: ImageArray, seed: int, index: int) -> AnswerRow:
        key = question_key(self.endpoint, prompt, image, seed, index)
        # also when an evaluation is resumed: the same question in the same step gets the answer that was paid for
        if key in self._known:
            return self._known[key]
        row = await self._client.ask(key, prompt, data_url(image))
        # after every single answer, not at the end of the batch: a crash in between loses nothing that was paid
        self._keep(row)
        return row

    def _decide(
        self, prompt: str, observation: Observation, row: AnswerRow, rng: np.random.Generator
    ) -> Decision:
        return Decision(
            prompt=prompt,
            output=row.text,
            thoughts=extract_thoughts(row.text),
            parsed=parse_action(row.text, observation.legal_actions, rng),
            error=row.error,
        )


async def _make_client(endpoint: Endpoint, key: str | None, budget: Budget, route: Route) -> ApiClient:
    """Made inside the event loop that will use it."""
    return ApiClient(endpoint, key, budget, route)


def question_key(endpoint: Endpoint, prompt: str, image: ImageArray, seed: int, index: int) -> str:
    """Digest of one question: whom, what, and for which step of which environment of an evaluation."""
    # the seed and the index make the same picture at another step another question: a sampled answer must not be
    # repeated for every state that looks alike
    parts = [endpoint.base_url, endpoint.model, prompt, image_key(image), seed, index]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def data_url(image: ImageArray) -> str:
    """A picture, uint8 (H, W, 3), as a lossless PNG inside a URL."""
    return f"data:image/png;base64,{base64.b64encode(encode_image(image)).decode()}"
