"""Does something slow for a screen on a thread of its own, and says what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from textual.app import App

from vlmagent.errors import VlmAgentError
from vlmagent.tui.data.source import Worker
from vlmagent.tui.text import safe

T = TypeVar("T")
# characters of an error that are shown: a note must not fill the screen
MOST_WORDS = 400
# Textual's notes stay 5 s, too short for two sentences that end in what to do
ERROR_SECONDS = 10.0


def say_error(app: App[Any], text: str, seconds: float = ERROR_SECONDS) -> None:
    """A failure as a note on the screen. What a model or a file says in it is shown, never obeyed."""
    app.notify(safe(text, MOST_WORDS), severity="error", markup=False, timeout=seconds)


async def attempt(app: App[Any], function: Callable[[], T]) -> T | None:
    """What ``function`` returns, or None after an error, which is shown to the user."""
    # a thread for each call: one that takes minutes (stopping a run) must not hold up the next
    worker = Worker("attempt")
    try:
        return await worker.call(function)
    # anything else is a fault of the program: it goes on to Textual, which shows the traceback
    except VlmAgentError as error:
        say_error(app, str(error))
        return None
    finally:
        worker.close()
