"""The errors people see: one sentence on what was wrong, the value, the choices, what to do.

Knows nothing of where an error is shown; ``cli.main`` turns these into a line on standard error and an exit code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VlmAgentError(Exception):
    """A failure that its reader can act on. Shown without a traceback; the program exits with ``exit_code``."""

    exit_code = 1


class UsageError(VlmAgentError):
    """The command, a configuration value or a path was wrong: nothing was started."""

    exit_code = 2


class StoreError(VlmAgentError):
    """The run database could not be opened, read or written."""


class RunFailedError(VlmAgentError):
    """The work itself failed (a model that diverged, a worker that died)."""


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """The choice most like ``value``, or None when nothing comes close."""
    # names are compared in small letters, and told as they are spelt
    by_lower = {choice.lower(): choice for choice in choices}
    # 0.5: more generous than difflib's 0.6, since names here are short and one wrong letter weighs much
    found = difflib.get_close_matches(value.lower(), list(by_lower), n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None


def unknown_choice(what: str, value: str, choices: Iterable[str], todo: str = "") -> UsageError:
    """The error for a name that is not among ``choices``: names the nearest match and lists them all."""
    known = list(choices)
    close = nearest(value, known)
    hint = f" Did you mean '{close}'?" if close else ""
    listed = ", ".join(known) if known else "(none)"
    return UsageError(f"Unknown {what} '{value}'.{hint} Valid choices: {listed}.{' ' + todo if todo else ''}")


def explain(error: BaseException) -> str:
    """A failure in one sentence: our own as they are, foreign ones with their kind."""
    return str(error) if isinstance(error, VlmAgentError) else f"{type(error).__name__}: {error}"
