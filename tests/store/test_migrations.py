import sqlite3
from pathlib import Path

import pytest
from sqlite_utils import Database

from tests.store.records import step
from vlmagent.errors import StoreError
from vlmagent.store.codec import SCHEMA_VERSION
from vlmagent.store.migrations import migrations
from vlmagent.store.reader import StoreReader
from vlmagent.store.writer import StoreWriter
from vlmagent.types import EpisodeStart

NAMES = [migration.name for migration in migrations._migrations]


def test_the_version_counts_the_migrations() -> None:
    assert len(NAMES) == SCHEMA_VERSION
    assert NAMES[0] == "m001_first_schema"  # released: never renamed, never changed


def schema(path: Path) -> dict[str, str]:
    with sqlite3.connect(path) as connection:
        return dict(
            connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        )


def works(path: Path) -> None:
    with StoreWriter(path) as writer:
        writer.start_run("r", "numberline", "tiny", "{}", 0)
        writer.episode_started(EpisodeStart(1, "train", 0, 0))
        writer.transition(step(1))
    with StoreReader(path) as reader:
        assert reader.env_steps() == 1
        assert reader.search("action")


def test_from_no_file_and_from_an_empty_file(tmp_path: Path) -> None:
    works(tmp_path / "new.db")
    (tmp_path / "empty.db").touch()
    works(tmp_path / "empty.db")


@pytest.mark.parametrize("name", NAMES)
def test_from_every_earlier_schema(tmp_path: Path, name: str) -> None:
    old = tmp_path / "old.db"
    database = Database(old)
    migrations.apply(database, stop_before=name)
    database.execute(f"PRAGMA user_version = {NAMES.index(name)}")
    database.close()
    works(old)
    works(tmp_path / "new.db")
    assert schema(old) == schema(tmp_path / "new.db")


def test_a_newer_schema_is_refused(filled: Path) -> None:
    with sqlite3.connect(filled) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match="newer vlmagent"):
        StoreWriter(filled)
    with pytest.raises(StoreError, match="newer vlmagent"):
        StoreReader(filled)


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    with pytest.raises(StoreError, match="not a run database"):
        StoreWriter(path)
    assert list(schema(path)) == ["mine"]


def test_design_columns_are_there(filled: Path) -> None:
    wanted = {
        "run": "id task model status config_json seed created_at heartbeat_at finished_at error",
        "episodes": "id split env_index seed length episode_return success ended goal",
        "transitions": "id episode_id update_index env_index step image_sha256 prompt output thoughts "
        "action_text action legal_output reward terminated truncated value logprob thought_logprob "
        "action_logprob token_ids token_logprobs advantage return_ bootstrap_value action_start",
        "images": "sha256 width height mime data",
        "metrics": "update_index env_steps name value at",
        "checkpoints": "id env_steps path at",
        "events": "at level text",
    }
    with sqlite3.connect(filled) as connection:
        for table, columns in wanted.items():
            found = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            assert set(columns.split()) <= found, table
