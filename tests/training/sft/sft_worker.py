"""Run as one of several processes: supervised fine-tuning shared by them beside one process alone, stage by stage.

Takes a folder that all see, then ZeRO stages. Prints ``equal STAGE`` in the first process for each that agreed, and
ends with a process that runs out of memory where it cannot be helped.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.conftest import SMALL
from vlmagent.config import Config, SftConfig
from vlmagent.errors import RunFailedError
from vlmagent.models.hf import build_policy
from vlmagent.models.policy import Policy
from vlmagent.paths import Run
from vlmagent.tasks.base import Task
from vlmagent.tasks.registry import task_from_config
from vlmagent.training.checkpoint import load_sft_state
from vlmagent.training.distributed.group import join
from vlmagent.training.distributed.ranks import ALONE, Ranks
from vlmagent.training.distributed.zero_config import read_zero_config
from vlmagent.training.sft import samples as sft_samples
from vlmagent.training.sft import sft
from vlmagent.training.sft.loss import response_scores
from vlmagent.training.sft.samples import corpus, thinned_samples
from vlmagent.training.sft.sft import SftInterruptedError, SftProgress, train_sft
from vlmagent.types import SftSample

STOP_AFTER = 3
RATE = 5e-5
"""Small enough that Adam does not turn the rounding errors of gradients that are truly zero into steps."""


def make_config(folder: Path, stage: int) -> Config:
    """Two stages, the first without pictures; the last batch is a single sample, which one process alone has."""
    settings = read_zero_config(f"zero{stage}")
    if stage == 3:  # divide small parameters too
        settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    file = folder / f"zero{stage}-{dist.get_rank()}.json"
    file.write_text(json.dumps(settings))
    samples = {"language_samples": 12, "samples": 25, "batch_size": 8, "micro_batch_size": 3}
    tuning = {**samples, "language_lr": RATE, "language_prompts": 0.2, "lr": RATE}
    return Config.model_validate({**SMALL, "sft": tuning, "distributed": {"deepspeed": str(file)}})


Tuned = tuple[Policy, list[SftProgress]]


class Case:
    """One ZeRO stage, or (by itself) one process alone."""

    def __init__(self, folder: Path, stage: int, ranks: Ranks) -> None:
        self.stage, self.ranks = stage, ranks
        self.config = make_config(folder, stage)
        self.task = task_from_config(self.config)

    def tune(self, *, begun: Run | None = None, stop: Run | None = None) -> Tuned:
        """Fine-tune.

        Args:
            begun: where an interrupted one is to be continued.
            stop: the last process asks to stop after some steps, and what was reached is saved here.
        """
        fresh = build_policy(self.config.model, corpus(self.task), 0), None
        policy, state = load_sft_state(begun, self.config.model, 0) if begun else fresh
        seen: list[SftProgress] = []

        def should_stop() -> bool:
            asked = stop is not None and self.ranks.rank == self.ranks.world - 1
            return asked and len(seen) == STOP_AFTER

        curve = train_sft(
            policy, self.config, self.task, seen.append, should_stop, run=stop, state=state, ranks=self.ranks
        )
        return policy, curve

    def interrupt(self, run: Run) -> None:
        with pytest.raises(SftInterruptedError):
            self.tune(stop=run)
        found = load_sft_state(run, self.config.model, 0)
        assert found is not None
        assert (found[1].stage, found[1].step, len(found[1].curve)) == (3, 1, STOP_AFTER)

    def check(self, folder: Path, alone: Case, expected: Tuned) -> None:
        """Straight through, where possible with too little memory; begun by one process; and continued by one."""
        with no_room_in(1 if self.stage < 2 else None):
            assert_equal(self.tune(), expected)
        assert_equal(self.tune(begun=Run(folder / "alone")), expected)
        stopped = Run(folder / f"stage-{self.stage}")
        self.interrupt(stopped)
        assert_equal(alone.tune(begun=stopped), expected)
        dist.barrier()

    def draw_differently(self) -> None:
        """Samples that do not follow from the seed are noticed by all."""

        def samples(task: Task, config: SftConfig, seed: int, errs: float = 0.0) -> Iterator[SftSample]:
            return thinned_samples(task, config, seed + self.ranks.rank, errs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sft_samples, "thinned_samples", samples)
            with pytest.raises(RunFailedError, match=r"drew different samples.*'numberline'"):
                self.tune()

    def fail(self) -> None:
        """The second process says what to set; the first one waits for it and is told that it is gone."""
        said = RunFailedError if self.ranks.rank == 1 else RuntimeError
        expected = r"^Memory ran out .* 3 samples.*--set sft\.micro_batch_size=1 .*--deepspeed zero1"
        with no_room_in(1), pytest.raises(said, match=expected if self.ranks.rank == 1 else None):
            self.tune()
        os._exit(0)


@contextmanager
def no_room_in(rank: int | None) -> Iterator[None]:
    """While open, one process, or none, cannot go back with three samples."""

    def score(policy: Policy, batch: list) -> object:
        scores = response_scores(policy, batch)
        if dist.get_rank() == rank and len(batch) > 2:
            scores.token_logprobs.register_hook(out_of_memory)
        return scores

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sft, "response_scores", score)
        yield


def out_of_memory(_gradient: torch.Tensor) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def assert_equal(ours: Tuned, theirs: Tuned) -> None:
    for one, two in zip(ours[0].parameters(), theirs[0].parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=0)
        assert one.requires_grad == two.requires_grad
    assert [(p.step, p.samples) for p in ours[1]] == [(p.step, p.samples) for p in theirs[1]]
    for one, two in zip(ours[1], theirs[1], strict=True):
        assert one.loss == pytest.approx(two.loss, abs=1e-5)
        assert one.learning_rate == pytest.approx(two.learning_rate)


if __name__ == "__main__":
    torch.set_num_threads(1)
    joined = join("cpu")
    place = Path(sys.argv[1])
    single = Case(place, 0, ALONE)
    reference = single.tune()
    start = build_policy(single.config.model, corpus(single.task), 0)
    moved = zip(start.parameters(), reference[0].parameters(), strict=True)
    assert max(float((one - two).detach().abs().max()) for one, two in moved) > 1e-4
    if joined.rank == 0:
        single.interrupt(Run(place / "alone"))
    dist.barrier()
    for name in sys.argv[2:]:
        Case(place, int(name), joined).check(place, single, reference)
        if joined.rank == 0:
            print("equal", name, flush=True)
    last = Case(place, 2, joined)
    last.draw_differently()
    last.fail()
