"""Run folders with episodes worth replaying: pictures, outputs that a real tokenizer wrote, evaluations."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from textual.screen import Screen
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.tui.made_runs import CONFIG
from vlmagent import paths
from vlmagent.config import dump_config
from vlmagent.paths import Run
from vlmagent.store.writer import StoreWriter
from vlmagent.tui.navigate import OpeningApp
from vlmagent.tui.themes import DEFAULT, THEMES
from vlmagent.types import Decision, EpisodeEnd, EpisodeStart, Generation, ParsedAction, Transition

WORDS = (
    "apple",
    "river stone",
    "[bold]cloud[/]",
    "\x1b[31mmaple\x1b[0m",
    "Äpfel 😀 שלום",
    "\u202eevil\u202c",
)
END = "</s>"
LEFT = [True, False, False, True, False]
RIGHT = [True, True, False, False, True]


class Host(OpeningApp):
    """An application around one screen, which may ask for others."""

    images = "half"

    def __init__(self, screen: Screen[Any]) -> None:
        super().__init__()
        self.first = screen
        self.animation_level = "none"
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = DEFAULT

    def on_mount(self) -> None:
        self.push_screen(self.first)


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """A byte-level BPE, as the built-in model has one."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([output_of(k, "apple") for k in range(20)], trainer)
    return made


def output_of(number: int, word: str) -> str:
    return f'{{\n"thoughts": "number {number} says {word}",\n"action": "+"\n}}'


def picture(number: int, size: int = 30) -> np.ndarray:
    """A white picture with a coloured bar whose place tells the number."""
    image = np.full((size, size, 3), 255, dtype=np.uint8)
    image[number % size] = (200, 30, 30)
    return image


