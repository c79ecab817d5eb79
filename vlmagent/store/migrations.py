"""The schema of a run database, as a list of migrations that only ever grows at its end.

Deliberately knows nothing of what is written or read. A migration that was released is never changed: every
older database out there has been through it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlite_utils import Database, Migrations

from vlmagent.errors import StoreError
from vlmagent.store.codec import SCHEMA_VERSION

migrations = Migrations("vlmagent")

_FIRST_SCHEMA = (
    """CREATE TABLE run (
        id TEXT PRIMARY KEY, task TEXT NOT NULL, model TEXT NOT NULL, status TEXT NOT NULL,
        config_json TEXT NOT NULL, seed INTEGER NOT NULL, created_at REAL NOT NULL,
        heartbeat_at REAL NOT NULL, finished_at REAL, error TEXT)""",
    """CREATE TABLE episodes (
        id INTEGER PRIMARY KEY, split TEXT NOT NULL, env_index INTEGER NOT NULL, seed INTEGER NOT NULL,
        length INTEGER, episode_return REAL, success INTEGER, goal INTEGER, ended TEXT NOT NULL,
        update_index INTEGER, illegal INTEGER)""",
    # the filters of the lists of episodes: success within a split, and a range of updates
    "CREATE INDEX episodes_split_success ON episodes (split, success)",
    "CREATE INDEX episodes_update ON episodes (update_index)",
    """CREATE TABLE transitions (
        id INTEGER PRIMARY KEY, episode_id INTEGER NOT NULL REFERENCES episodes (id),
        update_index INTEGER NOT NULL, env_index INTEGER NOT NULL, step INTEGER NOT NULL,
        image_sha256 TEXT NOT NULL REFERENCES images (sha256), prompt TEXT NOT NULL, output TEXT NOT NULL,
        thoughts TEXT NOT NULL, action_text TEXT NOT NULL, action TEXT NOT NULL,
        legal_output INTEGER NOT NULL, reward REAL, terminated INTEGER NOT NULL, truncated INTEGER NOT NULL,
        value REAL, bootstrap_value REAL, logprob REAL, thought_logprob REAL, action_logprob REAL,
        token_ids TEXT, token_logprobs TEXT, action_start INTEGER, advantage REAL, return_ REAL)""",
    # whole episodes in their order, and all that was collected for one update
    "CREATE INDEX transitions_episode ON transitions (episode_id, step)",
    "CREATE INDEX transitions_update ON transitions (update_index)",
    """CREATE TABLE images (
        sha256 TEXT PRIMARY KEY, width INTEGER NOT NULL, height INTEGER NOT NULL, mime TEXT NOT NULL,
        data BLOB NOT NULL)""",
    # AUTOINCREMENT: an id is never given twice, also not that of the newest row after it was replaced; followers read
    # by ids and would miss it
    """CREATE TABLE metrics (
        id INTEGER PRIMARY KEY AUTOINCREMENT, update_index INTEGER NOT NULL, env_steps INTEGER NOT NULL,
        name TEXT NOT NULL, value REAL, at REAL NOT NULL, UNIQUE (name, update_index))""",
    """CREATE TABLE checkpoints (
        id INTEGER PRIMARY KEY AUTOINCREMENT, env_steps INTEGER NOT NULL, path TEXT NOT NULL UNIQUE,
        at REAL NOT NULL)""",
    """CREATE TABLE evaluations (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, task TEXT, system TEXT, rule_set TEXT,
        checkpoint TEXT, env_steps INTEGER, episodes INTEGER, success REAL, success_low REAL,
        success_high REAL, mean_return REAL, return_low REAL, return_high REAL, legal_rate REAL,
        goal_rate REAL, seed INTEGER, temperature REAL, json TEXT NOT NULL)""",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, level TEXT NOT NULL, text TEXT NOT NULL)""",
    # an index over the outputs that keeps no copy of them; `columnsize=0` saves lengths that only ranking by relevance
    # would need, and results come newest first
    """CREATE VIRTUAL TABLE transitions_fts USING fts5 (
        output, content='transitions', content_rowid='id', columnsize=0)""",
    # such an index does not follow its table: these triggers do it, and need the old text to take it out again
    """CREATE TRIGGER transitions_fts_insert AFTER INSERT ON transitions BEGIN
        INSERT INTO transitions_fts (rowid, output) VALUES (new.id, new.output); END""",
    """CREATE TRIGGER transitions_fts_delete AFTER DELETE ON transitions BEGIN
        INSERT INTO transitions_fts (transitions_fts, rowid, output)
        VALUES ('delete', old.id, old.output); END""",
    """CREATE TRIGGER transitions_fts_update AFTER UPDATE OF output ON transitions BEGIN
        INSERT INTO transitions_fts (transitions_fts, rowid, output)
        VALUES ('delete', old.id, old.output);
        INSERT INTO transitions_fts (rowid, output) VALUES (new.id, new.output); END""",
)


