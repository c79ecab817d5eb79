"""How long to go on after a failed request: longer with a server that has answered once than with one that has not.

Deliberately knows no HTTP and waits for nothing itself. Before the first answer a failure most likely means a mistake
(a wrong URL, a server that is not there), which nobody wants to wait minutes to hear of; after it, an outage, which
patience outlasts. What asks for patience itself, by ``Retry-After`` or by 429, gets it in either case: a server that
loads its model is there and knows what it does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from vlmagent.agents.api.endpoints import Endpoint

EARLY_ATTEMPTS = 3
"""Before the first answer, where the server asks for no wait: a restart under way is outlasted, a mistake is told."""
EARLY_PAUSE = 0.5
"""Seconds; longest pause between those."""
EARLY_WAIT = 300.0
"""Seconds that one request waits in all at a server's wish before the first answer: large models load for minutes."""


class RequestError(Exception):
    """One attempt failed; the text is fit to be shown.

    Attributes:
        retry: whether another attempt may help.
        wait: what the server asked for, in seconds.
        charged: whether it may have cost as much as an answer.
        busy: the server is there and asks for patience (429, or a wait of its own).
        slow: it took all the time that an attempt has: the patience for a server that never answered is used up.
        advice: what to do when no request has ever been answered.
    """

    def __init__(
        self,
        text: str,
        *,
        retry: bool,
        wait: float | None = None,
        charged: bool = False,
        busy: bool = False,
        slow: bool = False,
        advice: str = "",
    ) -> None:
        super().__init__(text)
        self.retry = retry
        self.wait = wait
        self.charged = charged
        self.busy = busy or wait is not None
        self.slow = slow
        self.advice = advice


@dataclass(slots=True)
class Tries:
    """What one request has taken so far: attempts, seconds waited between them, US dollars, and when it began."""

    started: float
    attempts: int = 0
    waited: float = 0.0
    spent: float = 0.0


def next_pause(endpoint: Endpoint, error: RequestError, tries: Tries, answered: bool) -> float | None:
    """Seconds until the next attempt; None when there is to be none.

    Args:
        tries: the failed attempt included.
        answered: whether the endpoint has answered any request of this process.
    """
    if not error.retry or (error.wait is not None and error.wait > endpoint.max_wait):
        return None
    if error.wait is not None and not answered:
        # see above: also "Retry-After: 0" counts as a wish
        pause = max(error.wait, 1.0)  # "Retry-After: 0" must not become a busy loop
        # in seconds in all, not per wait: a server that asks for a minute again and again is given five
        return pause if tries.waited + pause <= EARLY_WAIT else None
    impatient = not answered and not error.busy
    # one whole time limit is spent already, and nothing speaks for a second
    if impatient and error.slow:
        return None
    if tries.attempts >= (min(EARLY_ATTEMPTS, endpoint.attempts) if impatient else endpoint.attempts):
        return None
    # the server knows better than any formula how long it takes
    if error.wait is not None:
        return error.wait
    longest = min(EARLY_PAUSE, endpoint.max_wait) if impatient else endpoint.max_wait
    doubled: float = endpoint.backoff * 2.0 ** (tries.attempts - 1)
    # exponential backoff with jitter: requests that failed together must not all come back together
    return min(doubled, longest) * random.uniform(0.5, 1.0)
