"""Which endpoints there are to ask, and with which key: ``configs/baselines.yaml`` and ``openai:MODEL@URL``.

Deliberately knows no HTTP. A key is read from its environment variable and handed on; it is part of nothing that is
printed, compared or stored.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from vlmagent import paths
from vlmagent.config import Section, merge, read_yaml
from vlmagent.config.validation import validate
from vlmagent.errors import UsageError, unknown_choice
from vlmagent.text import harmless

PREFIX = "openai:"
OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
ASKED_AT = "/chat/completions"
EXAMPLE_URL = "http://localhost:8000/v1"
OWN_FIELDS = frozenset({"model", "messages", "max_tokens", "max_completion_tokens", "n", "stream"})
"""Of a request: others are the user's. More than one choice, or a stream of pieces, could not be read or paid for."""
OWN_KEY = "VLMAGENT_API_KEY"
"""The key for ``openai:MODEL@URL``: a key for one service must not be sent to another."""


class Endpoint(Section):
    """One model behind an OpenAI-compatible ``chat/completions``."""

    provider: str = "openai-compatible"
    """Who runs it; for people."""
    model: str = Field(min_length=1)
    """The model's name as the provider spells it."""
    base_url: str
    """What ``/chat/completions`` is appended to."""
    key_variable: str | None = None
    """Environment variable that holds the key; null for servers that want none."""
    key_optional: bool = False
    """Whether it may be asked without a key."""
    input_price: float | None = Field(None, ge=0)
    """US dollars per million input tokens; null when not known."""
    output_price: float | None = Field(None, ge=0)
    """US dollars per million output tokens; null when not known."""
    image_tokens: int = Field(1000, ge=0)
    """Input tokens that a picture is assumed to cost until the first answer says better."""
    max_output_tokens: int = Field(1024, ge=1)
    """An answer's limit, sent with each request; what a model thinks unseen counts too."""
    token_limit_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What this API calls that limit."""
    request: dict[str, Any] = Field(default_factory=dict)
    """Sent with each request as it is, such as ``temperature``."""
    concurrency: int = Field(8, ge=1, le=256)
    """Requests under way at the same time; episodes played side by side."""
    timeout: float = Field(120.0, gt=0)
    """Seconds one attempt may take from beginning to end."""
    attempts: int = Field(6, ge=1, le=20)
    """How often a request is sent at most, on 408, 409, 429, 5xx, cut connections and time-outs."""
    backoff: float = Field(1.0, gt=0)
    """Seconds before the second attempt; doubled each time, with jitter. A Retry-After header takes precedence."""
    max_wait: float = Field(120.0, gt=0)
    """Longest wait between two attempts; a server that asks for more is not asked again."""
    max_answer_bytes: int = Field(1_000_000, ge=1000)
    """Longer answers are not read to their end and count as an error."""
    max_failures: int = Field(10, ge=1)
    """Requests in a row without an answer after which the evaluation stops."""
    max_cost: float | None = Field(5.0, ge=0)
    """Budget in US dollars when the command has no ``--max-cost``; null for none."""

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        """The URL without what many copy along: blanks around it, a last slash, ``/chat/completions``."""
        # people paste the whole address that documentation shows
        url = url.strip().rstrip("/").removesuffix(ASKED_AT).rstrip("/")
        problem = _url_problem(url)
        if problem:
            shown = harmless(without_credentials(url))
            raise ValueError(f"'{shown}' is not a URL such as {EXAMPLE_URL}: {problem}")
        # the URL names results and goes into the database, so secrets in it are refused and not merely hidden
        parts = urlsplit(url)
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("it must hold no key, user or query, since it is written to logs and databases")
        return url

    @field_validator("request")
    @classmethod
    def _sendable(cls, request: dict[str, Any]) -> dict[str, Any]:
        ours = sorted(OWN_FIELDS & request.keys())
        if ours:
            raise ValueError(
                f"'{ours[0]}' is set by the program; an answer's limit is max_output_tokens, and what an API calls it "
                "token_limit_key"
            )
        try:
            # NaN and infinities are no JSON, though Python would write them
            json.dumps(request, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"it cannot be written as JSON ({error})") from None
        return request

    @property
    def url(self) -> str:
        """What is asked."""
        return self.base_url + ASKED_AT

    @property
    def priced(self) -> bool:
        """Whether its cost can be counted."""
        return self.input_price is not None and self.output_price is not None

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """US dollars; 0 where no price is known."""
        if self.input_price is None or self.output_price is None:
            return 0.0
        # prices are per million tokens
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1e6


def endpoints(extra: Path | None = None) -> dict[str, Any]:
    """The named endpoints as written: the shipped ones, with those of the file ``extra`` over and beside them."""
    shipped = read_yaml(paths.config_dir() / paths.BASELINES)
    return merge(shipped, read_yaml(extra)) if extra else shipped


def find_endpoint(
    name: str,
    extra: Path | None = None,
    others: tuple[str, ...] = (),
    max_output_tokens: int | None = None,
) -> Endpoint:
    """The endpoint that ``--baseline`` names.

    Args:
        name: one of the named endpoints, ``openai:MODEL@URL``, or ``openai:MODEL`` for OpenAI itself.
        extra: the user's own file of endpoints.
        others: baselines that are no endpoints, for the list of choices.
        max_output_tokens: stands instead of the endpoint's own.

    Raises:
        UsageError: an unknown name, or a value in a file or URL that is not valid.
    """
    found = _by_url(name) if name.startswith(PREFIX) else _by_name(name, extra, others)
    if max_output_tokens is None:
        return found
    return found.model_copy(update={"max_output_tokens": max_output_tokens})


def _by_name(name: str, extra: Path | None, others: tuple[str, ...]) -> Endpoint:
    known = endpoints(extra)
    if name not in known:
        todo = "Any OpenAI-compatible server: openai:MODEL@URL."
        raise unknown_choice("baseline", name, [*others, *known], todo)
    if not isinstance(known[name], Mapping):
        raise UsageError(f"The endpoint '{name}' should hold keys and values, such as model and base_url.")
    return validate(Endpoint, known[name], prefix=f"{name}.")


def _by_url(name: str) -> Endpoint:
    """``openai:MODEL@URL``; the model's name may hold an @ itself, a URL begins with its scheme."""
    text = name.removeprefix(PREFIX)
    # non-greedy model, so that the first "@http" is the border; blanks behind the @ come from copying
    match = re.fullmatch(r"(?P<model>.+?)@\s*(?P<url>https?://.*)", text, re.IGNORECASE | re.DOTALL)
    model = match["model"] if match else text
    # an @ without a URL behind it is a typing error, and would be sent to OpenAI as a model's name
    if not model.strip() or (match is None and "@" in text):
        shown = harmless(PREFIX + without_credentials(text) if "://" in text else name)
        raise UsageError(
            f"The baseline '{shown}' is not openai:MODEL@URL, with a URL that begins with http:// or https://. "
            f"Example: openai:llava@{EXAMPLE_URL}"
        )
    # no price is known for a server given by URL, so a budget would stop nothing
    values: dict[str, Any] = {"model": model, "max_cost": None}
    if match:
        values |= {"base_url": match["url"], "key_variable": OWN_KEY, "key_optional": True}
    else:
        values |= {
            "provider": "OpenAI",
            "base_url": OPENAI_URL,
            "key_variable": OPENAI_KEY,
            # newer models of OpenAI refuse `max_tokens`
            "token_limit_key": "max_completion_tokens",
        }
    return validate(Endpoint, values, prefix="")