@migrations()  # type: ignore[untyped-decorator]
def m001_first_schema(db: Database) -> None:
    """Everything of version 0.1."""
    for statement in _FIRST_SCHEMA:
        db.execute(statement)


@migrations()  # type: ignore[untyped-decorator]
def m002_rankings(db: Database) -> None:
    """Indexes that find the largest advantages and the lowest log-probs; a reader works without them, slowly."""
    # with legality and episode in the index, filters on them are decided without visiting the row; partial, because
    # steps of evaluations and of an unfinished update have no advantage
    db.execute(
        "CREATE INDEX transitions_advantage ON transitions (abs(advantage), legal_output, episode_id) "
        "WHERE advantage IS NOT NULL"
    )
    db.execute(
        "CREATE INDEX transitions_logprob ON transitions (logprob, legal_output, episode_id) "
        "WHERE logprob IS NOT NULL"
    )


@migrations()  # type: ignore[untyped-decorator]
def m003_answers(db: Database) -> None:
    """What an API answered, as it came, and which steps it failed."""
    db.execute(
        """CREATE TABLE answers (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, key TEXT NOT NULL, text TEXT, refusal INTEGER NOT NULL,
        finish_reason TEXT, input_tokens INTEGER, output_tokens INTEGER, cost REAL NOT NULL,
        attempts INTEGER NOT NULL, seconds REAL NOT NULL, error TEXT)"""
    )
    db.execute("CREATE TABLE failures (transition_id INTEGER PRIMARY KEY, error TEXT NOT NULL)")


@migrations()  # type: ignore[untyped-decorator]
def m004_actor(db: Database) -> None:
    """Who chose each action, in sessions where people, models and experts take turns."""
    db.execute("ALTER TABLE transitions ADD COLUMN actor TEXT")


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the database behind ``connection`` (at ``path``) to this program's schema, in one transaction.

    Args:
        connection: open for writing, with ``isolation_level=None``.

    Raises:
        StoreError: the file was written by a newer program, or holds something else.
        sqlite3.Error: the file cannot be written.
    """
    # the lock before the look: two processes that open a new file at once would both create the tables
    connection.execute("BEGIN IMMEDIATE")
    try:
        _refuse_foreign(connection, path)
        # neither pragmas nor third-party plugins of sqlite-utils: the connection stays as it was opened
        migrations.apply(Database(connection, recursive_triggers=False, execute_plugins=False))
        # inside the transaction: readers see the version together with the tables, or neither
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself takes some failed transactions back (a full disk)
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"The run database {path} has schema {version}, but this program knows only up to "
            f"{SCHEMA_VERSION}: it was written by a newer vlmagent. Install that version to open it."
        )
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    # the table in which sqlite-utils notes applied migrations; a database without tables is a new one
    if found and ("_sqlite_migrations",) not in found:
        raise StoreError(f"{path} is a SQLite database, but not a run database. Choose another path.")
