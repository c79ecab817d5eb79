"""What the SQLite of this Python can do, and whether a run database can be made in a folder."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from vlmagent.store.connection import Database


@dataclass(frozen=True, slots=True)
class Features:
    """What this SQLite is.

    Attributes:
        fts5: whether it was built with full-text search.
    """

    version: str
    fts5: bool


def sqlite_features() -> Features:
    """Asked of a database in memory."""
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text)")
        except sqlite3.Error:
            return Features(sqlite3.sqlite_version, fts5=False)
    return Features(sqlite3.sqlite_version, fts5=True)


def try_database(folder: Path, journal_mode: str = "wal") -> None:
    """Make a run database in an empty folder, as a run would, and close it.

    Raises:
        StoreError: it cannot be made there.
    """
    Database.open(folder / "run.db", journal_mode).close()