def without_credentials(url: str) -> str:
    """A URL as it may be shown: user and password as three stars, however badly it is written."""
    # rpartition on both: a scheme is the last "://", a host stands behind the last "@"; all before it may be a password
    scheme, separator, rest = url.rpartition("://") if "://" in url else ("", "", url)
    credentials, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{'***' if credentials else ''}{at}{host}"


def _url_problem(url: str) -> str:
    """Why nothing can be asked at a URL; "" if something can."""
    # control characters in a URL could forge lines of a log
    if re.search(r"\s", url) or not url.isprintable():
        return "it holds a blank or a character that cannot be printed"
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            return "it does not begin with http:// or https://"
        host, port = parts.hostname or "", parts.port
        # a name that DNS cannot hold raises UnicodeError, which is a ValueError
        host.encode("idna")
    except ValueError:  # its text may quote a password
        if url.count(":") > 2 and "[" not in url:
            return "an IPv6 address stands in brackets, as in http://[::1]:8000/v1"
        return "its host or port cannot be read"
    return "" if host and port != 0 else "host or port is missing"


def read_key(name: str, endpoint: Endpoint, environment: Mapping[str, str] = os.environ) -> str | None:
    """The endpoint's key, None for one that needs none.

    Raises:
        UsageError: there is no key, or it is none; never quotes it.
    """
    if endpoint.key_variable is None:
        return None
    key = environment.get(endpoint.key_variable, "").strip()
    if not key:
        if endpoint.key_optional:
            return None
        raise UsageError(
            f"The baseline '{name}' ({endpoint.model}) needs a key of {endpoint.provider}: set the environment "
            f"variable {endpoint.key_variable}. Nothing was asked and nothing was spent."
        )
    # a key with a line break would be refused by the HTTP library with a message that quotes it
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError(
            f"The environment variable {endpoint.key_variable} holds no usable key: it has characters that no key has "
            "(a blank, a line break or a typographic character). Nothing was asked and nothing was spent."
        )
    return key
