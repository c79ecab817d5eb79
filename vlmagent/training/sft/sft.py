"""Supervised fine-tuning on solver samples, the start of every RL run (paper, appendix D).

The result is cached by the content of everything it depends on, so that a second run skips it. Knows nothing of
runs or databases: progress goes to a callback.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import nn

from vlmagent.config import Config
from vlmagent.errors import RunFailedError
from vlmagent.models.batching import MicroBatcher, Size
from vlmagent.models.logprob import Scores
from vlmagent.models.lora import vision_parameters
from vlmagent.models.policy import Policy
from vlmagent.paths import Run
from vlmagent.seeding import derive
from vlmagent.tasks.base import Task
from vlmagent.training.checkpoint import SftState, save_sft_state
from vlmagent.training.distributed.ranks import ALONE, Ranks, anyone
from vlmagent.training.engines.accumulate import accumulate
from vlmagent.training.engines.make import make_engine
from vlmagent.training.schedule import warmup_cosine
from vlmagent.training.sft.loss import response_scores, split_loss, text_scores
from vlmagent.training.sft.samples import Stage, stages
from vlmagent.types import SftSample

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SftProgress:
    """State after one optimiser step. ``loss`` is the mean negative log-prob per response token, in nats."""

    step: int
    samples: int
    loss: float
    learning_rate: float


OnProgress = Callable[[SftProgress], None]


class SftInterruptedError(Exception):
    """The caller asked to stop."""


def train_sft(
    policy: Policy,
    config: Config,
    task: Task,
    on_progress: OnProgress,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    run: Run | None = None,
    state: SftState | None = None,
    ranks: Ranks = ALONE,
) -> list[SftProgress]:
    """Fine-tune on exactly the config's numbers of samples, stage by stage, loss on the response only.

    Args:
        run: folder to save progress in when stopped, and every ``checkpoint_every`` steps; None saves nothing.
        state: where to continue.
        ranks: the processes that share each batch. All draw the same samples, so that their number does not change
            what is learnt (but for the masks of dropout).

    Raises:
        SftInterruptedError: ``should_stop`` answered True between two steps in one of the processes.
    """
    loop = _Loop(policy, config, on_progress, should_stop, run, state, ranks)
    # dropout is on only here: RL scores under the distribution that it samples from
    policy.train()
    for index, stage in enumerate(stages(task, config.sft, config.seed)):
        loop.run_stage(index, stage)
    policy.eval()
    loop.close()
    return loop.curve


class _Loop:
    """A fine-tuning as it runs: steps, accumulates, saves, continues."""

    def __init__(
        self,
        policy: Policy,
        config: Config,
        on_progress: OnProgress,
        should_stop: Callable[[], bool],
        run: Run | None,
        state: SftState | None,
        ranks: Ranks,
    ) -> None:
        self.policy, self.config, self.sft, self.ranks = policy, config, config.sft, ranks
        self.on_progress, self.should_stop = on_progress, should_stop
        self.run, self.state = run, state
        self.curve = [SftProgress(**point) for point in state.curve] if state else []
        self.batcher = MicroBatcher(config.sft.micro_batch_size or config.sft.batch_size, section="sft")
        self.before = 0  # samples of the stages that are done
        self.groups = _parameter_groups(policy, config.sft.lr)
        self.engine, self.score = make_engine(
            config.distributed,
            ranks,
            policy,
            self._scores,
            self.groups,
            max_grad_norm=config.sft.max_grad_norm,
            micro_batch_size=self.batcher.max_rows,
            weight_decay=config.sft.weight_decay,
        )

    def run_stage(self, index: int, stage: Stage) -> None:
        """All steps of one stage, or those that are left of it."""
        sft, size = self.sft, self.sft.batch_size
        self.engine.restart(stage.lr)
        steps = -(-stage.samples // size)  # rounded up
        first = self._continued(index, stage, steps)
        # exactly as many as the config says: the last batch may be smaller
        batches = (
            list(islice(stage.stream, min(size, stage.samples - n * size))) for n in range(first, steps)
        )
        for step, batch in enumerate(ahead(batches), first):
            self._pause(index, step, fresh=step == first)
            self.engine.set_lr_factor(warmup_cosine(step, steps, sft.warmup, sft.final_lr_ratio))
            loss = self._accumulate(batch, (index, step))
            self.engine.step()
            done = self.before + min((step + 1) * size, stage.samples)
            self.curve.append(SftProgress(len(self.curve) + 1, done, loss, self.engine.learning_rate))
            self.on_progress(self.curve[-1])
        self.before += stage.samples

    def close(self) -> None:
        """Leave the policy with all that learns able to learn."""
        self._freeze_vision(False)
        self.engine.close()

    def _prompt_weight(self, batch: Sequence[SftSample]) -> float:
        # a stage has pictures in all its samples or in none, and so has a batch
        return self.sft.language_prompts if batch[0].image is None else 0.0

    def _scores(self, batch: Sequence[SftSample]) -> Scores:
        """Responses in their states, or the prompts before them too where they teach language."""
        return (text_scores if self._prompt_weight(batch) else response_scores)(self.policy, batch)

    def _freeze_vision(self, frozen: bool) -> None:
        if len(self.groups) > 1:
            self.engine.freeze(0, frozen)

    def _accumulate(self, batch: list[SftSample], when: tuple[int, int]) -> float:
        """Gradients of the mean over a batch's response tokens, whoever has them; returns that loss.

        Args:
            batch: of all processes; each takes its share of it.
            when: stage and step, for the masks of dropout.
        """
        rank, world = self.ranks.rank, self.ranks.world
        lengths = [len(self.policy.tokenize_output(sample.response)) for sample in batch]
        own, tokens = batch[rank::world], lengths[rank::world]
        if not own:  # the last batch may be smaller than the number of processes
            own, tokens = batch[:1], [0]

        def go(group: Sequence[int], counts: bool) -> float:
            # by tokens, of all processes: the loss is a mean over the whole batch's tokens
            share = sum(tokens[index] for index in group) / sum(lengths) if counts else 0.0
            responses, prompts = split_loss(
                self.score([own[index] for index in group]), [tokens[index] for index in group]
            )
            # engines average over the processes, which undoes `world`
            self.engine.backward((responses + self._prompt_weight(batch) * prompts) * (share * world))
            return float(responses.detach()) * share * world

        # without pictures nothing there gets a gradient, but ZeRO would step it with zeros: weight decay goes on
        self._freeze_vision(batch[0].image is None)
        seed = derive(self.config.seed, "dropout", *when, *([rank] if world > 1 else []))
        with dropout_seed(self.policy, seed):
            # prompts count as 0: only the number of samples limits a micro-batch here
            parts = accumulate(self.engine, self.ranks, self.batcher, [Size(0, n) for n in tokens], go)
        # one exchange for the loss and the check that all drew the same batch; 32 bits are exact in float64
        table = self.ranks.table([sum(parts), _fingerprint(batch)])
        if len(set(table[:, 1])) > 1:
            raise RunFailedError(
                f"The processes drew different samples, which cannot be shared: those of the task "
                f"'{self.config.task}' do not follow from the seed alone. Fine-tune in one process."
            )
        return float(table[:, 0].mean())

    def _continued(self, index: int, stage: Stage, steps: int) -> int:
        """The step of a stage to go on with; the samples before it are passed over."""
        if self.state is None or index > self.state.stage:
            return 0
        if index < self.state.stage:
            return steps
        passed = min(self.state.step * self.sft.batch_size, stage.samples)
        # the whole stream up to there is drawn and thrown away: generators cannot jump
        next(islice(stage.stream, passed, passed), None)
        self.engine.load_state_dict(self.state.optimizer)
        return self.state.step

    def _pause(self, index: int, step: int, *, fresh: bool) -> None:
        """Save when it is time to, or when asked to stop; ``fresh`` says that nothing happened since."""
        stop, every = anyone(self.ranks, self.should_stop()), self.sft.checkpoint_every
        due = stop or (every > 0 and len(self.curve) % every == 0)
        # what was just loaded need not be written again
        if self.run and due and not fresh:
            points = [asdict(point) for point in self.curve]
            state = SftState(index, step, points, self.engine.state_dict())
            with self.engine.whole():
                if self.ranks.rank == 0:
                    save_sft_state(self.run, self.policy, state)
            self.ranks.share(None)  # nobody goes on before it is there
        if stop:
            raise SftInterruptedError


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made in a thread while the one before it is used."""
    with ThreadPoolExecutor(1, "samples") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _fingerprint(batch: Sequence[SftSample]) -> int:
    """A number that tells batches apart."""
    return zlib.crc32("\0".join(f"{sample.prompt}\0{sample.response}" for sample in batch).encode())


def _parameter_groups(policy: Policy, lr: float) -> list[dict[str, Any]]:
    """What learns from pictures alone, if anything does, and the rest: without pictures weight decay would go on."""
    # by identity: tensors compare number by number
    seeing = {id(parameter) for parameter in vision_parameters(policy.model)}
    trained = policy.trained_parameters()
    vision = [parameter for parameter in trained if id(parameter) in seeing]
    others = [parameter for parameter in trained if id(parameter) not in seeing]
    return [{"params": part, "lr": lr} for part in (vision, others) if part]


@contextmanager
def dropout_seed(policy: Policy, seed: int) -> Iterator[None]:
    """Draw the masks of dropout from ``seed``, so that a continued run equals one left alone."""
    # without dropout nothing is drawn
    if not any(isinstance(module, nn.Dropout) and module.p > 0 for module in policy.modules()):
        yield
        return
    with torch.random.fork_rng(devices=[policy.device] if policy.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
