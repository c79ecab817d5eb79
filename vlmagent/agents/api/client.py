"""Asks one OpenAI-compatible endpoint, many requests at a time: retries, time limits, a hard budget.

Deliberately knows no task and no database. Whatever a server sends is untrusted: its texts are data, its errors are
shortened, made harmless and cleared of the key. One rule decides what a failure is: an answer of the model, however
useless (a refusal, nothing, broken JSON in its text), is an answer; no answer of the model is an error.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from asyncio import sleep
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from vlmagent.agents.api.cost import Budget
from vlmagent.agents.api.endpoints import Endpoint
from vlmagent.errors import RunFailedError
from vlmagent.store.rows import AnswerRow
from vlmagent.text import harmless

RETRIED = frozenset({408, 409, 425, 429, *range(500, 600)})
HOPELESS = frozenset({401, 402, 403, 404})
"""The key, the account or the model is wrong: the next request would fare no better."""
QUOTED = 300
USER_AGENT = "vlmagent"


class ApiStoppedError(RunFailedError):
    """No further request may be sent: the budget is spent, the key is refused, or the endpoint is down."""


class _RequestError(Exception):
    """One attempt failed. ``retry``: whether another may help; ``wait``: what the server asked for, in seconds."""

    def __init__(self, text: str, *, retry: bool, wait: float | None = None, charged: bool = False) -> None:
        super().__init__(text)
        self.retry = retry
        self.wait = wait
        self.charged = charged


class ApiClient:
    """Requests to one endpoint. All methods but ``close`` are called from one event loop.

    Args:
        endpoint: whom to ask, and how patiently.
        key: sent as a bearer token, and nowhere else.
        budget: asked before every attempt.
    """

    def __init__(self, endpoint: Endpoint, key: str | None, budget: Budget) -> None:
        self.endpoint = endpoint
        self.budget = budget
        self._key = key
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._stopped: ApiStoppedError | None = None
        self._settled = asyncio.Condition()
        self._under_way = 0
        self._failures = 0
        self._answered = False
        self._input_tokens = 0
        headers = {"User-Agent": USER_AGENT}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        limits = httpx2.Limits(max_connections=endpoint.concurrency)
        self._http = httpx2.AsyncClient(headers=headers, timeout=endpoint.timeout, limits=limits)

    @property
    def stopped(self) -> ApiStoppedError | None:
        """Why no further request may be sent, or None."""
        return self._stopped

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(self, key: str, prompt: str, picture: str) -> AnswerRow:
        """One answer, or the error after the last attempt.

        Args:
            key: goes into the result.
            prompt: v_in.
            picture: a data URL.

        Raises:
            ApiStoppedError: this and every further request may not be sent.
        """
        async with self._slots:
            started, spent = time.monotonic(), 0.0
            for attempt in range(1, self.endpoint.attempts + 1):
                reserved = await self._reserve(prompt)
                try:
                    answer, cost = await self._attempt(key, prompt, picture)
                except _RequestError as error:
                    spent += await self._settle(reserved, reserved if error.charged else 0.0)
                    problem = str(error)
                    if not error.retry or attempt == self.endpoint.attempts:
                        break
                    pause = self._pause(attempt, error.wait)
                    if pause is None:
                        problem += f"; it asks to wait {error.wait:.0f} s"
                        break
                    await sleep(pause)
                except BaseException:  # cancelled on the way: it may well be charged
                    await self._settle(reserved, reserved)
                    raise
                else:
                    spent += await self._settle(reserved, cost)
                    self._failures, self._answered = 0, True
                    return replace(answer, cost=spent, attempts=attempt, seconds=time.monotonic() - started)
            return self._failed(key, problem, attempt, spent, time.monotonic() - started)

    async def _reserve(self, prompt: str) -> float:
        """Set aside what the next attempt may cost at most; waits while answers under way may leave enough."""
        tokens = max(self._input_tokens, estimated_tokens(prompt) + self.endpoint.image_tokens)
        worst = self.endpoint.cost(tokens, self.endpoint.max_output_tokens)
        async with self._settled:
            while True:
                if self._stopped is not None:
                    raise self._stopped
                if self.budget.reserve(worst):
                    self._under_way += 1
                    return worst
                if not self._under_way:
                    self._stop(
                        f"The budget is spent: {self.budget}, and the next request may cost up to {worst:.4f} $. "
                        "Continue with a higher --max-cost and --resume."
                    )
                await self._settled.wait()

    async def _settle(self, reserved: float, actual: float) -> float:
        """Replace what was set aside by what an attempt cost."""
        async with self._settled:
            self._under_way -= 1
            self._settled.notify_all()
            return self.budget.settle(reserved, actual)

    def _stop(self, text: str) -> None:
        self._stopped = ApiStoppedError(text)
        raise self._stopped

    def _failed(self, key: str, problem: str, attempts: int, spent: float, seconds: float) -> AnswerRow:
        """The row of a request without an answer; too many in a row stop everything."""
        self._failures += 1
        row = AnswerRow(key, "", False, None, None, None, spent, attempts, seconds, problem)
        if self._failures >= self.endpoint.max_failures and self._stopped is None:
            self._stopped = ApiStoppedError(
                f"{self._failures} requests in a row to {self.endpoint.base_url} had no answer; the last one: "
                f"{problem}. Continue with --resume when the endpoint works again."
            )
        return row

    async def _attempt(self, key: str, prompt: str, picture: str) -> tuple[AnswerRow, float]:
        """Send once; the answer and its cost."""
        status, headers, body = await self._exchange(self._body(prompt, picture))
        if status != 200:
            self._raise_status(status, headers, body)
        try:
            document = json.loads(body)
            message, finish = _choice(document)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            problem = f"an answer that is not in OpenAI's format ({type(error).__name__}): {self.quote(body)}"
            raise _RequestError(problem, retry=True, charged=True) from None
        used = _usage(document)
        if used[0] is not None:
            self._input_tokens = max(self._input_tokens, used[0])
        assumed = (
            estimated_tokens(prompt) + self.endpoint.image_tokens if used[0] is None else used[0],
            self.endpoint.max_output_tokens if used[1] is None else used[1],
        )
        text, refused = _text(message)
        row = AnswerRow(
            key, self.redact(text), refused or finish == "content_filter", finish, *used, 0.0, 1, 0.0, None
        )
        return row, self.endpoint.cost(*assumed)

    def _body(self, prompt: str, picture: str) -> dict[str, Any]:
        """The request: picture first, then the prompt, as the paper's models see it."""
        content = [
            {"type": "image_url", "image_url": {"url": picture}},
            {"type": "text", "text": prompt},
        ]
        return {
            "model": self.endpoint.model,
            "messages": [{"role": "user", "content": content}],
            self.endpoint.token_limit_key: self.endpoint.max_output_tokens,
            **self.endpoint.request,
        }

    async def _exchange(self, body: dict[str, Any]) -> tuple[int, httpx2.Headers, bytes]:
        """Status, headers and body of one attempt, within the endpoint's time and size limits."""
        url = f"{self.endpoint.base_url}/chat/completions"
        try:
            async with (
                asyncio.timeout(self.endpoint.timeout),
                self._http.stream("POST", url, json=body) as response,
            ):
                return response.status_code, response.headers, await self._read(response)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise _RequestError(self.quote(f"no connection: {error}"), retry=True) from None
        except (TimeoutError, httpx2.TimeoutException):
            problem = f"no answer within {self.endpoint.timeout:g} s"
            raise _RequestError(problem, retry=True, charged=True) from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            problem = self.quote(f"the connection broke: {type(error).__name__}: {error}")
            raise _RequestError(problem, retry=True, charged=True) from None

    async def _read(self, response: httpx2.Response) -> bytes:
        """The body; of an error as much as matters."""
        limit, body = self.endpoint.max_answer_bytes, bytearray()
        async with aclosing(response.aiter_bytes()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > limit and response.status_code == 200:
                    problem = f"an answer of more than {limit:,} bytes"
                    raise _RequestError(problem, retry=False, charged=True)
                if len(body) > limit:
                    break
        return bytes(body)

    def _raise_status(self, status: int, headers: httpx2.Headers, body: bytes) -> None:
        """Turn a status into what it means; stops everything when no request can succeed."""
        problem = f"HTTP {status}: {self.quote(_error_text(body))}"
        quota = status == 429 and b"insufficient_quota" in body
        rejected = 300 <= status < 500 and status not in RETRIED
        if status in HOPELESS or quota or (rejected and not self._answered):
            self._stop(
                f"{self.endpoint.base_url} does not serve '{self.endpoint.model}': {problem}. "
                "Check the key, the account, the model's name and the endpoint's values in configs/baselines.yaml."
            )
        raise _RequestError(problem, retry=status in RETRIED, wait=retry_after(headers))

    def _pause(self, attempt: int, wait: float | None) -> float | None:
        """Seconds until the next attempt; None when the server asks for more than we would wait."""
        if wait is not None:
            return wait if wait <= self.endpoint.max_wait else None
        doubled: float = self.endpoint.backoff * 2.0 ** (attempt - 1)
        return min(doubled, self.endpoint.max_wait) * random.uniform(0.5, 1.0)

    def redact(self, text: str) -> str:
        """``text`` without the key, should a server send it back."""
        return text.replace(self._key, "[key]") if self._key else text

    def quote(self, text: str | bytes) -> str:
        """A server's words as they may be shown and stored: one short line."""
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        line = harmless(" ".join(self.redact(plain).split()))
        return line if len(line) <= QUOTED else line[:QUOTED] + "…"


def estimated_tokens(text: str) -> int:
    """Tokens of a text, rather too many than too few: three characters a token."""
    return len(text) // 3 + 16


def retry_after(headers: httpx2.Headers) -> float | None:
    """What ``Retry-After`` asks for, in seconds: a number or a date; None when there is none to be read."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())


def _choice(document: Any) -> tuple[Any, str | None]:
    """Message and finish reason of the first choice; no choice at all is an empty message.

    Raises:
        TypeError, KeyError: the document is something else.
    """
    choices = document["choices"]
    if not isinstance(choices, list):
        raise TypeError("choices")
    if not choices:
        return {}, None
    finish = choices[0].get("finish_reason") if isinstance(choices[0], dict) else None
    return choices[0]["message"], finish if isinstance(finish, str) else None


def _text(message: Any) -> tuple[str, bool]:
    """What the model wrote and whether it refused: content may be a string, null or a list of parts."""
    if not isinstance(message, dict):
        return "", False
    content, refusal = message.get("content"), message.get("refusal")
    if isinstance(content, list):
        content = "".join(str(p.get("text") or "") for p in content if isinstance(p, dict))
    text = content if isinstance(content, str) else ""
    refusal = refusal if isinstance(refusal, str) else ""
    return text or refusal, bool(refusal)


def _usage(document: Any) -> tuple[int | None, int | None]:
    """Input and output tokens as the API counted them."""
    usage = document.get("usage")
    found = [
        usage.get(name) if isinstance(usage, dict) else None
        for name in ("prompt_tokens", "completion_tokens")
    ]
    known = [value if type(value) is int and 0 <= value < 10**9 else None for value in found]
    return known[0], known[1]


def _error_text(body: bytes) -> str:
    """The message inside an error document, or the body as it is."""
    text = body.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text
    document = document[0] if isinstance(document, list) and document else document
    error = document.get("error", document) if isinstance(document, dict) else document
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else text
