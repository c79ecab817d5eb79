"""What a check finds, and how checks are run: side by side, each with a time limit, so that none can hang or crash.

Knows no check.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

LIMIT_SECONDS = 20.0
"""How long a check may take. On an idle machine none takes a second; a dead network disk takes for ever."""


class State(StrEnum):
    """How something is: in order, worth knowing or optional and absent, or wrong."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer.

    Attributes:
        area: the heading it stands under.
        name: what was looked at.
        text: how it is, in a sentence or less.
        remedy: what to do about it, a line for each thing; "" where nothing has to be done.
        essential: whether training with the built-in model fails until it is mended.
    """

    area: str
    name: str
    state: State
    text: str
    remedy: str = ""
    essential: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Attributes:
        look: does it; may take its time, and may raise anything.
        essential: whether training fails where no answer can be had.
    """

    area: str
    name: str
    look: Callable[[], Iterable[Finding]]
    essential: bool = False
    limit: float = LIMIT_SECONDS


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was found, in the order of the checks."""

    findings: tuple[Finding, ...]

    @property
    def obstacles(self) -> tuple[Finding, ...]:
        """What keeps the built-in model from being trained here."""
        return tuple(f for f in self.findings if f.essential and f.state is State.PROBLEM)

    @property
    def ready(self) -> bool:
        """Whether the built-in model can be trained here."""
        return not self.obstacles

    def count(self, state: State) -> int:
        """How many findings there are of a state."""
        return sum(finding.state is state for finding in self.findings)


def examine(checks: Sequence[Check]) -> Diagnosis:
    """Run all checks at the same time and wait for them, for none longer than its limit."""
    begun = time.monotonic()
    # all are started before the first is waited for: together they take as long as the slowest
    under_way = [_Running(check) for check in checks]
    found = [finding for one in under_way for finding in one.wait(begun)]
    return Diagnosis(tuple(found))


class _Running:
    """A check in a thread of its own, which is left behind when it does not come back."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._found: list[Finding] = []
        # a daemon thread: one that hangs on a dead network disk cannot be ended, and must not keep the program
        self._thread = threading.Thread(target=self._look, name=f"doctor: {check.name}", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        try:
            # a list at once: a generator would do its looking outside the try and outside the thread
            self._found = list(self._check.look())
        except BaseException as error:  # whatever it is, it becomes a line
            said = f"This could not be checked: {type(error).__name__}: {error}"
            lacks = isinstance(error, ImportError)
            todo = "Install vlmagent again, with all that it needs." if lacks else "Other lines may say why."
            self._found = [self._problem(said, todo)]

    def wait(self, begun: float) -> list[Finding]:
        # from the common beginning: limits do not add up
        self._thread.join(max(0.0, begun + self._check.limit - time.monotonic()))
        if not self._thread.is_alive():
            return self._found
        said = f"There was no answer within {self._check.limit:g} s."
        return [self._problem(said, "Look whether a disk or a device hangs, or the machine is overloaded.")]

    def _problem(self, text: str, remedy: str) -> Finding:
        check = self._check
        return Finding(check.area, check.name, State.PROBLEM, text, remedy, check.essential)
