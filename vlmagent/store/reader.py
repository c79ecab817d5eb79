"""Reads a run database, also while it is being written; every answer is a list or a frozen row.

Deliberately knows nothing of sqlite-utils (importing it costs 0.2 s) and never writes. Every query fetches
all its rows at once: a half-read cursor would keep the writer from folding its WAL.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from vlmagent.errors import StoreError, unknown_choice
from vlmagent.store import codec
from vlmagent.store.queries import (
    ANSWER,
    EPISODE,
    EPISODE_ORDERS,
    EVALUATION,
    METRIC,
    RUN,
    TRANSITION,
    EpisodeOrder,
    answer_row,
    episode_filter,
    episode_row,
    evaluation_row,
    fts_query,
    metric_row,
    number_or_nan,
    transition_row,
)
from vlmagent.store.rows import (
    AnswerRow,
    CheckpointRow,
    EpisodeRow,
    EvaluationRow,
    EventRow,
    MetricRow,
    RunRow,
    TransitionRow,
)
from vlmagent.types import Ended, ImageArray, Split

# seconds that a query waits for a lock; less than the writer's: whoever looks can look again
BUSY_SECONDS = 5.0

R = TypeVar("R")


class NotReadyError(StoreError):
    """The file exists, but its trainer has not made the tables yet."""


class StoreReader:
    """A read-only view of one run database. Use it from one thread at a time.

    Every method raises ``StoreError`` with one sentence when the file is gone, damaged or locked.
    """

    def __init__(self, path: Path | str) -> None:
        """Open the database at ``path``, read-only.

        Raises:
            StoreError: missing, not (yet) a run database, damaged, or of another schema version.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise StoreError(f"There is no run database at {self.path}. `vlmagent runs list` shows the runs.")
        self._transition_columns = ""
        self._connection = self._open()
        try:
            # the object does not come to be, so nobody else would close the connection
            self._check_schema()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._connection.close()

    def interrupt(self) -> None:
        """Make a query that another thread is running end now, with ``StoreError``. Any thread may call it."""
        # sqlite3 forbids calls on a closed connection, also from the thread that may call this at any time
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed meanwhile
            self._connection.interrupt()

    # -- the run

    def run(self) -> RunRow | None:
        """The run, or None before the trainer has recorded it."""
        return _first(self._rows(RunRow, f"SELECT {RUN} FROM run LIMIT 1"))

    def env_steps(self) -> int:
        """Environment steps recorded so far: the number of transitions."""
        # ids count 1, 2, 3, ...: the highest is found at once, `count(*)` would walk an index of the whole run
        return int(self.query("SELECT coalesce(max(id), 0) FROM transitions")[0][0])

    def metrics(self, after_id: int = 0, limit: int = -1) -> list[MetricRow]:
        """Metrics written after the row ``after_id``, oldest first: keep the last ``id`` as the cursor.

        A re-done update replaces its rows; they come again, with a new id.
        """
        sql = f"SELECT {METRIC} FROM metrics WHERE id > ? ORDER BY id LIMIT ?"
        return self._rows(metric_row, sql, (after_id, limit))

    def latest_metrics(self) -> dict[str, MetricRow]:
        """The row of each metric's highest update."""
        # SQLite takes the other columns of a group with `max` from the very row that has the maximum
        sql = f"SELECT {METRIC}, max(update_index) FROM metrics GROUP BY name"
        # the last column is the maximum itself
        return {row.name: row for row in self._rows(lambda *values: metric_row(*values[:-1]), sql)}

    def metric_series(self, name: str) -> list[MetricRow]:
        """One metric over the updates."""
        return self._rows(
            metric_row, f"SELECT {METRIC} FROM metrics WHERE name = ? ORDER BY update_index", (name,)
        )

    def metric_names(self) -> list[str]:
        """Names of all metrics, sorted."""
        return self._rows(str, "SELECT DISTINCT name FROM metrics ORDER BY name")

    def events(self, after_id: int = 0, limit: int = -1) -> list[EventRow]:
        """Events after the row ``after_id``, oldest first."""
        return self._rows(
            EventRow,
            "SELECT id, at, level, text FROM events WHERE id > ? ORDER BY id LIMIT ?",
            (after_id, limit),
        )

    def evaluations(self) -> list[EvaluationRow]:
        """All evaluated systems, oldest first."""
        return self._rows(evaluation_row, f"SELECT {EVALUATION}, json FROM evaluations ORDER BY id")

    def checkpoints(self) -> list[CheckpointRow]:
        """All checkpoints ever saved, oldest first; older ones may be gone from the disk."""
        return self._rows(CheckpointRow, "SELECT id, env_steps, path, at FROM checkpoints ORDER BY id")

    def answers(self) -> list[AnswerRow]:
        """What every request to an API came to, oldest first; none in a database from before there were any."""
        return (
            self._rows(answer_row, f"SELECT {ANSWER} FROM answers ORDER BY id")
            if self._has("answers")
            else []
        )

    def failures(self) -> dict[int, str]:
        """Why an API gave no answer, by the id of the step it was asked for."""
        if not self._has("failures"):
            return {}
        return dict(self.query("SELECT transition_id, error FROM failures ORDER BY transition_id"))

    # -- episodes and transitions

    def episodes(
        self,
        *,
        split: Split | None = None,
        success: bool | None = None,
        ended: Ended | None = None,
        illegal: bool | None = None,
        updates: tuple[int, int] | None = None,
        order: EpisodeOrder = "newest",
        limit: int = 100,
        offset: int = 0,
    ) -> list[EpisodeRow]:
        """A page of episodes that pass every filter given.

        Args:
            illegal: whether an output named no legal action.
            updates: first and last update, both included, in which the episode may have ended.
            order: one of ``EPISODE_ORDERS``.
        """
        if order not in EPISODE_ORDERS:
            raise unknown_choice("order", order, EPISODE_ORDERS)
        where, values = episode_filter(split, success, ended, illegal, updates)
        column, way = EPISODE_ORDERS[order]
        sql = (
            f"SELECT {EPISODE} FROM episodes WHERE {where} ORDER BY {column} {way}, id {way} LIMIT ? OFFSET ?"
        )
        return self._rows(episode_row, sql, (*values, limit, offset))

    def episode(self, id: int) -> EpisodeRow | None:
        """One episode, or None."""
        return _first(self._rows(episode_row, f"SELECT {EPISODE} FROM episodes WHERE id = ?", (id,)))

    def recent_success(self, episodes: int = 100, split: Split = "train") -> tuple[float, int]:
        """Success rate of the newest finished ``episodes`` and how many there were; (NaN, 0) without any."""
        # the index on split and success would have to be sorted by id: following the ids from the end stops after a few
        rate, count = self.query(
            "SELECT avg(success), count(*) FROM (SELECT success FROM episodes "
            "WHERE +split = ? AND ended NOT IN ('running', 'lost') ORDER BY id DESC LIMIT ?)",  # the +: not by index
            (split, episodes),
        )[0]
        return number_or_nan(rate), int(count)

    def transitions(self, episode_id: int) -> list[TransitionRow]:
        """All steps of one episode, in order."""
        return self._transitions("WHERE episode_id = ? ORDER BY step", (episode_id,))

    def transition(self, id: int) -> TransitionRow | None:
        """One step, or None."""
        return _first(self._transitions("WHERE id = ?", (id,)))

    def latest_transition(self) -> TransitionRow | None:
        """The newest step, or None before the first."""
        return _first(self._transitions("ORDER BY id DESC LIMIT 1"))

    def transitions_after(self, id: int, limit: int = 1000) -> list[TransitionRow]:
        """Up to ``limit`` steps after ``id``, oldest first: the cursor for followers."""
        return self._transitions("WHERE id > ? ORDER BY id LIMIT ?", (id, limit))

    def transitions_of_update(self, update_index: int) -> list[TransitionRow]:
        """All steps collected for one update, in the order of their ids."""
        return self._transitions("WHERE update_index = ? ORDER BY id", (update_index,))

    def image(self, sha256: str) -> ImageArray:
        """A picture, uint8 (H, W, 3).

        Raises:
            StoreError: there is no such picture, or its data is damaged.
        """
        found = self.query("SELECT data FROM images WHERE sha256 = ?", (sha256,))
        if not found:
            raise StoreError(f"The run database {self.path} holds no picture {sha256[:12]}….")
        try:
            return codec.decode_image(found[0][0])
        except (OSError, SyntaxError, ValueError):
            # what Pillow raises for bytes that are no picture, broken chunks and impossible sizes
            raise StoreError(f"The picture {sha256[:12]}… in {self.path} is damaged.") from None

    def search(self, text: str, limit: int = 50, offset: int = 0) -> list[TransitionRow]:
        """Steps whose output contains all words of ``text``, newest first.

        Words between double quotes must follow each other; the last word may be unfinished. Nothing a user
        types is a syntax error; without any letter or digit the answer is empty.
        """
        query = fts_query(text)
        if not query:
            return []
        found = "SELECT rowid FROM transitions_fts WHERE transitions_fts MATCH ? ORDER BY rowid DESC"
        rest = f"WHERE id IN ({found} LIMIT ? OFFSET ?) ORDER BY id DESC"
        return self._transitions(rest, (query, limit, offset))

    # -- inside

    # `columns` of a database from before there was an actor: NULL in its place keeps positions
    def _transitions(self, rest: str, values: Sequence[Any] = ()) -> list[TransitionRow]:
        if not self._transition_columns:  # a database from before there was an actor has none
            known = {row[1] for row in self.query("PRAGMA table_info(transitions)")}
            columns = TRANSITION if "actor" in known else TRANSITION.replace("actor", "NULL")
            self._transition_columns = columns
        return self._rows(
            transition_row, f"SELECT {self._transition_columns} FROM transitions {rest}", values
        )

    def _rows(self, build: Callable[..., R], sql: str, values: Sequence[Any] = ()) -> list[R]:
        return [build(*row) for row in self.query(sql, values)]

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query, for the modules of this folder: SQL stands nowhere else."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _has(self, table: str) -> bool:
        return bool(self.query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)))

    def _open(self) -> sqlite3.Connection:
        """Open read-only; a finished database in a read-only folder is opened as immutable."""
        # a WAL database needs its `-shm` file, which SQLite creates beside it: impossible in a read-only folder. An
        # immutable file needs none, but SQLite then looks neither at locks nor at a WAL
        problem: sqlite3.Error | None = None
        for options in ("mode=ro", "mode=ro&immutable=1"):
            if problem is not None and not self._immutable(problem):
                break
            connection: sqlite3.Connection | None = None
            try:
                connection = self._connect(options)
                # connecting reads nothing yet: only a query finds out whether this is a database that can be read
                connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
                return connection
            except sqlite3.Error as error:
                problem = error
                if connection is not None:
                    connection.close()
        assert problem is not None
        raise self._error(problem) from problem

    def _connect(self, options: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?{options}"
        return sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
        )

    def _immutable(self, problem: sqlite3.Error) -> bool:
        """Whether ``problem`` may come from a read-only folder and no WAL holds anything newer."""
        wal = self.path.with_name(self.path.name + "-wal")
        with contextlib.suppress(OSError):
            # with content in the WAL, immutable would silently show an older state
            if wal.stat().st_size:
                return False
        return "unable to open" in str(problem) or "readonly" in str(problem)

    def _check_schema(self) -> None:
        version = int(self.query("PRAGMA user_version")[0][0])
        if codec.OLDEST_READABLE <= version <= codec.SCHEMA_VERSION:
            return
        if version > codec.SCHEMA_VERSION:
            raise StoreError(
                f"The run database {self.path} has schema {version}, but this program knows only up to "
                f"{codec.SCHEMA_VERSION}: a newer vlmagent wrote it. Install that version to open it."
            )
        # 0 is what SQLite writes into a new file; the first migration sets it together with the tables
        if version == 0:
            raise NotReadyError(f"{self.path} is no run database, or its trainer is only just creating it.")
        raise StoreError(
            f"The run database {self.path} has the older schema {version} (now {codec.SCHEMA_VERSION}). "
            "`vlmagent train --resume RUN` on this run brings it up to date."
        )

    def _error(self, error: sqlite3.Error) -> StoreError:
        text = str(error)
        if "not a database" in text:
            return StoreError(f"{self.path} is not a SQLite database.")
        if "disk I/O" in text:
            # also where SQLite cannot make the small file that it needs beside the database: nothing is broken then
            return StoreError(
                f"The disk of the run database {self.path} reported an error ({text}). Is it full, or gone? If "
                "neither, the file is damaged: restore a copy of it."
            )
        if "malformed" in text:
            return StoreError(
                f"The run database {self.path} is damaged or cut short ({text}). Restore a copy of it."
            )
        if "locked" in text:
            return StoreError(
                f"The run database {self.path} is locked by another program. Try again in a moment."
            )
        if "unable to open" in text:
            return StoreError(
                f"The run database {self.path} could not be opened: missing, or no permission to read it."
            )
        if "closed" in text:
            return StoreError(
                f"The run database {self.path} was already closed by this program; open it again."
            )
        return StoreError(f"The run database {self.path} could not be read: {text}.")


def copy_database(source: Path, target: Path) -> None:
    """Write a consistent copy of a database, also of one in use, to the new file ``target``.

    Raises:
        StoreError: the source cannot be read or the target not written.
    """
    # a snapshot that includes the WAL and is packed; a copy of the file alone may miss the newest rows or be torn
    with StoreReader(source) as reader:
        try:
            reader._connection.execute("VACUUM INTO ?", (str(target),))
        except sqlite3.Error as error:
            raise StoreError(
                f"The run database {source} could not be copied to {target}: {error}."
            ) from error


def _first(rows: Sequence[R]) -> R | None:
    return rows[0] if rows else None
