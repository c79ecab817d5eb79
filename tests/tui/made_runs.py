"""Run folders for the tests of the dashboard, written through the real writer."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.store.records import step
from vlmagent.config import Config, dump_config
from vlmagent.paths import Run
from vlmagent.store.writer import StoreWriter
from vlmagent.types import EpisodeEnd, EpisodeStart

STEPS = 4
"""Steps of each update, and of its one episode."""
CONFIG = Config.model_validate(
    {
        "task": "numberline",
        "ppo": {"env_steps": 512, "steps_per_update": STEPS},
        "rollout": {"num_envs": STEPS},
    }
)
NASTY = "[red]x[/] \x1b[31mANSI\x1b[0m \x07\u202eabc\u202c \ud800 😀 שלום\r\n[bold" + "y" * 100_000


def make_run(
    folder: Path,
    *,
    updates: int = 3,
    status: str = "done",
    text: str = "3 is less than 5",
    error: str | None = None,
    success: tuple[bool, ...] = (False, True),
    sft: bool = True,
) -> Run:
    """A run of so many updates; its outputs say ``text``."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder)
    run.config_file.write_text(dump_config(CONFIG), encoding="utf-8")
    with StoreWriter(run.database) as writer:
        writer.start_run(run.name, "numberline", "tiny", json.dumps(CONFIG.model_dump(mode="json")), 7)
        writer.set_status("running")
        if sft:
            writer.event("phase", "phase: sft (64 samples)")
            for number in (1, 2, 3, 4):
                writer.metrics(
                    number,
                    0,
                    {"sft/loss": 2.0 / number, "sft/samples": 16.0 * number, "sft/learning_rate": 1e-3},
                )
            writer.event("phase", "phase: rl (128 updates)")
        for update in range(1, updates + 1):
            write_update(writer, update, text=text, success=success[update % len(success)])
        if status != "running":
            writer.set_status(status, error)  # type: ignore[arg-type]
    return run


def write_update(
    writer: StoreWriter, update: int, *, text: str = "3 is less than 5", success: bool = True
) -> None:
    """One episode and the metrics of one update."""
    writer.episode_started(EpisodeStart(update, "train", 0, update))
    for number in range(STEPS):
        writer.transition(
            step(
                STEPS * (update - 1) + number + 1,
                episode_id=update,
                step=number,
                update_index=update,
                thoughts=text,
                output=text,
            )
        )
    writer.episode_ended(EpisodeEnd(update, STEPS, 1.0 if success else -1.0, success, success, "terminated"))
    writer.metrics(
        update, STEPS * update,
        {
            "rollout/success": 1.0 if success else 0.0, "rollout/return": update / 2, "rollout/legal_rate": 0.9,
            "rollout/thought_logprob": -10.0 - update, "rollout/action_logprob": -1.0, "rollout/output_tokens": 14.0,
            "rollout/env_steps_per_second": 50.0, "ppo/kl": 0.01 * update, "ppo/clip_fraction": 0.2,
            "ppo/value_loss": 1.0 / update, "ppo/entropy": 0.5, "ppo/learning_rate": 1e-4,
        },
    )  # fmt: skip
    writer.commit()


def change(run: Run, *statements: str) -> None:
    """Run SQL on a run's database."""
    with closing(sqlite3.connect(run.database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def freeze(run: Run, at: float = 1_750_000_000.0) -> Run:
    """Set all times of a run to fixed ones, for snapshots."""
    change(
        run,
        f"UPDATE run SET created_at = {at}, heartbeat_at = {at + 95}",
        f"UPDATE run SET finished_at = {at + 95} WHERE finished_at IS NOT NULL",
        f"UPDATE events SET at = {at} + id",
        f"UPDATE metrics SET at = {at} + id",
    )
    return run
