"""What is likely wrong when an endpoint gives no answer, and what to do: one sentence each.

Deliberately decides nothing: whether to go on is the business of ``client`` and ``patience``.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from vlmagent.agents.api.endpoints import Endpoint

# /v1, /v2, ... somewhere in the path: where servers put OpenAI's API, and what is forgotten most often
_VERSION = re.compile(r"/v\d")


def url_advice(endpoint: Endpoint, via: str) -> str:
    """For a server that cannot be reached or talks of something else.

    Args:
        via: words for the proxy on the way; "" for none.
    """
    if via:
        return "Check the proxy and the address; a host in NO_PROXY is asked directly."
    if _VERSION.search(urlsplit(endpoint.base_url).path):
        return "Check that the server runs, and the address."
    return f"Check that the server runs, and the address: is /v1 missing ({endpoint.base_url}/v1)?"


def status_advice(endpoint: Endpoint, status: int, key: str | None) -> str:
    """For a request that the server, or a proxy on the way, refused for good.

    Args:
        key: what was sent; None for nothing.
    """
    # 401 and 403: the key; 402 and, with "insufficient_quota", 429: the account; 404 and 405: the path or the model
    if status in (401, 403):
        return _key_advice(endpoint, key)
    if status in (402, 429):
        return "Check what the account has left and may spend."
    if status in (404, 405):
        missing = "" if _VERSION.search(urlsplit(endpoint.base_url).path) else f" ({endpoint.base_url}/v1?)"
        return f"Either the URL is wrong{missing}, or it has no model called '{endpoint.model}'."
    if status == 407:
        return "Put user and password into the proxy's URL."
    if 300 <= status < 400:
        return "Redirects are not followed, lest the key go elsewhere: name the server itself."
    return f"Check the model's name, '{endpoint.model}', and the endpoint's values (configs/baselines.yaml)."


def _key_advice(endpoint: Endpoint, key: str | None) -> str:
    if endpoint.key_variable is None:
        return "It wants a key: give it an entry with key_variable in a file of your own (--endpoints FILE)."
    if key is None:
        return f"It wants a key: set the environment variable {endpoint.key_variable}."
    variable = endpoint.key_variable
    return f"Check the key in the environment variable {variable}, and that it may use '{endpoint.model}'."


def connection_problem(error: BaseException) -> str:
    """Why a connection failed, from the system's own error behind the library's."""
    # httpx wraps the system's error several times; the innermost says what a person can act on
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = cause.verify_message
            return (
                f"its certificate was not accepted ({reason}); SSL_CERT_FILE names the authorities to trust"
            )
        if isinstance(cause, ssl.SSLError):
            return f"the TLS handshake failed ({cause.reason or cause}); does it speak http instead of https?"
        if isinstance(cause, socket.gaierror):
            return f"the host's name was not found ({cause.strerror})"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused, nothing listens there"
    return str(error) or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it came from, and the members of groups among these."""
    waiting, seen = [error], set()
    while waiting:
        # exceptions may refer to each other in a circle
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        # connections tried to several addresses at once fail as a group
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions
        waiting += [cause for cause in (current.__cause__, current.__context__) if cause is not None]
