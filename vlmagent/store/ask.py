"""Anybody's question to a run database, in SQL; read-only, whatever it says.

For people and scripts. The program's own questions stand in ``reader`` and ``browse``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlmagent.errors import UsageError
from vlmagent.store.reader import StoreReader

LOOK_EVERY = 100_000
"""Steps of SQLite's machine between two looks at whether somebody pressed ctrl-c: some milliseconds."""
READING = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
PRAGMAS = frozenset(
    {
        "data_version",
        "table_info",
        "table_xinfo",
        "table_list",
        "index_list",
        "index_info",
        "foreign_key_list",
    }
)
"""Those that only describe; others change how the database is kept."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a question found.

    Attributes:
        columns: names, as the question gives them.
        rows: values as SQLite has them: None, int, float, str or bytes.
        more: there are more rows than were asked for.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]
    more: bool


class Questions(StoreReader):
    """A run database that can be asked anything and told nothing."""

    def ask(self, question: str, limit: int | None = None) -> Found:
        """The answer to one statement.

        Args:
            limit: of rows; None for all.

        Raises:
            UsageError: it is no question that SQLite understands, or would change something.
            StoreError: the database cannot be read.
            KeyboardInterrupt: ctrl-c was pressed meanwhile.
        """
        refused: list[int] = []
        self._connection.set_authorizer(lambda *asked: _allowed(asked, refused))
        # a long query holds the interpreter: without this, ctrl-c would be heard only after it
        self._connection.set_progress_handler(lambda: 0, LOOK_EVERY)
        try:
            cursor = self._connection.execute(question)
            rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit + 1)
            columns = [str(column[0]) for column in cursor.description or ()]
            cursor.close()  # half read, it would keep the trainer from folding its log into the database
        except (
            sqlite3.OperationalError,
            sqlite3.ProgrammingError,
            sqlite3.Warning,
            sqlite3.DatabaseError,
        ) as error:
            raise self._explained(error, bool(refused)) from error
        finally:
            self._connection.set_authorizer(None)
            self._connection.set_progress_handler(None, 0)
        if not columns:
            raise UsageError(f"The statement '{question.strip()}' asks nothing. Begin it with SELECT.")
        more = limit is not None and len(rows) > limit
        return Found(columns, rows[:limit], more)

    def _explained(self, error: sqlite3.Error | sqlite3.Warning, refused: bool) -> BaseException:
        text = str(error)
        if text == "interrupted":
            return KeyboardInterrupt()
        if refused:
            return UsageError(
                "Only questions can be asked (SELECT, or WITH ... SELECT): this statement would change something, or "
                "reach outside of the run's database."
            )
        if "one statement at a time" in text:
            return UsageError("Ask one question at a time: the text holds several statements.")
        if isinstance(error, sqlite3.OperationalError | sqlite3.ProgrammingError) and not _damaged(text):
            return UsageError(
                f"SQLite does not understand the question: {text}. `vlmagent runs sql` without a question lists the "
                "tables and their columns."
            )
        assert isinstance(error, sqlite3.Error)
        return self._error(error)

    def tables(self) -> dict[str, list[tuple[str, str]]]:
        """Names and types of the columns of every table, without those that SQLite keeps for itself."""
        names = self.query(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' "
            # the shadow tables of the full-text index, and the book that sqlite-utils keeps of migrations
            "AND name NOT LIKE 'transitions_fts_%' AND name NOT LIKE '\\_%' ESCAPE '\\' ORDER BY name"
        )
        return {name: [(str(column), str(kind)) for column, kind in self._columns(name)] for (name,) in names}

    def _columns(self, table: str) -> list[tuple[Any, ...]]:
        return self.query("SELECT name, type FROM pragma_table_info(?)", (table,))


def _allowed(asked: Sequence[Any], refused: list[int]) -> int:
    """SQLite's question for each part of a statement: action, two of its names, database, trigger."""
    action, name = asked[0], asked[1]
    if action in READING or (action == sqlite3.SQLITE_PRAGMA and name in PRAGMAS):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_UPDATE and name == "sqlite_master":
        # how the full-text index declares itself when it is first used; a real update of that table is an error anyway
        return sqlite3.SQLITE_OK
    refused.append(action)
    return sqlite3.SQLITE_DENY


def _damaged(text: str) -> bool:
    """Whether an error is the file's and not the question's."""
    return any(words in text for words in ("malformed", "disk", "locked", "unable to open", "readonly"))
