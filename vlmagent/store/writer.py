"""Writes a run database from one thread: batches of records in, one transaction each; nothing is dropped.

Deliberately knows nothing of training: it takes records and numbers. The only writer of a database that a
trainer has open, except for ``add_evaluation`` and ``mark_failed``, which other processes may call.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vlmagent.errors import StoreError
from vlmagent.store import codec
from vlmagent.store.connection import Database, Record, ballast, connect, evaluation_insert, store_error
from vlmagent.store.rows import AnswerRow, RunStatus
from vlmagent.types import EpisodeEnd, EpisodeStart, Transition


@dataclass(slots=True)
class _Batch:
    """Records that become one transaction."""

    records: list[Record] = field(default_factory=list)
    sync: bool = False


class StoreWriter:
    """Writes one run database; implements ``Sink``. Safe to call from several threads.

    Records gather until ``commit``; the batch is then written by a background thread as one transaction.
    Status changes are committed at once; metrics, events, checkpoints, evaluations and advantages too, unless
    a batch is open: then they join it. Pictures must not be changed after they were handed over.

    Every method raises ``StoreError`` once the thread has failed (disk full, read-only, locked).
    """

    def __init__(
        self, path: Path | str, *, journal_mode: Literal["wal", "delete"] = "wal", queue_size: int = 1024
    ) -> None:
        """Open or create the database at ``path`` and bring it to the current schema.

        Args:
            journal_mode: ``delete`` for network file systems, where WAL does not work.
            queue_size: records that may wait for the thread; beyond that ``commit`` waits.

        Raises:
            StoreError: the file cannot be created, is no run database, or is newer than this program.
        """
        self.path = Path(path)
        self._queue_size = queue_size
        self._open = _Batch()
        self._jobs: deque[_Batch] = deque()
        self._waiting = 0  # records in _jobs and in the batch being written
        self._closing = False
        self._error: StoreError | None = None
        self._raised = False
        # one lock for all fields above; waiting callers and the waiting thread wake each other through it
        self._changed = threading.Condition()
        self._database = Database.open(self.path, journal_mode)
        # a daemon: a program that ends without closing must not wait for a thread that waits for it
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close; after an error the open batch is dropped: half a step is worse than none."""
        if kind is None:
            self.close()
            return
        # under the lock: other threads may be adding to it
        with self._changed:
            self._open = _Batch()
        # the error that is on its way is the cause; the writer's own may only be its consequence
        with contextlib.suppress(StoreError):
            self.close()

    @property
    def journal_mode(self) -> str:
        """The journal that SQLite keeps. Not the one asked for while others have the database open that has another."""
        return self._database.journal_mode

    # -- the Sink protocol

    def episode_started(self, episode: EpisodeStart) -> None:
        """Record that an episode began; repeating it (after a resume) changes nothing."""
        self._add(lambda db: db.start_episode(episode))

    def transition(self, transition: Transition) -> None:
        """Record one environment step."""
        self._add(lambda db: db.insert_transition(transition))

    def episode_ended(self, episode: EpisodeEnd) -> None:
        """Record how an episode ended."""
        self._add(lambda db: db.end_episode(episode))

    def commit(self) -> None:
        """End of a batch step: all since the last commit becomes one transaction. Waits on a full queue."""
        with self._changed:
            self._send(sync=False)

    # -- the run

    def start_run(self, id: str, task: str, model: str, config_json: str, seed: int) -> None:
        """Record the run with status ``starting``; one that is already there keeps its id and start time."""
        texts = [codec.clean_text(text) for text in (id, task, model, config_json)]
        self._add(lambda db: db.start_run(texts, int(seed)), commit=True)

    def set_status(self, status: RunStatus, error: str | None = None) -> None:
        """Record the run's status; ``stopped``, ``done`` and ``failed`` set ``finished_at``."""
        # the time here, not in the thread: a record may wait in the queue
        now = time.time()
        self._add(lambda db: db.set_status(status, error, now), commit=True)

    def event(self, level: str, text: str) -> None:
        """Record one line for people. ``level``: info, warning, error or phase."""
        values = (time.time(), level, codec.clean_text(text))
        self._now(lambda db: db.run("INSERT INTO events (at, level, text) VALUES (?,?,?)", values))

    def metrics(self, update_index: int, env_steps: int, values: Mapping[str, float]) -> None:
        """Record measured numbers; a re-done update replaces its own. NaN is stored as NULL."""
        now = time.time()
        at = (int(update_index), int(env_steps))
        rows = [(*at, name, codec.number(value), now) for name, value in values.items()]
        # REPLACE deletes and inserts, so the row gets a new, higher id: followers that read by id see the new value
        sql = "INSERT OR REPLACE INTO metrics (update_index, env_steps, name, value, at) VALUES (?,?,?,?,?)"
        self._now(lambda db: db.run_many(sql, rows))

    def advantages(
        self, update_index: int, ids: Sequence[int], advantages: Sequence[float], returns: Sequence[float]
    ) -> None:
        """Record advantages and returns of an update's transitions, one per id."""
        rows = [
            (codec.number(advantage), codec.number(return_), int(id_), int(update_index))
            for id_, advantage, return_ in zip(ids, advantages, returns, strict=True)
        ]
        self._now(lambda db: db.set_advantages(rows))

    def checkpoint(self, env_steps: int, path: Path | str) -> None:
        """Record that a checkpoint was saved at ``path``."""
        values = (int(env_steps), str(path), time.time())
        sql = "INSERT OR REPLACE INTO checkpoints (env_steps, path, at) VALUES (?,?,?)"
        self._now(lambda db: db.run(sql, values))

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """Record one evaluated system; keys as in ``eval --json``, all are kept in the ``json`` column."""
        sql, values = evaluation_insert(row)
        self._now(lambda db: db.run(sql, values))

    def answer(self, row: AnswerRow) -> None:
        """Record what a request to an API came to; it is in the database file when this returns."""
        # an answer may have cost money: it must not be lost with a process that is killed in the next line
        self._add(lambda db: db.insert_answer(row))
        self.flush()

    # -- ending

    def flush(self, *, sync: bool = True) -> None:
        """Commit, and wait until everything so far is in the database file.

        Args:
            sync: and on the disk: it then survives a power cut too, which takes a disk's time.
        """
        # `_waiting` counts the batch in the thread's hands, too: it is 0 only when all is written
        with self._changed:
            self._send(sync=sync)
            while self._waiting and self._error is None:
                self._changed.wait()
            self._check()

    def close(self) -> None:
        """Write what is left and close. Idempotent; raises the thread's error unless already raised."""
        with self._changed:
            # after an error there is nothing that could still be written
            if not self._closing and self._error is None:
                self._send(sync=False)
            self._closing = True
            self._changed.notify_all()
        # outside the lock: the thread needs it to take the last batch
        self._thread.join()
        if self._error is not None and not self._raised:
            self._check()

    # -- inside

    def _add(self, record: Record, commit: bool = False) -> None:
        with self._changed:
            self._check()
            self._open.records.append(record)
            if commit:
                self._send(sync=False)

    def _now(self, record: Record) -> None:
        """Commit ``record`` at once, or let it join the open batch."""
        # inside a step it must not become visible before the step does; between steps nobody would commit it
        with self._changed:
            self._check()
            alone = not self._open.records
            self._open.records.append(record)
            if alone:
                self._send(sync=False)

    def _send(self, sync: bool) -> None:
        """Hand the open batch to the thread; waits while the queue is full. The lock is held."""
        self._check()
        size = len(self._open.records)
        if not size and not sync:
            return
        # a new batch at once: further records belong to the next transaction
        batch, self._open = self._open, _Batch()
        batch.sync = sync
        # a batch that is larger than the queue passes when the queue is empty: waiting would never end
        while self._waiting and self._waiting + size > self._queue_size and self._error is None:
            self._changed.wait()
        self._check()
        self._jobs.append(batch)
        # an empty batch that only syncs counts 1, so that `flush` waits for it, too
        self._waiting += max(size, 1)
        self._changed.notify_all()

    def _check(self) -> None:
        if self._error is not None:
            self._raised = True
            # a new exception each time: the thread's own would gather the tracebacks of all callers
            raise StoreError(str(self._error)) from self._error.__cause__
        if self._closing:
            raise StoreError(f"The run database {self.path} was already closed; open it again.")

    def _run(self) -> None:
        """The thread: batches as they come, a heartbeat in between."""
        try:
            while (batch := self._next()) is not None:
                if batch.records or batch.sync:
                    # outside the lock: callers go on queueing while the disk works
                    self._database.write(batch.records, batch.sync)
                    with self._changed:
                        self._waiting -= max(len(batch.records), 1)
                        self._changed.notify_all()
                # also between batches that follow each other without a pause: `beat` looks at the clock itself
                self._database.beat()
            self._database.close()
        except BaseException as error:
            self._fail(error)

    def _next(self) -> _Batch | None:
        """The next batch, an empty one when a heartbeat is due, None at the end."""
        with self._changed:
            if not self._jobs and not self._closing:
                # the time until the next beat, so that a trainer that computes for minutes still looks alive
                self._changed.wait(max(0.0, self._database.next_beat - time.monotonic()))
            if self._jobs:
                return self._jobs.popleft()
            # None only after the queue is empty: closing writes what is left
            return None if self._closing else _Batch()

    def _fail(self, error: BaseException) -> None:
        # what could not be written is told below; that it could not be undone either adds nothing
        with contextlib.suppress(Exception):
            self._database.abandon()
        with self._changed:
            self._error = store_error("write", self.path, error)
            self._error.__cause__ = error
            # nothing behind the failed batch is tried: later steps without earlier ones would be a hole in the run
            self._jobs.clear()
            self._open = _Batch()
            # those who wait for room or for the end wake up and get the error
            self._waiting = 0
            self._changed.notify_all()


