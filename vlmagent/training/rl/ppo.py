"""One PPO update: epochs of shuffled minibatches through an engine, everything measured.

    L = L_policy + value_coef * L_value / value_scale^2 - entropy_coef * H        (paper, section 4.4 and C.3)

Knows nothing of environments, prompts or files: it is handed samples, something that scores them, and an engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from vlmagent.config import PpoConfig
from vlmagent.errors import RunFailedError
from vlmagent.models.batching import MicroBatcher, Size
from vlmagent.models.logprob import Scores, split_logprob
from vlmagent.training.distributed.ranks import ALONE, Ranks
from vlmagent.training.engines.accumulate import accumulate
from vlmagent.training.engines.base import Engine
from vlmagent.training.rl.advantages import normalize
from vlmagent.training.rl.buffer import Sample
from vlmagent.training.rl.losses import explained_variance, masked_mean, policy_loss, sequence_kl, value_loss
from vlmagent.types import Generation, Transition, UpdateStats


class Scorer(Protocol):
    """Recomputes an agent's own log-probs and values under its current weights, with gradients."""

    def score(self, transitions: Sequence[Transition]) -> Scores:
        """Scores of the transitions' outputs in their own states."""

    def sizes(self, transitions: Sequence[Transition]) -> Sequence[Size]:
        """Tokens that scoring each transition takes."""


@dataclass(slots=True)
class _Batch:
    """Samples that are learnt from together, and their advantages, float32 (B,), on the CPU."""

    samples: Sequence[Sample]
    advantages: Tensor

    def take(self, index: Sequence[int]) -> _Batch:
        return _Batch([self.samples[i] for i in index], self.advantages[list(index)])


class _Losses(NamedTuple):
    """Of one micro-batch.

    Attributes:
        per_sample: mean over its samples of policy and value loss, with gradients.
        entropies: sum over its output tokens, in nats, with gradients.
        error: the largest change of a token's log-prob since it was sampled.
    """

    per_sample: Tensor
    entropies: Tensor
    error: float


@dataclass(slots=True)
class _Meter:
    """Sums over micro-batches, weighted by their number of samples."""

    # sums and weights apart: means do not depend on how a batch was cut
    totals: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, weight: int, **values: float) -> None:
        for name, value in values.items():
            self.totals[name] = self.totals.get(name, 0.0) + weight * value
            self.counts[name] = self.counts.get(name, 0) + weight

    def merge(self, other: _Meter) -> None:
        """Take over what another meter summed."""
        for name, total in other.totals.items():
            self.totals[name] = self.totals.get(name, 0.0) + total
            self.counts[name] = self.counts.get(name, 0) + other.counts[name]

    def finite(self) -> _Meter:
        """Its numbers that are finite."""
        totals = {name: total for name, total in self.totals.items() if math.isfinite(total)}
        return _Meter(totals, {name: self.counts[name] for name in totals})

    def over(self, ranks: Ranks) -> _Meter:
        """What all processes measured together."""
        if ranks.world == 1:
            return self
        # by name: all processes add up the same columns
        names = sorted(self.totals)
        # one exchange for totals and counts together, (world, 2n)
        sums = ranks.table([self.totals[n] for n in names] + [self.counts[n] for n in names]).sum(0).tolist()
        counts = [int(count) for count in sums[len(names) :]]
        return _Meter(
            dict(zip(names, sums[: len(names)], strict=True)), dict(zip(names, counts, strict=True))
        )

    def mean(self, name: str) -> float:
        return self.totals[name] / self.counts[name] if self.counts.get(name) else float("nan")


