"""Makes a large run for the dashboard's benchmark, quickly: the real schema, made-up contents.

python -m benchmarks.big_run OUT [--transitions 1000000] [--images 20000]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from vlmagent.config import Config, dump_config
from vlmagent.paths import Run
from vlmagent.store import codec
from vlmagent.store.connection import connect
from vlmagent.store.migrations import migrate

STEPS_PER_UPDATE = 512
ENVS = 64
BATCH = 20_000
METRICS = (
    "rollout/success", "rollout/return", "rollout/legal_rate", "rollout/output_tokens", "rollout/thought_logprob",
    "rollout/action_logprob", "rollout/value", "rollout/reward", "rollout/goal", "rollout/episode_length",
    "rollout/episodes", "rollout/env_steps_per_second", "time/collect_seconds", "time/update_seconds", "ppo/kl",
    "ppo/clip_fraction", "ppo/value_loss", "ppo/policy_loss", "ppo/entropy", "ppo/grad_norm", "ppo/learning_rate",
    "ppo/explained_variance", "ppo/first_ratio_error", "ppo/skipped",
)  # fmt: skip
PROMPT = "You are playing a game called number line. You will see a target number and a current number. " * 5
WORDS = (
    "current", "number", "target", "larger", "smaller", "move", "increase", "decrease", "choose", "therefore", "equal",
    "reached", "step", "plus", "minus",
)  # fmt: skip
TRANSITION_COLUMNS = (
    "id, episode_id, update_index, env_index, step, image_sha256, prompt, output, thoughts, action_text, action, "
    "legal_output, reward, terminated, truncated, value, logprob, thought_logprob, action_logprob, token_ids, "
    "token_logprobs, action_start, advantage, return_"
)


def build(folder: Path, transitions: int, images: int, seed: int = 0) -> Run:
    """Write a finished run of this size into the new folder ``folder``."""
    folder.mkdir(parents=True)
    run = Run(folder)
    config = Config.model_validate({"task": "numberline", "ppo": {"env_steps": transitions}})
    run.config_file.write_text(dump_config(config), encoding="utf-8")
    database = run.database
    with closing(connect(database, "rwc")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        migrate(connection, database)
        connection.execute("BEGIN IMMEDIATE")
        _fill(connection, run.name, config, transitions, images, random.Random(seed))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return run


def _fill(
    connection: sqlite3.Connection,
    name: str,
    config: Config,
    transitions: int,
    images: int,
    rng: random.Random,
) -> None:
    now = time.time()
    connection.execute(
        "INSERT INTO run VALUES (?,?,?,?,?,?,?,?,?,?)",
        (
            name,
            "numberline",
            "tiny",
            "done",
            json.dumps(config.model_dump(mode="json")),
            0,
            now - 9000,
            now,
            now,
            None,
        ),
    )
    keys = [_put_image(connection, number) for number in range(images)]
    trigger = connection.execute(
        "SELECT sql FROM sqlite_master WHERE name = 'transitions_fts_insert'"
    ).fetchone()[0]
    connection.execute("DROP TRIGGER transitions_fts_insert")  # the index is built at once afterwards: faster
    rows, episodes = _transitions(transitions, keys, rng), []
    marks = ",".join("?" * (TRANSITION_COLUMNS.count(",") + 1))
    batch: list[tuple[Any, ...]] = []
    for row, ended in rows:
        batch.append(row)
        if ended is not None:
            episodes.append(ended)
        if len(batch) == BATCH:
            connection.executemany(f"INSERT INTO transitions ({TRANSITION_COLUMNS}) VALUES ({marks})", batch)
            batch.clear()
    connection.executemany(f"INSERT INTO transitions ({TRANSITION_COLUMNS}) VALUES ({marks})", batch)
    connection.executemany("INSERT INTO episodes VALUES (?,?,?,?,?,?,?,?,?,?,?)", episodes)
    connection.execute("INSERT INTO transitions_fts (transitions_fts) VALUES ('rebuild')")
    connection.execute(trigger)
    connection.executemany(
        "INSERT INTO metrics (update_index, env_steps, name, value, at) VALUES (?,?,?,?,?)",
        _metrics(transitions // STEPS_PER_UPDATE, now, rng),
    )
    connection.execute("INSERT INTO events (at, level, text) VALUES (?, 'phase', 'phase: rl')", (now - 9000,))


def _put_image(connection: sqlite3.Connection, number: int) -> str:
    """A small picture unlike all others."""
    image = np.full((84, 84, 3), 255, np.uint8)
    for place in range(16):
        if number >> place & 1:
            row, column = divmod(place, 4)
            image[20 * row : 20 * row + 14, 20 * column : 20 * column + 14] = (40, 90, 200)
    key = codec.image_key(image)
    connection.execute(
        "INSERT INTO images VALUES (?,?,?,?,?)", (key, 84, 84, codec.PNG, codec.encode_image(image))
    )
    return key


def _transitions(
    count: int, keys: list[str], rng: random.Random
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...] | None]]:
    """Rows of ``transitions``, each with the ``episodes`` row that ends with it."""
    episode, step, length, illegal, total = 1, 0, rng.randint(1, 7), 0, 0.0
    outputs = [_output(rng, number) for number in range(2000)]
    for id_ in range(1, count + 1):
        text, thoughts, tokens, logprobs = outputs[rng.randrange(len(outputs))]
        text = text.replace("number", f"number n{id_ % 9973}", 1)
        legal, last = rng.random() < 0.93, step == length - 1
        reward = (1.0 if rng.random() < 0.7 else -1.0) if last else 0.0
        update = (id_ - 1) // STEPS_PER_UPDATE + 1
        illegal, total = illegal + (not legal), total + reward
        thought, action = rng.uniform(-30, -3), rng.uniform(-4, 0)
        row = (
            id_, episode, update, id_ % ENVS, step, keys[rng.randrange(len(keys))], PROMPT, text, thoughts, "+", "+",
            int(legal), reward, int(last), 0, rng.gauss(0, 1), 0.5 * thought + action, thought, action, tokens,
            logprobs, 30, rng.gauss(0, 1), rng.gauss(0, 1),
        )  # fmt: skip
        ended = None
        if last:
            ended = (episode, "train", id_ % ENVS, rng.randrange(2**31), length, total, int(total > 0), int(total > 0),
                     "terminated", update, illegal)  # fmt: skip
            episode, step, length, illegal, total = episode + 1, -1, rng.randint(1, 7), 0, 0.0
        step += 1
        yield row, ended


def _output(rng: random.Random, number: int) -> tuple[str, str, str, str]:
    thoughts = " ".join(rng.choice(WORDS) for _ in range(28)) + f" variant{number}"
    text = json.dumps(
        {"current number": "3", "target number": "5", "thoughts": thoughts, "action": "+"}, indent=0
    )
    tokens = json.dumps([rng.randrange(900) for _ in range(42)], separators=(",", ":"))
    return (
        text,
        thoughts,
        tokens,
        json.dumps([round(-rng.random(), 7) for _ in range(42)], separators=(",", ":")),
    )


def _metrics(updates: int, now: float, rng: random.Random) -> Iterator[tuple[Any, ...]]:
    for update in range(1, updates + 1):
        share = update / updates
        for name in METRICS:
            value = math.tanh(4 * share) * (0.8 + 0.2 * rng.random())
            yield update, update * STEPS_PER_UPDATE, name, value, now - 9000 * (1 - share)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--transitions", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=20_000)
    chosen = parser.parse_args()
    started = time.monotonic()
    run = build(chosen.out, chosen.transitions, chosen.images)
    size = run.database.stat().st_size / 2**20
    print(
        f"{chosen.out}: {chosen.transitions:,} transitions, {size:,.0f} MiB, in {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
