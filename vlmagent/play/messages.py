"""What a session and the process that thinks for it say to each other: frozen values, pickled over a pipe.

Knows neither end. A question carries a number; whatever is said about it carries the same number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlmagent.config import Config
from vlmagent.types import Decision, Observation

# To the process


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message: who is to think.

    Attributes:
        run: the folder of a run whose newest checkpoint thinks; None for a baseline.
        baseline: a name of ``agents.simple.BASELINES``; None for a run.
    """

    config: Config
    run: str | None
    baseline: str | None


@dataclass(frozen=True, slots=True)
class Reload:
    """Look for a newer checkpoint of the run."""


@dataclass(frozen=True, slots=True)
class Think:
    """What would you do here? ``state`` is the environment's true state, for experts only."""

    number: int
    observation: Observation
    state: Mapping[str, Any]
    seed: int


@dataclass(frozen=True, slots=True)
class Forget:
    """The answer to this question is no longer wanted."""

    number: int


Request = Begin | Reload | Think | Forget


# From the process


@dataclass(frozen=True, slots=True)
class Loading:
    """How far loading has come: stage ``done`` of ``total``, in words."""

    words: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Ready:
    """It can be asked.

    Attributes:
        actor: how its steps are signed, such as ``model step-512`` or ``expert``.
        changed: False when a reload found nothing newer.
    """

    actor: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """Loading failed; ``words`` say why. What was loaded before still stands."""

    words: str


@dataclass(frozen=True, slots=True)
class Writing:
    """The output so far."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Decided:
    """The decision; its ``generation`` holds the value where there is one."""

    number: int
    decision: Decision


@dataclass(frozen=True, slots=True)
class Judged:
    """The probability of each legal action, given the thoughts of the decision; they sum to 1."""

    number: int
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing more will be said about this question; ``problem`` says why it was not answered, "" if it was."""

    number: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Died:
    """Said by the client: the process has ended, with the last lines it wrote."""

    words: str


Event = Loading | Ready | Refused | Writing | Decided | Judged | Finished | Died