class PpoUpdater:
    """Runs updates on one scorer.

    Args:
        scorer: the agent that collected the samples.
        engine: owns the optimiser.
        config: the hyperparameters.
        ranks: the processes that update together; each is handed equally many samples of its own, and a minibatch
            takes equally many from each.
    """

    def __init__(self, scorer: Scorer, engine: Engine, config: PpoConfig, ranks: Ranks = ALONE) -> None:
        self.scorer = scorer
        self.engine = engine
        self.config = config
        self.ranks = ranks
        # per process: together they take config.minibatch_size samples
        self.minibatch_size = config.minibatch_size // ranks.world
        self.batcher = MicroBatcher(config.micro_batch_size, config.max_tokens_per_micro_batch)
        self._skipped_in_a_row = 0

    def update(self, samples: Sequence[Sample], seed: int) -> UpdateStats:
        """Improve the policy on freshly collected samples.

        Args:
            samples: transitions with advantages and returns, all from the current policy.
            seed: of the shuffling; the same in all processes.

        Raises:
            RunFailedError: too many optimiser steps in a row had a loss or gradient that was not finite.
        """
        everything = _Batch(samples, self._advantages(samples))
        # each process shuffles samples of its own
        generator = np.random.default_rng(seed if self.ranks.world == 1 else [seed, self.ranks.rank])
        meter, skipped, first_error = _Meter(), 0, float("nan")
        kls: list[float] = []
        for batch in self._minibatches(everything, generator):
            part, error = self._accumulate(batch)
            part = part.over(self.ranks)
            # only the first minibatch is scored by the weights that sampled it: later a change is what was learnt
            if not kls:
                first_error = float(self.ranks.table([error]).max())
            kls.append(part.mean("kl"))
            # `part` is of all processes, so that all stop at the same minibatch
            if 0 < self.config.target_kl < kls[-1]:
                self.engine.discard()
                break
            skipped += not self._step(part)
            # one bad minibatch must not turn the update's means into NaN
            meter.merge(part.finite())
        per_epoch = -(-len(samples) // self.minibatch_size)  # rounded up: an epoch's last one may be smaller
        values = self._everywhere([_number(sample.transition.value) for sample in samples])
        returns = self._everywhere([sample.return_ for sample in samples])
        return UpdateStats(
            policy_loss=meter.mean("policy_loss"),
            value_loss=meter.mean("value_loss"),
            entropy=meter.mean("entropy"),
            grad_norm=meter.mean("grad_norm"),
            # over the last epoch: how far the finished update has gone
            kl=float(np.mean(kls[-per_epoch:])),
            clip_fraction=meter.mean("clip_fraction"),
            first_ratio_error=first_error,
            explained_variance=explained_variance(values, returns),
            learning_rate=self.engine.learning_rate,
            skipped=skipped,
        )

    def _everywhere(self, numbers: Sequence[float]) -> Tensor:
        """One number for each sample of all processes, float64."""
        return torch.from_numpy(self.ranks.table(numbers)).flatten()

    def _advantages(self, samples: Sequence[Sample]) -> Tensor:
        """This process's advantages, normalised over those of all, float32."""
        every = self._everywhere([sample.advantage for sample in samples]).to(torch.float32)
        if self.config.normalize_advantages:
            every = normalize(every)
        return every.view(self.ranks.world, -1)[self.ranks.rank]

    def _minibatches(self, everything: _Batch, generator: np.random.Generator) -> Iterator[_Batch]:
        """All epochs' minibatches, shuffled anew in each epoch."""
        for _ in range(self.config.epochs):
            order = generator.permutation(len(everything.samples)).tolist()
            for start in range(0, len(order), self.minibatch_size):
                yield everything.take(order[start : start + self.minibatch_size])

    def _accumulate(self, batch: _Batch) -> tuple[_Meter, float]:
        """Gradients of one minibatch; what it measured, and the largest |new - old| token log-prob."""
        size, tokens = len(batch.samples), self._tokens(batch)

        def go(group: Sequence[int], counts: bool) -> tuple[_Meter, float]:
            measured = _Meter()
            # 0 for a pass that only keeps the others company (see `accumulate`)
            share = len(group) / size if counts else 0.0
            part = self._loss(batch.take(group), measured)
            # each mean is taken over the whole minibatch, so that it does not matter how memory cuts it: of losses per
            # sample by their number, of the entropy, which is one per token, by tokens
            loss = part.per_sample * share
            if self.config.entropy_coef:
                loss = loss - self.config.entropy_coef * part.entropies * (float(counts) / tokens)
            self.engine.backward(loss)
            return measured, part.error

        parts = accumulate(self.engine, self.ranks, self.batcher, self._sizes(batch), go)
        meter = _Meter()
        for measured, _ in parts:
            meter.merge(measured)
        return meter, max(error for _, error in parts)

    def _tokens(self, batch: _Batch) -> float:
        """Output tokens of the minibatch per process: gradients of several are averaged."""
        own = sum(len(_generation(sample.transition).token_ids) for sample in batch.samples)
        if not self.config.entropy_coef:
            return float(own)  # nobody asks: no need to meet the others
        return float(self.ranks.table([own]).mean())

    def _sizes(self, batch: _Batch) -> Sequence[Size]:
        """Tokens by sample; not asked for when only the number of samples counts."""
        if not self.batcher.max_tokens:
            return [Size(0, 0)] * len(batch.samples)
        return self.scorer.sizes([sample.transition for sample in batch.samples])

    def _step(self, meter: _Meter) -> bool:
        """Take the optimiser's step unless the loss or the gradient is not finite; whether it was taken."""
        # asked of means over all processes: all of them step, or none does
        finite = math.isfinite(meter.mean("policy_loss")) and math.isfinite(meter.mean("value_loss"))
        if finite:
            norm = self.engine.step()
            finite = math.isfinite(norm)
            if finite:
                meter.add(1, grad_norm=norm)
        else:
            self.engine.discard()
        self._count_skips(finite)
        return finite

    def _loss(self, batch: _Batch, meter: _Meter) -> _Losses:
        """What one micro-batch adds to the loss; what else is of interest goes to ``meter``."""
        scores = self.scorer.score([sample.transition for sample in batch.samples])
        device = scores.values.device
        generations = [_generation(sample.transition) for sample in batch.samples]
        # (B, L), as wide as the longest output of this micro-batch
        old_tokens = pad([g.token_logprobs for g in generations], scores.mask.shape[1]).to(device)
        action_start = torch.tensor([g.action_start for g in generations], device=device)
        weight = self.config.thought_weight
        # both under the same mask and split: with unchanged weights the ratio is 1 but for rounding
        new = split_logprob(scores.token_logprobs, scores.mask, action_start, weight)
        old = split_logprob(old_tokens, scores.mask, action_start, weight)
        policy = policy_loss(new.weighted, old.weighted, batch.advantages.to(device), self.config.clip)
        # in units of value_scale, so that one learning rate suits returns of every size
        unit = self.config.value_scale
        old_values = [_number(sample.transition.value) / unit for sample in batch.samples]
        critic = value_loss(
            scores.values / unit,
            torch.tensor([s.return_ / unit for s in batch.samples], dtype=torch.float32, device=device),
            torch.tensor(old_values, dtype=torch.float32, device=device),
            self.config.value_clip,
        )
        entropies = torch.where(scores.mask, scores.entropies, torch.zeros_like(scores.entropies)).sum()
        # nothing below has gradients: it is only measured
        with torch.no_grad():
            size = len(batch.samples)
            kl = sequence_kl(scores.token_logprobs, old_tokens, scores.mask).mean()
            meter.add(
                size,
                kl=float(kl),
                policy_loss=float(policy.loss),
                value_loss=float(critic),
                clip_fraction=float(policy.clip_fraction),
            )
            # by tokens, where the means above are by samples
            meter.add(int(scores.mask.sum()), entropy=float(masked_mean(scores.entropies, scores.mask)))
            change = torch.where(
                scores.mask, scores.token_logprobs - old_tokens, torch.zeros_like(old_tokens)
            )
        per_sample = policy.loss + self.config.value_coef * critic
        return _Losses(per_sample, entropies, float(change.abs().max()))

    def _count_skips(self, finite: bool) -> None:
        self._skipped_in_a_row = 0 if finite else self._skipped_in_a_row + 1
        if self._skipped_in_a_row > self.config.max_skipped:
            raise RunFailedError(
                f"{self._skipped_in_a_row} optimiser steps in a row had a loss or gradient that was not finite. "
                "The policy has diverged: lower ppo.lr or ppo.max_grad_norm and resume from an earlier checkpoint."
            )


def pad(rows: Sequence[np.ndarray], width: int) -> Tensor:
    """Rows of different lengths as one float32 table (B, width), zero at the end."""
    table = torch.zeros((len(rows), width), dtype=torch.float32)
    for index, row in enumerate(rows):
        table[index, : len(row)] = torch.from_numpy(np.ascontiguousarray(row))
    return table


def _generation(transition: Transition) -> Generation:
    generation = transition.decision.generation
    if generation is None:
        raise ValueError(f"transition {transition.id} has no tokens: its agent cannot be trained")
    return generation


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
