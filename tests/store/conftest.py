"""Databases for the tests of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.records import step
from vlmagent.store.writer import StoreWriter
from vlmagent.types import EpisodeEnd, EpisodeStart


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


@pytest.fixture
def filled(db: Path) -> Path:
    """A finished run: two episodes (a success and a failure), six steps in two updates."""
    with StoreWriter(db) as writer:
        writer.start_run("r1", "numberline", "tiny", "{}", 3)
        writer.set_status("running")
        for episode in (1, 2):
            writer.episode_started(EpisodeStart(episode, "train", 0, 100 + episode))
            for k in range(3):
                output = f'{{"thoughts": "episode {episode} step {k}", "action": "+"}}'
                writer.transition(
                    step(
                        3 * (episode - 1) + k + 1,
                        episode_id=episode,
                        step=k,
                        update_index=episode - 1,
                        output=output,
                    )
                )
            success = episode == 1
            writer.episode_ended(
                EpisodeEnd(episode, 3, 1.0 if success else -3.0, success, success, "terminated")
            )
            writer.commit()
        writer.set_status("done")
    return db