def transition(
    id_: int, episode: int, step: int, *, output: str | None = None, last: bool = False, **more: Any
) -> Transition:
    """One step; its token log-probs fall from 0 to -4."""
    text = output_of(id_, WORDS[id_ % len(WORDS)]) if output is None else output
    ids = [*tokenizer().encode(text).ids, tokenizer().token_to_id(END)]
    key = text.rfind('"action"')
    action_start = next(
        (k for k in range(len(ids)) if key >= 0 and len(tokenizer().decode(ids[: k + 1])) > key), len(ids)
    )
    logprobs = -np.linspace(0, 4, len(ids), dtype=np.float32)
    legal = bool(more.pop("legal", True))
    generation = Generation(text, np.array(ids, dtype=np.int64), logprobs, action_start, 0.5)
    decision = Decision(
        prompt=f"You are playing [b]a game[/b]. State {step}.",
        output=text,
        thoughts=f"number {id_} says {WORDS[id_ % len(WORDS)]}",
        parsed=ParsedAction(more.pop("action", "+"), legal, "+", None),
        logprob=-1.0 - id_ % 7,
        thought_logprob=-2.0,
        action_logprob=-0.25,
        generation=generation,
    )
    return Transition(
        id_, episode, more.pop("update", (episode - 1) // 10 + 1), episode % 4, step, more.pop("image", picture(id_)),
        decision, more.pop("reward", 1.0 if last else -0.5), last, False, 0.5,
    )  # fmt: skip


def write_episode(
    writer: StoreWriter,
    episode: int,
    first_id: int,
    *,
    steps: int = 3,
    success: bool = True,
    seed: int | None = None,
    split: Any = "train",
    running: bool = False,
    **more: Any,
) -> int:
    """An episode; returns the id after its last step."""
    writer.episode_started(
        EpisodeStart(episode, split, episode % 4, 1000 + episode if seed is None else seed)
    )
    ids = range(first_id, first_id + steps)
    for k, id_ in enumerate(ids):
        last = k == steps - 1 and not running
        legal = not (episode % 5 == 0 and k == 0)
        writer.transition(transition(id_, episode, k, last=last and success, legal=legal, **more))
    if not running:
        writer.episode_ended(
            EpisodeEnd(
                episode,
                steps,
                1.0 if success else -1.5,
                success,
                success,
                "terminated" if success else "truncated",
            )
        )
    writer.commit()
    if split == "train":
        update = (episode - 1) // 10 + 1
        writer.advantages(update, list(ids), [(id_ * 37 % 101 - 50) / 10 for id_ in ids], [0.25] * steps)
    return first_id + steps


def make_episodes(
    folder: Path, count: int = 30, *, tokens: bool = True, running: int = 0, **more: Any
) -> Run:
    """A run of so many episodes of three steps; each third fails, each fifth has an illegal output."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder)
    run.config_file.write_text(dump_config(CONFIG), encoding="utf-8")
    if tokens:
        latest = run.checkpoints / paths.LATEST
        latest.mkdir(parents=True)
        tokenizer().save(str(latest / "tokenizer.json"))
    with StoreWriter(run.database) as writer:
        writer.start_run(run.name, "numberline", "tiny", json.dumps(CONFIG.model_dump(mode="json")), 7)
        writer.set_status("running")
        id_ = 1
        for episode in range(1, count + 1):
            id_ = write_episode(writer, episode, id_, success=episode % 3 != 0, **more)
        for episode in range(count + 1, count + running + 1):
            id_ = write_episode(writer, episode, id_, running=True)
        writer.set_status("done")
    return run


def make_evaluation(
    run: Run,
    checkpoint: str | None,
    successes: Sequence[bool],
    *,
    system: str = "rl",
    steps: Sequence[int] = (),
    first_seed: int = 50,
    **more: Any,
) -> Path:
    """An evaluation of ``run``; episode k has seed first_seed + k."""
    folder = run.evaluations
    folder.mkdir(exist_ok=True)
    path = folder / f"20260101-{len(list(folder.glob('*.db'))):06d}-{system}-{checkpoint or 'baseline'}.db"
    with StoreWriter(path) as writer:
        writer.start_run(str(run), "numberline", "tiny", json.dumps(CONFIG.model_dump(mode="json")), 3)
        id_ = 1
        for k, success in enumerate(successes):
            size = steps[k] if k < len(steps) else 2
            id_ = write_episode(
                writer,
                k + 1,
                id_,
                steps=size,
                success=success,
                seed=first_seed + k,
                split="eval",
                update=0,
                **more,
            )
        row = {
            "task": "numberline", "system": system, "checkpoint": checkpoint, "episodes": len(successes),
            "env_steps": None if checkpoint is None else int(checkpoint.removeprefix("step-")),
            "success": sum(successes) / max(1, len(successes)), "mean_return": 0.0, "seed": 3,
        }  # fmt: skip
        writer.evaluation(row)
        writer.set_status("done")
    return path


def make_play(
    run: Run, successes: Sequence[bool], *, model: str = "human", at: float = 1_750_000_000
) -> Path:
    """Games played with ``run`` by ``model``, begun at ``at``."""
    folder = run.plays
    folder.mkdir(exist_ok=True)
    path = folder / f"{at:.0f}-{model}.db"
    with StoreWriter(path) as writer:
        writer.start_run(str(run), "numberline", model, json.dumps(CONFIG.model_dump(mode="json")), 3)
        id_ = 1
        for k, success in enumerate(successes):
            id_ = write_episode(writer, k + 1, id_, success=success, split="play", update=0)
        writer.set_status("done")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE run SET created_at = ?", (at,))
    return path


def make_two_evaluations(folder: Path) -> Run:
    """A run with an evaluation of its start and one of a later checkpoint, on the same five seeds."""
    run = make_episodes(folder, 2)
    make_evaluation(run, "step-0", LEFT, system="sft", steps=[4, 2, 2, 2, 1])
    make_evaluation(run, "step-500", RIGHT, steps=[2, 2, 3, 2, 1])
    return run
