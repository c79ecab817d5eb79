"""Asks one OpenAI-compatible endpoint, many requests at a time: retries, time limits, a hard budget.

Deliberately knows no task and no database, neither how answers are written (``answers``) nor how long patience lasts
(``patience``) nor which way the network takes (``network``). Whatever a server sends is untrusted: its texts are data,
its errors are shortened, made harmless and cleared of the key.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import httpx2

from vlmagent.agents.api.advice import connection_problem, status_advice, url_advice
from vlmagent.agents.api.answers import (
    AnswerError,
    AnswerFormatError,
    ModelAnswer,
    error_text,
    read_answer,
)
from vlmagent.agents.api.cost import Budget
from vlmagent.agents.api.endpoints import Endpoint
from vlmagent.agents.api.network import Route
from vlmagent.agents.api.patience import EARLY_WAIT, RequestError, Tries, next_pause
from vlmagent.errors import RunFailedError
from vlmagent.store.rows import AnswerRow
from vlmagent.text import harmless

# 408, 425 and 429 ask for another try, 409 is a lock that was not had in time (clients of OpenAI repeat the same ones);
# 5xx are the server's own failures
RETRIED = frozenset({408, 409, 425, 429, *range(500, 600)})
HOPELESS = frozenset({401, 402, 403, 404, 407})
"""The key, the account, the model, the URL or the proxy is wrong: the next request would fare no better."""
CONNECT_SECONDS = 5.0
"""For a connection before the first answer: three attempts of TCP. Afterwards it may take as long as an answer."""
# characters of a server's words in a message: enough for a sentence, too little to flood a log
QUOTED = 300
USER_AGENT = "vlmagent"
_log = logging.getLogger(__name__)


class ApiStoppedError(RunFailedError):
    """No further request may be sent: the budget is spent, the key is refused, or the endpoint is down.

    Attributes:
        outage: the endpoint gave no answers; it may give some later.
    """

    def __init__(self, text: str, *, outage: bool = False) -> None:
        super().__init__(text)
        self.outage = outage


class ApiClient:
    """Requests to one endpoint. All methods but ``close`` are called from one event loop.

    Args:
        endpoint: whom to ask, and how patiently.
        key: sent as a bearer token, and nowhere else.
        budget: asked before every attempt.
        route: the way there. The environment has no say beyond it.
        sleep: waits for some seconds; tests pass their own.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        key: str | None,
        budget: Budget,
        route: Route,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.endpoint = endpoint
        self.budget = budget
        self._key = key
        self._via = route.via
        self._advice = url_advice(endpoint, route.via)
        self._sleep = sleep
        # `asyncio` queues those who wait here in order: the earliest request is sent first
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._stopped: ApiStoppedError | None = None
        # wakes requests that wait for the budget when another one has been settled
        self._settled = asyncio.Condition()
        self._under_way = 0
        self._failures = 0
        self._answered = False
        # most input tokens that any answer was charged so far: the best guess for the next request's
        self._input_tokens = 0
        # the last wish for patience that was told, so that eight requests do not say it eight times
        self._told = ""
        headers = {"User-Agent": USER_AGENT, "Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx2.AsyncClient(
            headers=headers,
            limits=httpx2.Limits(max_connections=endpoint.concurrency),
            proxy=route.proxy,
            verify=route.certificates,
            trust_env=False,  # the route has read it; a netrc file would replace the key
        )

    @property
    def stopped(self) -> ApiStoppedError | None:
        """Why no further request may be sent, or None."""
        return self._stopped

    def forget_outage(self) -> None:
        """Let an endpoint that gave no answers be asked again, as somebody who plays asks step by step."""
        if self._stopped is not None and self._stopped.outage:
            self._stopped, self._failures = None, 0

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
            # inside the slot: waiting for a turn is not counted as the request's own time
            tries = Tries(started=time.monotonic())
            while True:
                tries.attempts += 1
                # set aside before each attempt, not each request: a failed attempt may have been charged as well
                reserved = await self._reserve(prompt)
                try:
                    answer = await self._attempt(prompt, picture)
                except RequestError as error:
                    # a refused attempt costs nothing; one that may have been answered is taken for as dear as could be
                    tries.spent += await self._settle(reserved, reserved if error.charged else 0.0)
                    pause = next_pause(self.endpoint, error, tries, self._answered)
                    if pause is None:
                        return self._failed(key, error, tries)
                    self._tell(error)
                    tries.waited += pause
                    await self._sleep(pause)
                except BaseException:  # stopped or cancelled on the way: it may well be charged
                    # also when the task is cancelled: an amount that stays set aside would shrink the budget for the
                    # rest
                    await self._settle(reserved, reserved)
                    raise
                else:
                    tries.spent += await self._settle(reserved, self._cost(prompt, answer))
                    # failures in a row: one answer shows that the endpoint works
                    self._failures, self._answered = 0, True
                    return self._row(key, answer, tries)

    async def _reserve(self, prompt: str) -> float:
        """Set aside what the next attempt may cost at most; waits while answers under way may leave enough."""
        # the larger of both: estimates may be too low for pictures, and prompts may be longer than any before
        tokens = max(self._input_tokens, estimated_tokens(prompt) + self.endpoint.image_tokens)
        worst = self.endpoint.cost(tokens, self.endpoint.max_output_tokens)
        async with self._settled:
            while True:
                # asked in each round: another request may have stopped everything while this one waited
                if self._stopped is not None:
                    raise self._stopped
                if self.budget.reserve(worst):
                    self._under_way += 1
                    return worst
                # nobody under way could give anything back, so waiting would last for ever
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

    def _cost(self, prompt: str, answer: ModelAnswer) -> float:
        """What an answer cost; where the server counted no tokens, at most so much."""
        asked, written = answer.input_tokens, answer.output_tokens
        # a server that counts nothing is charged at the most, so that the budget cannot be overdrawn unseen
        if asked is None:
            asked = estimated_tokens(prompt) + self.endpoint.image_tokens
        else:
            # what the server really counts for text and picture; later requests set aside at least that
            self._input_tokens = max(self._input_tokens, asked)
        return self.endpoint.cost(asked, self.endpoint.max_output_tokens if written is None else written)

    def _row(self, key: str, answer: ModelAnswer, tries: Tries) -> AnswerRow:
        return AnswerRow(
            key=key,
            # a model that echoes what it was sent could put the key into the database
            text=self.redact(answer.text),
            refusal=answer.refused,
            finish_reason=None if answer.finish_reason is None else self.quote(answer.finish_reason),
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            cost=tries.spent,
            attempts=tries.attempts,
            seconds=time.monotonic() - tries.started,
            error=None,
        )

    def _stop(self, text: str, *, outage: bool = False) -> NoReturn:
        if self._stopped is None:  # the first reason is the cause of the others
            self._stopped = ApiStoppedError(text, outage=outage)
        raise self._stopped

    def _tell(self, error: RequestError) -> None:
        """Say once what is waited for, while nobody has seen an answer yet."""
        wish = "asks for patience" if error.wait is None else f"asks to wait {error.wait:g} s"
        text = f"{self.endpoint.url}{self._via} {wish} ({error}): waiting, {EARLY_WAIT:.0f} s at most."
        # after the first answer nothing needs to be said: pauses are normal, and end
        if error.busy and not self._answered and text != self._told:
            self._told = text
            _log.warning("%s", text)

    def _failed(self, key: str, error: RequestError, tries: Tries) -> AnswerRow:
        """The row of a request without an answer; too many in a row stop everything, the very first one at once.

        Raises:
            ApiStoppedError: no request has ever been answered, so none of the others will fare better.
        """
        problem = str(error)
        if error.wait is not None and error.wait > self.endpoint.max_wait:
            problem += f"; it asks to wait {error.wait:.0f} s"
        # of the first failure all others will suffer; one sentence beats one failure for every environment
        if error.retry and not self._answered:
            attempts = f" ({tries.attempts} attempts)" if tries.attempts > 1 else ""
            text = f"No answer from {self.endpoint.url}{self._via}: {problem}{attempts}. {error.advice}"
            self._stop(text.rstrip(), outage=True)
        self._failures += 1
        # None: the first reason stays; requests under way end one after the other and all count here
        if self._failures >= self.endpoint.max_failures and self._stopped is None:
            self._stopped = ApiStoppedError(
                f"{self._failures} requests in a row to {self.endpoint.base_url} had no answer; the last one: "
                f"{problem}. Continue with --resume when the endpoint works again.",
                outage=True,
            )
        seconds = time.monotonic() - tries.started
        return AnswerRow(key, "", False, None, None, None, tries.spent, tries.attempts, seconds, problem)

    async def _attempt(self, prompt: str, picture: str) -> ModelAnswer:
        """Send once."""
        status, headers, body = await self._exchange(self._body(prompt, picture))
        # read even on errors: the body has the server's reason
        if status != 200:
            self._raise_status(status, headers, body, error_text(body), charged=False)
        try:
            return read_answer(body)
        except AnswerError as error:
            # HTTP 200 with an error in the document: gateways answer like that when the provider behind them fails
            self._raise_status(error.status, headers, body, str(error), charged=True)
        except AnswerFormatError as error:
            # most often the web interface of the server, at a URL without /v1
            page = "a web page, " if body.lstrip()[:1] == b"<" else ""
            problem = f"{page}an answer that is not in OpenAI's format ({error}): {self.quote(body)}"
            raise RequestError(problem, retry=True, charged=True, advice=self._advice) from None

    def _body(self, prompt: str, picture: str) -> bytes:
        """The request: picture first, then the prompt, as the paper's models see it."""
        content = [
            {"type": "image_url", "image_url": {"url": picture}},
            {"type": "text", "text": prompt},
        ]
        document: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": [{"role": "user", "content": content}],
            # the program's own fields cannot be overridden: `Endpoint` refuses them in `request`
            self.endpoint.token_limit_key: self.endpoint.max_output_tokens,
            **self.endpoint.request,
        }
        # in ASCII, so that a lone surrogate in a prompt is sent as an escape and not an error here
        return json.dumps(document).encode()

    async def _exchange(self, body: bytes) -> tuple[int, httpx2.Headers, bytes]:
        """Status, headers and body of one attempt, within the endpoint's time and size limits."""
        limit = self.endpoint.timeout
        # a machine that is not there swallows packets silently: nobody should wait a whole time limit to learn that
        connect = limit if self._answered else min(limit, CONNECT_SECONDS)
        timeout = httpx2.Timeout(limit, connect=connect)
        try:
            async with (
                # httpx's limits are per operation: a server that sends a byte a minute would never exceed one. This one
                # is for all
                asyncio.timeout(limit),
                self._http.stream("POST", self.endpoint.url, content=body, timeout=timeout) as response,
            ):
                return response.status_code, response.headers, await self._read(response)
        except httpx2.ConnectTimeout:
            # before the general clauses below, of which these are special cases
            problem = f"no connection within {connect:g} s"
            raise RequestError(problem, retry=True, slow=True, advice=self._advice) from None
        except (httpx2.ConnectError, httpx2.ProxyError, httpx2.PoolTimeout) as error:
            problem = self.quote(f"no connection: {connection_problem(error)}")
            raise RequestError(problem, retry=True, advice=self._advice) from None
        except (TimeoutError, httpx2.TimeoutException):
            # the server may be at work on it still, and charge it
            problem = f"no answer within {limit:g} s"
            advice = "If the model is only slow, give it an entry with a longer timeout (--endpoints FILE)."
            raise RequestError(problem, retry=True, charged=True, slow=True, advice=advice) from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            problem = self.quote(f"the connection broke: {type(error).__name__}: {error}")
            raise RequestError(problem, retry=True, charged=True, advice=self._advice) from None

    async def _read(self, response: httpx2.Response) -> bytes:
        """The body; of an error as much as matters."""
        limit, body = self.endpoint.max_answer_bytes, bytearray()
        async with aclosing(response.aiter_bytes()) as chunks:
            async for chunk in chunks:
                # a body without end must not fill the memory; what is read of an error suffices for its words
                body += chunk
                if len(body) > limit and response.status_code == 200:
                    problem = f"an answer of more than {limit:,} bytes"
                    raise RequestError(problem, retry=False, charged=True)
                if len(body) > limit:
                    break
        return bytes(body)

    def _raise_status(
        self, status: int, headers: httpx2.Headers, body: bytes, text: str, *, charged: bool
    ) -> NoReturn:
        """Turn a status into what it means; stops everything when no request can succeed.

        Args:
            text: the server's words.
            charged: whether the attempt may have cost something.
        """
        words = self.quote(text)
        problem = f"HTTP {status}: {words}" if words else f"HTTP {status}"
        # OpenAI's 429 for an empty account: waiting does not fill it
        quota = status == 429 and b"insufficient_quota" in body
        # other 4xx mean that this very request is wrong; before the first answer, all of them are
        rejected = status < 500 and status not in RETRIED
        if status in HOPELESS or quota or (rejected and not self._answered):
            self._stop(
                f"{self.endpoint.url}{self._via}: {problem}. {status_advice(self.endpoint, status, self._key)}"
            )
        raise RequestError(
            problem,
            retry=status in RETRIED,
            wait=retry_after(headers) if status in RETRIED else None,
            charged=charged,
            busy=status == 429,
        )

    def redact(self, text: str) -> str:
        """``text`` without the key, should a server send it back."""
        return text.replace(self._key, "[key]") if self._key else text

    def quote(self, text: str | bytes) -> str:
        """A server's words as they may be shown and stored: one short line."""
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        # split and join: line breaks and tables of a web page become one line
        line = harmless(" ".join(self.redact(plain).split()))
        return line if len(line) <= QUOTED else line[:QUOTED] + "…"


def estimated_tokens(text: str) -> int:
    """Tokens of a text, rather too many than too few: three characters a token."""
    # 16: roles and separators that chat templates put around a text
    return len(text) // 3 + 16


def retry_after(headers: httpx2.Headers) -> float | None:
    """What ``Retry-After`` asks for, in seconds: a number or a date; None when there is none to be read."""
    value = headers.get("retry-after", "").strip()
    # float() also reads "nan" and "inf": the former is no wish, the latter is longer than any patience
    try:
        seconds = float(value) if value else math.nan
    except ValueError:
        return _seconds_until(value)
    return None if math.isnan(seconds) else max(0.0, seconds)


def _seconds_until(date: str) -> float | None:
    """Seconds until a date as HTTP writes it, 0 for one gone by; None when it cannot be read."""
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None
    # HTTP dates are in GMT; one written without a zone is read as that
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
