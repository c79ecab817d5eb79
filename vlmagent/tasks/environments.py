"""What an environment may offer beside Gymnasium's interface, and the one place that looks for it.

An environment whose steps take place elsewhere, in a process of its own for instance, can begin them without waiting;
that process may also die. Knows nothing of tasks and agents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym

from vlmagent.errors import UsageError
from vlmagent.types import EnvAction, ImageArray

LOST = "lost"
"""Key of an ``info`` that is true when nothing is known of what the last action did: the environment's process died.
The step is truncated, and its picture is that of the state before."""


@runtime_checkable
class BeginsResets(Protocol):
    """An environment that can begin to reset, so that several do so at the same time."""

    def begin_reset(self, seed: int) -> None:
        """Begin what ``reset(seed=seed)`` will wait for."""


@runtime_checkable
class BeginsSteps(Protocol):
    """An environment that can begin to step, so that several do so at the same time; it may be ``LOST`` meanwhile."""

    def begin_step(self, action: EnvAction) -> None:
        """Begin what ``step(action)`` will wait for."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What one environment can do beside Gymnasium's interface.

    Attributes:
        begin_reset: see ``BeginsResets``; does nothing where the environment cannot.
        begin_step: see ``BeginsSteps``; does nothing where the environment cannot.
        may_be_lost: whether an episode can end because its process died.
    """

    begin_reset: Callable[[int], None]
    begin_step: Callable[[EnvAction], None]
    may_be_lost: bool


def abilities_of(env: gym.Env[ImageArray, EnvAction]) -> Abilities:
    """What an environment, whatever wraps it, can do."""
    # wrappers such as `TimeLimit` do not hand on what Gymnasium does not know
    inner = env.unwrapped
    return Abilities(
        begin_reset=inner.begin_reset if isinstance(inner, BeginsResets) else _nothing,
        begin_step=inner.begin_step if isinstance(inner, BeginsSteps) else _nothing,
        may_be_lost=isinstance(inner, BeginsSteps),
    )


def was_lost(state: Mapping[str, Any]) -> bool:
    """Whether a step's ``info`` says that its environment's process died."""
    return bool(state.get(LOST))


def as_lost(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same ``info``, of an episode that ended because its environment's process died."""
    return {**state, LOST: True}


def _nothing(_: object) -> None:
    """Stands in for beginning early."""


def check_reward(reward: Any, task: str, seed: int, step: int) -> float:
    """A reward as a number.

    Args:
        seed, step: of the episode, and which of its steps earned it, from 1.

    Raises:
        UsageError: it is none, or not finite: nothing can be learnt from that, and the loss would look as if the
            policy had diverged.
    """
    # numpy numbers and 0-dimensional arrays are rewards, too; None and text are not
    try:
        value = float(reward)
    except (TypeError, ValueError):
        value = math.nan
    if math.isfinite(value):
        return value
    raise UsageError(
        f"The environment of '{task}' returned the reward {reward!r} in step {step} of the episode with seed {seed}. "
        "A reward has to be a finite number: look for a division by zero or a logarithm in the environment."
    )
