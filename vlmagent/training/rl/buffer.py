"""The on-policy buffer: T steps of N environments, then samples with advantages.

Knows neither models nor environments; it holds transitions and arranges their numbers into (T, N).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vlmagent.training.rl.advantages import Advantages, generalized_advantages
from vlmagent.types import Transition


class Sample(NamedTuple):
    """One transition with its value target (in units of reward) and advantage."""

    transition: Transition
    advantage: float
    return_: float


class RolloutBuffer:
    """Collects transitions in the order of the environment steps: all environments' step 0, then step 1, ...

    Args:
        num_envs: N.
        num_steps: T, steps per environment and update.
        first_env: index of the first of them, where other processes have those before it.
    """

    def __init__(self, num_envs: int, num_steps: int, first_env: int = 0) -> None:
        self.num_envs = num_envs
        self.first_env = first_env
        self.num_steps = num_steps
        self._transitions: list[Transition] = []

    @property
    def full(self) -> bool:
        """Whether N * T transitions are in."""
        return len(self._transitions) >= self.num_envs * self.num_steps

    def __len__(self) -> int:
        return len(self._transitions)

    def add(self, transitions: Sequence[Transition]) -> None:
        """Add one step of all environments, in the order of ``env_index``."""
        # every column of (T, N) has to be one environment from step to step
        expected = list(range(self.first_env, self.first_env + self.num_envs))
        received = [t.env_index for t in transitions]
        if received != expected:
            raise ValueError(
                f"one transition per environment {expected[0]}..{expected[-1]} expected, received {received}"
            )
        if self.full:
            raise ValueError("the buffer is full")
        self._transitions.extend(transitions)

    @property
    def transitions(self) -> Sequence[Transition]:
        """What is in so far, in step-major order."""
        return self._transitions

    def finish(
        self,
        last_values: Sequence[float],
        *,
        gamma: float,
        gae_lambda: float,
        penalties: Sequence[float] | None = None,
    ) -> list[Sample]:
        """Advantages of everything collected; the buffer is empty afterwards.

        Args:
            penalties: what is taken off each transition's reward, in their order.
            last_values: V of the state after the last step, per environment; ignored where that step ended an episode.
        """
        # emptied first: the next update begins with nothing whatever becomes of this one
        transitions, self._transitions = self._transitions, []
        rewards = [t.reward for t in transitions]
        # taken off the reward instead of added to the loss: it reaches earlier steps through the advantages
        if penalties is not None:
            rewards = [reward - penalty for reward, penalty in zip(rewards, penalties, strict=True)]
        result = advantages_of(
            transitions, rewards, self.num_envs, last_values, gamma=gamma, gae_lambda=gae_lambda
        )
        pairs = zip(
            transitions, result.advantages.flatten().tolist(), result.returns.flatten().tolist(), strict=True
        )
        return [Sample(transition, advantage, return_) for transition, advantage, return_ in pairs]


def advantages_of(
    transitions: Sequence[Transition],
    rewards: Sequence[float],
    num_envs: int,
    last_values: Sequence[float],
    *,
    gamma: float,
    gae_lambda: float,
) -> Advantages:
    """GAE of transitions and what they earned, in step-major order, as (T, N) tensors.

    V(s_{t+1}) is the next row's V(s) within an episode, the bootstrap value after a truncated step, and ``last_values``
    after the last row.
    """

    # (T, N): rows are steps, columns environments
    def table(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).view(-1, num_envs)

    values = table([_value(t) for t in transitions])
    # row t + 1 of the same column is where step t led to, as long as the episode goes on
    next_values = torch.cat([values[1:], torch.tensor([list(last_values)], dtype=torch.float64)])
    # both at once counts as terminated: nothing is bootstrapped
    truncated = table([t.truncated and not t.terminated for t in transitions]).bool()
    bootstraps = table([t.bootstrap_value or 0.0 for t in transitions])
    return generalized_advantages(
        table(rewards),
        values,
        # behind a truncated step the next row is already another episode's first state
        torch.where(truncated, bootstraps, next_values),
        table([t.terminated for t in transitions]).bool(),
        truncated,
        gamma=gamma,
        gae_lambda=gae_lambda,
    )


def _value(transition: Transition) -> float:
    if transition.value is None:
        raise ValueError(f"transition {transition.id} has no value: its agent has no value head")
    return transition.value
