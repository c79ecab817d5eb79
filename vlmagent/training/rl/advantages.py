"""Generalised advantage estimation with truncation told apart from termination.

    delta_t = r_t + gamma * V(s_{t+1}) * (1 - terminated_t) - V(s_t)
    A_t     = delta_t + gamma * gae_lambda * (1 - done_t) * A_{t+1},        done = terminated or truncated

Schulman et al. 2016, equations 11-16. Knows nothing of environments: V(s_{t+1}) is handed in, so that a truncated
step is bootstrapped with the value of the state it ended in, not of the next episode's first state.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Advantages(NamedTuple):
    """Both of shape (T, N): ``returns = advantages + values`` are the value targets."""

    advantages: Tensor
    returns: Tensor


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Advantages:
    """GAE over T steps of N environments.

    Args:
        rewards: float, (T, N), r_t for t = 0 .. T - 1.
        values: float, (T, N), V(s_t).
        next_values: float, (T, N), V(s_{t+1}); ignored where ``terminated``.
        terminated: bool, (T, N): s_{t+1} is terminal.
        truncated: bool, (T, N): the episode was cut after this step.
        gamma: discount factor.
        gae_lambda: 0 gives one-step errors, 1 Monte-Carlo returns.
    """
    shapes = {tuple(x.shape) for x in (rewards, values, next_values, terminated, truncated)}
    if len(shapes) != 1 or rewards.ndim != 2:
        raise ValueError(f"all inputs must share one shape (T, N), but have {sorted(shapes)}")
    # where, not a product: a NaN behind a terminal state must not leak in
    bootstrap = torch.where(terminated, torch.zeros_like(next_values), next_values)
    # one-step errors: delta_t = r_t + gamma * V(s_{t+1}) - V(s_t)
    deltas = rewards + gamma * bootstrap - values
    # 0 at the last step of an episode: the next row is another episode's
    carry = gamma * gae_lambda * (~(terminated | truncated)).to(values.dtype)
    advantages = torch.zeros_like(values)
    following = torch.zeros_like(values[0])
    # backwards: A_t needs A_{t+1}
    for t in range(len(rewards) - 1, -1, -1):
        following = deltas[t] + carry[t] * following
        advantages[t] = following
    return Advantages(advantages, advantages + values)


def normalize(advantages: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 over all entries; all zeros when they are all equal."""
    centred = advantages - advantages.mean()
    # epsilon keeps 0 / 0 out where all are equal
    return centred / (centred.pow(2).mean().sqrt() + epsilon)
