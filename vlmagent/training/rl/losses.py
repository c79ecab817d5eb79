"""PPO's losses and diagnostics as pure functions of tensors.

Schulman et al. 2017, equation 7:  L = -E[min(rho * A, clip(rho, 1 - c, 1 + c) * A)],  rho = exp(logp - old_logp)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PolicyLoss(NamedTuple):
    """Scalars; ``loss`` carries gradients."""

    loss: Tensor
    clip_fraction: Tensor


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float) -> PolicyLoss:
    """The clipped surrogate objective, negated.

    Args:
        logprobs: weighted log-probs of whole outputs under the current policy, (B,).
        old_logprobs: the same under the policy that sampled them, (B,).
        advantages: (B,).
        clip: half-width of the trusted interval around ratio 1.
    """
    _same_shape(logprobs, old_logprobs, advantages)
    # rho of whole outputs: the log-probs are sums over their tokens (paper, equation 4.3)
    ratio = torch.exp(logprobs - old_logprobs)
    clipped = ratio.clamp(1 - clip, 1 + clip)
    # the smaller of the two: going further in a good direction earns nothing, going in a bad one costs in full
    loss = -torch.minimum(ratio * advantages, clipped * advantages).mean()
    # for the log: outputs whose ratio left the interval, whether or not that changed the loss
    outside = ((ratio < 1 - clip) | (ratio > 1 + clip)).to(loss.dtype).mean()
    return PolicyLoss(loss, outside.detach())


def value_loss(values: Tensor, returns: Tensor, old_values: Tensor, value_clip: float) -> Tensor:
    """0.5 * mean squared error; with ``value_clip`` > 0 the larger of the plain and the clipped error (PPO2).

    All of shape (B,). A clip that is small against the scale of the returns throttles the critic, hence 0 by default.
    """
    _same_shape(values, returns, old_values)
    error = (values - returns).pow(2)
    if value_clip > 0:
        # the larger error: clipping never makes the critic look better than it is
        moved = old_values + (values - old_values).clamp(-value_clip, value_clip)
        error = torch.maximum(error, (moved - returns).pow(2))
    return 0.5 * error.mean()


def sequence_kl(token_logprobs: Tensor, old_token_logprobs: Tensor, mask: Tensor) -> Tensor:
    """KL(old || new) of whole outputs per sample, (B,), in nats: the k3 estimator summed over tokens.

    k3 = exp(d) - 1 - d with d = new - old is unbiased for samples of the old policy and never negative
    (Schulman 2020, "Approximating KL divergence"). Inputs are (B, L); only tokens under ``mask`` count.
    """
    _same_shape(token_logprobs, old_token_logprobs, mask)
    # where, not a product: what stands outside of the mask may be infinite, and 0 * inf is no number
    difference = torch.where(mask, token_logprobs - old_token_logprobs, torch.zeros_like(token_logprobs))
    # expm1 keeps the digits that exp(d) - 1 loses for small d
    return (torch.expm1(difference) - difference).sum(1)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of the entries under ``mask``; zero when there are none."""
    _same_shape(x, mask)
    return torch.where(mask, x, torch.zeros_like(x)).sum() / mask.sum().clamp(min=1)


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns): 1 is a perfect critic, 0 one that knows only the mean."""
    _same_shape(values, returns)
    variance = returns.var(correction=0)
    # equal returns leave nothing to explain
    if variance < 1e-12:
        return float("nan")
    return float(1 - (returns - values).var(correction=0) / variance)


def _same_shape(*tensors: Tensor) -> None:
    """Refuse silent broadcasting: (B,) times (B, 1) would become (B, B)."""
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) != 1:
        raise ValueError(f"tensors must have the same shape, but have {[tuple(t.shape) for t in tensors]}")
