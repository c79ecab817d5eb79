"""The part of ``benchmarks.speed`` that asks how costs grow: with environments, outputs, pictures and the database."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import in_turns
from vlmagent.config import ModelConfig
from vlmagent.models.distribution import Draw
from vlmagent.models.hf import build_policy
from vlmagent.models.policy import EncodedState, Policy
from vlmagent.store.writer import StoreWriter
from vlmagent.tasks.registry import build_task
from vlmagent.training.sft.samples import corpus
from vlmagent.types import Decision, EpisodeStart, Generation, ParsedAction, Transition

ENVIRONMENTS = (1, 4, 16, 64, 256)
TOKENS = (16, 64, 256)
SIDES = (60, 120, 240)
STORED = (0, 20_000, 100_000)
WRITTEN = 2000


def growth(rounds: int) -> dict[str, Any]:
    """One figure for each size, cases of one kind in turns."""
    policy, prompt = _built(60)
    many = {n: _writing(policy, _states(policy, prompt, n), 16) for n in ENVIRONMENTS}
    long = {n: _writing(policy, _states(policy, prompt, 16), n) for n in TOKENS}
    seen = {}
    for side in SIDES:
        built, text = _built(side)
        seen[(side // 12) ** 2] = _learning(built, _states(built, text, 16))
    return {
        "environments": {
            "unit": "ms for each output of 16 tokens",
            "points": {n: 1e3 * s / n for n, s in _medians(many, rounds).items()},
        },
        "output tokens": {
            "unit": "ms for each token of 16 outputs",
            "points": {n: 1e3 * s / n for n, s in _medians(long, rounds).items()},
        },
        "picture tokens": {
            "unit": "ms forward and back, 16 samples",
            "points": {n: 1e3 * s for n, s in _medians(seen, rounds).items()},
        },
        "transitions in the database": {
            "unit": "µs for each transition more",
            "points": {n: 1e6 * _stored(n) / WRITTEN for n in STORED},
        },
    }


def _medians(cases: dict[int, Callable[[], object]], rounds: int) -> dict[int, float]:
    times = in_turns({str(size): case for size, case in cases.items()}, rounds)
    return {size: times[str(size)].processor.median for size in cases}


def _built(side: int) -> tuple[Policy, str]:
    """A fresh model for pictures of this side, and a prompt."""
    config = ModelConfig.model_validate({"tiny": {"image_size": side}})
    task = build_task("numberline")
    image, state = task.make_env().reset(seed=0)
    return build_policy(config, corpus(task, size=200), 0).eval(), task.prompt(task.observe(image, state))


def _states(policy: Policy, prompt: str, count: int) -> list[EncodedState]:
    """Different pictures: none of the work is shared."""
    rng = np.random.default_rng(0)
    return [policy.encode(prompt, rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)) for _ in range(count)]


def _writing(policy: Policy, states: list[EncodedState], tokens: int) -> Callable[[], None]:
    """Outputs of so many tokens: end tokens are banned."""

    def go() -> None:
        draw = Draw([*policy.banned, *policy.end_ids], 1.0, len(states), tokens, 0, policy.device)
        with torch.no_grad():
            policy.passes.written(states, draw, tokens, None)

    return go


def _learning(policy: Policy, states: list[EncodedState]) -> Callable[[], None]:
    outputs = [[7 + index, 8, 9, 10, 11, policy.eos_id] for index in range(len(states))]

    def go() -> None:
        policy.zero_grad()
        policy.score(states, outputs, temperature=1.0, entropy="none").token_logprobs.sum().backward()  # type: ignore[no-untyped-call]

    return go


def _stored(before: int) -> float:
    """Processor seconds of writing some transitions into a database that has so many."""
    picture = np.zeros((300, 300, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder, StoreWriter(Path(folder) / "run.db") as writer:
        writer.start_run("growth", "numberline", "tiny", "{}", 0)
        writer.episode_started(EpisodeStart(1, "train", 0, 0))
        numbers = iter(range(before + 2 * WRITTEN))

        def write(count: int) -> None:
            for _ in range(count):
                number = next(numbers)
                writer.transition(_transition(number + 1, number, picture))
                if number % 32 == 31:
                    writer.commit()
            writer.flush()

        write(before)
        return in_turns({"write": lambda: write(WRITTEN)}, 1)["write"].processor.median


def _transition(number: int, step: int, picture: Any) -> Transition:
    text = '{"thoughts": "The current number is smaller than the target number.", "action": "+"}'
    ids, logprobs = np.arange(14), np.zeros(14, dtype=np.float32)
    decision = Decision(
        prompt="You are playing a game called number line. " * 12,
        output=text,
        thoughts="The current number is smaller than the target number.",
        parsed=ParsedAction("+", True, "+", None),
        logprob=-1.0,
        thought_logprob=-0.5,
        action_logprob=-0.5,
        generation=Generation(text, ids, logprobs, 10, 0.0),
    )
    return Transition(number, 1, 1, 0, step, picture, decision, 0.0, False, False, 0.0)