def add_evaluation(path: Path | str, row: Mapping[str, Any]) -> None:
    """Add one evaluated system to a run database that another process may be writing.

    Raises:
        StoreError: the database is missing, locked for 30 s, full or read-only.
    """
    sql, values = evaluation_insert(row)
    try:
        with contextlib.closing(connect(Path(path), "rw")) as connection:
            # at the same time the run's own process may be writing; see `Database.write` for IMMEDIATE
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(sql, values)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise store_error("write", Path(path), error) from error


def mark_failed(path: Path | str, error: str) -> bool:
    """Record that the run failed, with a connection of its own; gives the ballast back to a full disk first.

    Never raises; returns whether the status could be written.
    """
    path = Path(path)
    try:
        with contextlib.suppress(OSError):
            # the room that a transaction of some hundred bytes needs on a full disk
            ballast(path).unlink(missing_ok=True)
        now = time.time()
        # short: this is a process's last act, and whoever stops it may be waiting
        with contextlib.closing(connect(path, "rw", timeout=5.0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            text = codec.clean_text(error)
            changed = connection.execute(
                "UPDATE run SET status = 'failed', error = ?, heartbeat_at = ?, finished_at = ?",
                (text, now, now),
            ).rowcount
            connection.execute("INSERT INTO events (at, level, text) VALUES (?, 'error', ?)", (now, text))
            connection.execute("COMMIT")
        # 0 rows: the database has no run yet, and somebody else has to record it
        return changed == 1
    except Exception:
        # called while another error is on its way, which must not be hidden
        return False
