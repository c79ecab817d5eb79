"""Supervised fine-tuning on solver samples, the start of every RL run (paper, appendix D).

The result is cached by the content of everything it depends on, so that a second run skips it. Knows nothing of
runs or databases: progress goes to a callback.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from vlmagent import paths
from vlmagent.config import Config, SftConfig
from vlmagent.engines.local import LocalEngine
from vlmagent.errors import UsageError
from vlmagent.models.hf import build_policy, load_policy, save_policy
from vlmagent.models.policy import Policy
from vlmagent.rl.ppo import cosine_factor
from vlmagent.seeding import derive, sft_episode_seed
from vlmagent.tasks.base import State, Task
from vlmagent.types import ImageArray, SftSample

VERSION = 1
"""Raise when the procedure changes, so that older cached results are not taken for it."""
CORPUS_SAMPLES = 2000
CAPTION_PROMPT = "What does the picture show?"
CURVE = "sft_curve.json"


@dataclass(frozen=True, slots=True)
class SftProgress:
    """State after one optimiser step. ``loss`` is the mean negative log-prob per response token, in nats."""

    step: int
    samples: int
    loss: float
    learning_rate: float


OnProgress = Callable[[SftProgress], None]


class SftInterruptedError(Exception):
    """The caller asked to stop; nothing was saved."""


def _expert_states(task: Task, seed: int) -> Iterator[tuple[ImageArray, State, str]]:
    """Endless states of the expert's own episodes, each with the action that it takes there."""
    env = task.make_sft_env()
    episode = 0
    try:
        while True:
            image, state = env.reset(seed=sft_episode_seed(seed, episode))
            rng = np.random.default_rng(derive(seed, "expert", episode))
            episode += 1
            done = False
            while not done:
                action = task.expert_action(state, rng)
                yield image, state, action
                observation = task.observe(image, state)
                image, _, terminated, truncated, state = env.step(task.env_action(action, observation))
                done = terminated or truncated
    finally:
        env.close()


def solver_samples(task: Task, seed: int) -> Iterator[SftSample]:
    """Endless samples from the expert's own episodes, one per state it meets."""
    for image, state, action in _expert_states(task, seed):
        prompt = task.prompt(task.observe(image, state))
        yield SftSample(image, prompt, task.expert_response(state, action))


def captions(task: Task, seed: int) -> Iterator[SftSample]:
    """Endless captions of the states that the expert meets.

    Raises:
        UsageError: the task has no captions.
    """
    for image, state, _ in _expert_states(task, seed):
        caption = task.caption(state)
        if caption is None:
            raise UsageError(
                f"The task '{task.name}' has no captions. Use sft.caption_samples=0 and sft.caption_share=0."
            )
        yield SftSample(image, CAPTION_PROMPT, caption)


def mixed(
    samples: Iterator[SftSample], others: Iterator[SftSample], share: float, seed: int
) -> Iterator[SftSample]:
    """``samples`` with a random ``share`` of ``others`` among them."""
    rng = np.random.default_rng(derive(seed, "mixture"))
    while True:
        yield next(others if rng.random() < share else samples)


def corpus(task: Task, with_captions: bool = False) -> list[str]:
    """The task's texts, for the tiny model's tokenizer: the same for every seed of a run."""
    samples = list(islice(solver_samples(task, 0), CORPUS_SAMPLES))
    if with_captions:
        samples += islice(captions(task, 0), CORPUS_SAMPLES)
    prompts = dict.fromkeys(f"USER: {s.prompt}\nASSISTANT: " for s in samples)
    responses = dict.fromkeys(s.response for s in samples)
    # twice, so that a text that occurs once is merged too (the trainer ignores pairs seen a single time)
    return [*prompts, *responses] * 2


