"""Supervised fine-tuning on solver samples, the start of every RL run (paper, appendix D).

The result is cached by the content of everything it depends on, so that a second run skips it. Knows nothing of
runs or databases: progress goes to a callback.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlmagent import paths
from vlmagent.checkpoint import SftState, load_sft_state, remove_sft_state, save_sft_state
from vlmagent.config import Config
from vlmagent.engines.accumulate import accumulate
from vlmagent.engines.make import make_engine
from vlmagent.errors import RunFailedError
from vlmagent.models.batching import MicroBatcher, Size
from vlmagent.models.device import choose_device
from vlmagent.models.hf import build_policy, load_policy, save_policy
from vlmagent.models.locate import locate
from vlmagent.models.logprob import Scores
from vlmagent.models.lora import vision_parameters
from vlmagent.models.policy import Policy
from vlmagent.ranks import ALONE, Ranks, anyone
from vlmagent.rl.ppo import cosine_factor
from vlmagent.seeding import derive
from vlmagent.sft_samples import Stage, corpus, stages
from vlmagent.tasks.base import Task
from vlmagent.types import SftSample

VERSION = 2
"""Raise when the procedure changes, so that older cached results are not taken for it."""
CURVE = "sft_curve.json"
NO_EFFECT = {"micro_batch_size", "checkpoint_every"}
"""Fields of the config that do not change the result."""
TRAINED_AS = {"lora", "train_vision", "tiles", "dtype", "quantization"}
"""Fields of the config that change what comes out of a checkpoint."""


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


def cache_key(config: Config, texts: list[str]) -> str:
    """Digest of all that the SFT result depends on."""
    parts = {
        "version": VERSION,
        "task": [config.task, config.cot, config.rule_set, config.env],
        "model": _model_identity(config),
        "sft": config.sft.model_dump(mode="json", exclude=NO_EFFECT),
        "seed": config.seed,
        "texts": hashlib.sha256("\0".join(texts).encode()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _model_identity(config: Config) -> object:
    if config.model.name == "tiny":
        return config.model.tiny.model_dump(mode="json")
    folder = locate(config.model.name)
    return [
        str(folder),
        sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.glob("*.safetensors")),
        config.model.model_dump(mode="json", include=TRAINED_AS),
    ]


def sft_policy(
    config: Config,
    task: Task,
    on_progress: OnProgress,
    should_stop: Callable[[], bool] = lambda: False,
    run: Path | None = None,
    ranks: Ranks = ALONE,
) -> tuple[Policy, bool]:
    """The policy that RL starts from: built, fine-tuned, or taken from the cache.

    Args:
        run: folder to save progress in, and to continue from; None keeps nothing of an interrupted fine-tuning.
        ranks: the processes that fine-tune together. Cache and ``run`` are the first one's to write.

    Returns:
        The policy, in eval mode with a fresh value head, and whether it came from the cache; from there only the first
        process has it, the others the policy as it was built.
    """
    with_captions = bool(config.sft.caption_samples or config.sft.caption_share)
    texts = corpus(task, with_captions, config.sft.corpus_samples)
    if config.sft.all_samples == 0:
        return build_policy(config.model, texts, config.seed), False
    folder = paths.cache_dir() / "sft" / cache_key(config, texts)
    if ranks.share((folder / CURVE).is_file()):
        if ranks.rank:
            return build_policy(config.model, texts, config.seed), True
        for point in json.loads((folder / CURVE).read_text()):
            on_progress(SftProgress(**point))
        return load_policy(folder, config.model, config.seed), True
    saved = load_sft_state(run, config.model, config.seed) if run else None
    policy, state = saved or (build_policy(config.model, texts, config.seed), None)
    policy.to(choose_device(config.model.device))
    curve = train_sft(policy, config, task, on_progress, should_stop, run=run, state=state, ranks=ranks)
    if ranks.rank == 0:
        _store_in_cache(policy, curve, folder)
        if run:
            remove_sft_state(run)
    return policy, False


def _store_in_cache(policy: Policy, curve: list[SftProgress], folder: Path) -> None:
    """Write the result under a temporary name and rename it; a second process that was faster wins.

    A cache that cannot be written costs the next run its time, never this one its result.
    """
    temporary = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_policy(policy, temporary, value_head=False)
        (temporary / CURVE).write_text(json.dumps([asdict(point) for point in curve]))
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not folder.exists():
            warnings.warn(f"The supervised start is not kept for later runs: {error}", stacklevel=2)


def train_sft(
    policy: Policy,
    config: Config,
    task: Task,
    on_progress: OnProgress,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    run: Path | None = None,
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
        run: Path | None,
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
        steps = -(-stage.samples // size)
        first = self._continued(index, stage, steps)
        for step in range(first, steps):
            self._pause(index, step, fresh=step == first)
            self.engine.set_lr_factor(warmup_cosine(step, steps, sft.warmup, sft.final_lr_ratio))
            batch = list(islice(stage.stream, min(size, stage.samples - step * size)))
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
            share = sum(tokens[index] for index in group) / sum(lengths) if counts else 0.0
            responses, prompts = split_loss(
                self.score([own[index] for index in group]), [tokens[index] for index in group]
            )
            self.engine.backward((responses + self._prompt_weight(batch) * prompts) * (share * world))
            return float(responses.detach()) * share * world

        self._freeze_vision(batch[0].image is None)
        seed = derive(self.config.seed, "dropout", *when, *([rank] if world > 1 else []))
        with dropout_seed(self.policy, seed):
            parts = accumulate(self.engine, self.ranks, self.batcher, [Size(0, n) for n in tokens], go)
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
        next(islice(stage.stream, passed, passed), None)
        self.engine.load_state_dict(self.state.optimizer)
        return self.state.step

    def _pause(self, index: int, step: int, *, fresh: bool) -> None:
        """Save when it is time to, or when asked to stop; ``fresh`` says that nothing happened since."""
        stop, every = anyone(self.ranks, self.should_stop()), self.sft.checkpoint_every
        due = stop or (every > 0 and len(self.curve) % every == 0)
        if self.run and due and not fresh:
            points = [asdict(point) for point in self.curve]
            state = SftState(index, step, points, self.engine.state_dict())
            with self.engine.whole():
                if self.ranks.rank == 0:
                    save_sft_state(self.run, self.policy, state)
            self.ranks.share(None)  # nobody goes on before it is there
        if stop:
            raise SftInterruptedError


def _fingerprint(batch: Sequence[SftSample]) -> int:
    """A number that tells batches apart."""
    return zlib.crc32("\0".join(f"{sample.prompt}\0{sample.response}" for sample in batch).encode())


def _parameter_groups(policy: Policy, lr: float) -> list[dict[str, Any]]:
    """What learns from pictures alone, if anything does, and the rest: without pictures weight decay would go on."""
    seeing = {id(parameter) for parameter in vision_parameters(policy.model)}
    trained = policy.trained_parameters()
    vision = [parameter for parameter in trained if id(parameter) in seeing]
    others = [parameter for parameter in trained if id(parameter) not in seeing]
    return [{"params": part, "lr": lr} for part in (vision, others) if part]


@contextmanager
def dropout_seed(policy: Policy, seed: int) -> Iterator[None]:
    """Draw the masks of dropout from ``seed``, so that a continued run equals one left alone."""
    if not any(isinstance(module, nn.Dropout) and module.p > 0 for module in policy.modules()):
        yield
        return
    with torch.random.fork_rng(devices=[policy.device] if policy.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def response_loss(policy: Policy, batch: list[SftSample]) -> torch.Tensor:
    """Mean negative log-prob of the response tokens, the end token included, in nats per token."""
    scores = response_scores(policy, batch)
    return -scores.token_logprobs.sum() / scores.mask.sum()


def response_scores(policy: Policy, batch: Sequence[SftSample]) -> Scores:
    """The responses scored in their states, with gradients."""
    return policy.score(
        [policy.encode(sample.prompt, sample.image) for sample in batch],
        [policy.tokenize_output(sample.response) for sample in batch],
        temperature=1.0,
    )


def text_scores(policy: Policy, batch: Sequence[SftSample]) -> Scores:
    """Prompts without pictures and the responses to them, scored from the second token on, with gradients.

    Tokens that the policy never writes (those that open a turn) are masked.
    """
    states = [policy.encode(sample.prompt, None) for sample in batch]
    begins = [
        replace(
            state, input_ids=state.input_ids[:1], token_types={k: v[:1] for k, v in state.token_types.items()}
        )
        for state in states
    ]
    texts = [
        [*state.input_ids[1:].tolist(), *policy.tokenize_output(sample.response)]
        for state, sample in zip(states, batch, strict=True)
    ]
    scores = policy.score(begins, texts, temperature=1.0)
    written = scores.mask & scores.token_logprobs.isfinite()
    return replace(scores, token_logprobs=scores.token_logprobs.where(written, 0.0), mask=written)


def split_loss(scores: Scores, lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-probs in nats of the responses' tokens and of the prompts' scored before them, both divided by the
    number of the responses' tokens, so that the parts of a batch add up.

    Args:
        lengths: tokens of each response, the last of its row.
    """
    columns = torch.arange(scores.mask.shape[1], device=scores.mask.device)
    ends = torch.where(scores.mask, columns + 1, 0).amax(1, keepdim=True)  # (B, 1)
    response = columns >= ends - torch.tensor(lengths, device=columns.device).unsqueeze(1)
    losses = -scores.token_logprobs / max(sum(lengths), 1)  # zero outside of the mask
    return losses[response].sum(), losses[~response].sum()


def warmup_cosine(step: int, total: int, warmup: float, final_ratio: float) -> float:
    """Learning-rate factor of a step: linear up over the share ``warmup`` of all steps, then a cosine down."""
    rising = warmup * total
    if step < rising:
        return (step + 1) / rising
    return cosine_factor(int(step - rising), max(int(total - rising), 1), final_ratio)