def cache_key(config: Config, texts: list[str]) -> str:
    """Digest of all that the SFT result depends on."""
    parts = {
        "version": VERSION,
        "task": [config.task, config.cot, config.rule_set, config.env],
        "model": _model_identity(config),
        "sft": config.sft.model_dump(mode="json"),
        "seed": config.seed,
        "texts": hashlib.sha256("\0".join(texts).encode()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _model_identity(config: Config) -> object:
    if config.model.name == "tiny":
        return config.model.tiny.model_dump(mode="json")
    folder = Path(config.model.name).resolve()
    return [
        str(folder),
        sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.glob("*.safetensors")),
    ]


def sft_policy(
    config: Config, task: Task, on_progress: OnProgress, should_stop: Callable[[], bool] = lambda: False
) -> tuple[Policy, bool]:
    """The policy that RL starts from: built, fine-tuned, or taken from the cache.

    Returns:
        The policy, in eval mode with a fresh value head, and whether it came from the cache.
    """
    texts = corpus(task, bool(config.sft.caption_samples or config.sft.caption_share))
    if config.sft.samples + config.sft.language_samples + config.sft.caption_samples == 0:
        return build_policy(config.model, texts, config.seed), False
    folder = paths.cache_dir() / "sft" / cache_key(config, texts)
    if (folder / CURVE).is_file():
        for point in json.loads((folder / CURVE).read_text()):
            on_progress(SftProgress(**point))
        return load_policy(folder, config.model, config.seed), True
    policy = build_policy(config.model, texts, config.seed)
    curve = train_sft(policy, config, task, on_progress, should_stop)
    _store_in_cache(policy, curve, folder)
    return policy, False


def _store_in_cache(policy: Policy, curve: list[SftProgress], folder: Path) -> None:
    """Write the result under a temporary name and rename it; a second process that was faster wins."""
    temporary = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_policy(policy, temporary, value_head=False)
    (temporary / CURVE).write_text(json.dumps([asdict(point) for point in curve]))
    try:
        temporary.rename(folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)


def train_sft(
    policy: Policy,
    config: Config,
    task: Task,
    on_progress: OnProgress,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[SftProgress]:
    """Fine-tune on exactly the config's numbers of samples, stage by stage, loss on the response only.

    Raises:
        SftInterruptedError: ``should_stop`` answered True between two steps.
    """
    sft = config.sft
    curve: list[SftProgress] = []
    policy.train()
    for stage in _stages(task, sft, config.seed):
        engine = LocalEngine(
            [{"params": list(policy.backbone.parameters()), "lr": stage.lr}],
            sft.max_grad_norm,
            sft.weight_decay,
        )
        steps, before = -(-stage.samples // sft.batch_size), curve[-1].samples if curve else 0
        for step in range(steps):
            if should_stop():
                raise SftInterruptedError
            engine.set_lr_factor(warmup_cosine(step, steps, sft.warmup, sft.final_lr_ratio))
            batch = list(islice(stage.stream, min(sft.batch_size, stage.samples - step * sft.batch_size)))
            loss = response_loss(policy, batch)
            engine.backward(loss)
            engine.step()
            done = before + min((step + 1) * sft.batch_size, stage.samples)
            curve.append(SftProgress(len(curve) + 1, done, float(loss.detach()), engine.learning_rate))
            on_progress(curve[-1])
    policy.eval()
    return curve


def _stages(task: Task, sft: SftConfig, seed: int) -> list[Stage]:
    """Language, perception, and the task itself, in this order."""
    language = blank_pictures(solver_samples(task, derive(seed, "language")))
    perception = captions(task, derive(seed, "captions"))
    real = solver_samples(task, seed)
    if sft.caption_share:
        real = mixed(real, captions(task, derive(seed, "mixed captions")), sft.caption_share, seed)
    return [
        Stage(language, sft.language_samples, sft.language_lr),
        Stage(perception, sft.caption_samples, sft.caption_lr),
        Stage(real, sft.samples, sft.lr),
    ]


@dataclass(frozen=True, slots=True)
class Stage:
    """Part of the fine-tuning: where its samples come from, how many, and the peak learning rate."""

    stream: Iterator[SftSample]
    samples: int
    lr: float


def blank_pictures(samples: Iterator[SftSample]) -> Iterator[SftSample]:
    """The same texts with nothing to see: all that can be learnt from them is the language."""
    blank: ImageArray | None = None
    for sample in samples:
        if blank is None:
            blank = np.full_like(sample.image, 255)
        yield replace(sample, image=blank)


def response_loss(policy: Policy, batch: list[SftSample]) -> torch.Tensor:
    """Mean negative log-prob of the response tokens, the end token included, in nats per token."""
    scores = policy.score(
        [policy.encode(sample.prompt, sample.image) for sample in batch],
        [policy.tokenize_output(sample.response) for sample in batch],
        temperature=1.0,
    )
    return -scores.token_logprobs.sum() / scores.mask.sum()


def warmup_cosine(step: int, total: int, warmup: float, final_ratio: float) -> float:
    """Learning-rate factor of a step: linear up over the share ``warmup`` of all steps, then a cosine down."""
    rising = warmup * total
    if step < rising:
        return (step + 1) / rising
    return cosine_factor(int(step - rising), max(int(total - rising), 1), final_ratio)
