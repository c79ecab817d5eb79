"""The one connection that writes a run database, and the statements it knows.

Deliberately knows neither threads nor batches (``writer.py`` has those); used by one thread at a time.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmagent.errors import StoreError
from vlmagent.store import codec
from vlmagent.store.rows import AnswerRow
from vlmagent.types import EpisodeEnd, EpisodeStart, ImageArray, Transition

# seconds; who looks from another machine takes a run for lost after 15 missed beats (`runs.status.STALE_SECONDS`)
HEARTBEAT_SECONDS = 2.0
# seconds that a write waits for another writer (an evaluation that is being added) before it fails
BUSY_SECONDS = 30.0
JOURNAL_SECONDS = 2.0
"""How long a change of the journal waits for those who have the database open."""
BALLAST_BYTES = 256 * 1024
# keys of pictures that need no look-up: bounds the memory of a run that shows millions of different ones
KNOWN_IMAGES = 65_536
FINISHED = ("stopped", "done", "failed")
_EVALUATION_COLUMNS = (
    "at", "task", "system", "rule_set", "checkpoint", "env_steps", "episodes", "success", "success_low",
    "success_high", "mean_return", "return_low", "return_high", "legal_rate", "goal_rate", "seed",
    "temperature",
)  # fmt: skip
_INSERT_TRANSITION = """INSERT INTO transitions (id, episode_id, update_index, env_index, step, image_sha256,
    prompt, output, thoughts, action_text, action, legal_output, reward, terminated, truncated, value,
    bootstrap_value, logprob, thought_logprob, action_logprob, token_ids, token_logprobs, action_start, actor)
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"""

Record = Callable[["Database"], object]
"""One change, carried out inside a transaction."""


class Database:
    """The connection and its statements; used by one thread at a time.

    Attributes:
        journal_mode: the journal that SQLite keeps, which is not always the one asked for.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, journal_mode: str) -> None:
        self.connection = connection
        self.path = path
        self.journal_mode = journal_mode
        self.next_beat = 0.0
        self._known: OrderedDict[bytes, str] = OrderedDict()
        # short names for what nearly every method does
        self.run = connection.execute
        self.run_many = connection.executemany

    @classmethod
    def open(cls, path: Path, journal_mode: str) -> Database:
        """Open or create the file, migrate it and reserve the ballast.

        Raises:
            StoreError: none of this was possible.
        """
        from vlmagent.store.migrations import migrate

        connection: sqlite3.Connection | None = None
        try:
            connection = connect(path, "rwc")
            # before the schema: the journal can only change outside a transaction
            used = _set_journal(connection, journal_mode)
            # WAL with NORMAL syncs at checkpoints alone and still never corrupts; a rollback journal needs FULL for
            # that
            connection.execute(f"PRAGMA synchronous = {'NORMAL' if used == 'wal' else 'FULL'}")
            migrate(connection, path)
            _write_ballast(path)
        except BaseException as error:
            if connection is not None:
                # nobody else would close it: an open connection keeps the file, and perhaps a lock on it
                connection.close()
            if isinstance(error, (sqlite3.Error, OSError)):
                raise store_error("open", path, error) from error
            raise
        return cls(connection, path, used)

    def write(self, records: Sequence[Record], sync: bool) -> None:
        """All ``records`` in one transaction; with ``sync`` they are on the disk afterwards."""
        if records:
            # IMMEDIATE takes the write lock first: `keep_image` reads before it writes, and a lock that is asked for
            # only then is refused at once, without waiting, when somebody else wrote in between
            self.connection.execute("BEGIN IMMEDIATE")
            for record in records:
                record(self)
            self.connection.execute("COMMIT")
        if sync:  # in WAL mode a commit survives a crash of the program; this lets it survive a power cut
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def beat(self) -> None:
        """Renew the heartbeat of an unfinished run if it is due. A locked database only delays it."""
        if time.monotonic() < self.next_beat:
            return
        self.next_beat = time.monotonic() + HEARTBEAT_SECONDS
        try:
            # an ended run has no pulse: its row tells when it ended, and copies of it must not look alive
            self.run("UPDATE run SET heartbeat_at = ? WHERE finished_at IS NULL", (time.time(),))
        except sqlite3.OperationalError as error:
            # anything else (a full disk, a file that is gone) would hit the next batch, too: it ends the thread
            if "locked" not in str(error):
                raise

    def close(self) -> None:
        """Fold the WAL into the database and close; the ballast is no longer needed."""
        # so that one file is the whole run: people copy and move `run.db` without what lies beside it
        with contextlib.suppress(sqlite3.Error):  # a reader may hold it: the WAL then simply stays
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self.connection.close()
        with contextlib.suppress(OSError):
            ballast(self.path).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Undo the open transaction and let go of the file; the ballast stays for ``mark_failed``."""
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        finally:
            self.connection.close()

    def start_run(self, texts: Sequence[str], seed: int) -> None:
        """Insert or renew the run; ``texts`` are id, task, model and config."""
        id_, task, model, config_json = texts
        now = time.time()
        self.run(
            # two statements, since a run that goes on keeps its id and its start but takes everything else anew
            "INSERT INTO run (id, task, model, status, config_json, seed, created_at, heartbeat_at) "
            "SELECT ?,?,?,?,?,?,?,? WHERE NOT EXISTS (SELECT 1 FROM run)",
            (id_, task, model, "starting", config_json, seed, now, now),
        )
        self.run(
            "UPDATE run SET task = ?, model = ?, status = 'starting', config_json = ?, seed = ?, "
            "heartbeat_at = ?, finished_at = NULL, error = NULL",
            (task, model, config_json, seed, now),
        )

    def set_status(self, status: str, error: str | None, now: float) -> None:
        """See ``StoreWriter.set_status``."""
        self.run(
            "UPDATE run SET status = ?, error = ?, heartbeat_at = ?, finished_at = ?",
            (status, error and codec.clean_text(error), now, now if status in FINISHED else None),
        )

    def start_episode(self, episode: EpisodeStart) -> None:
        """Insert an episode, or leave what is known of it."""
        # after a resume the episodes that were under way are begun once more: their ends, if known, stay
        self.run(
            "INSERT INTO episodes (id, split, env_index, seed, ended) VALUES (?,?,?,?,'running') "
            "ON CONFLICT (id) DO UPDATE SET split = excluded.split, env_index = excluded.env_index, "
            "seed = excluded.seed",
            (int(episode.id), episode.split, int(episode.env_index), int(episode.seed)),
        )

    def end_episode(self, episode: EpisodeEnd) -> None:
        """Complete an episode; its transitions are there already."""
        id_ = int(episode.id)
        self.run(
            # summed up here once, so that lists of episodes need not visit their transitions
            "UPDATE episodes SET length = ?, episode_return = ?, success = ?, goal = ?, ended = ?, "
            "update_index = (SELECT max(update_index) FROM transitions WHERE episode_id = ?), "
            "illegal = (SELECT count(*) FROM transitions WHERE episode_id = ? AND NOT legal_output) "
            "WHERE id = ?",
            (
                int(episode.length), codec.number(episode.episode_return), int(episode.success),
                int(episode.goal), episode.ended, id_, id_, id_,
            ),
        )  # fmt: skip

    def set_advantages(self, rows: Sequence[tuple[float | None, float | None, int, int]]) -> None:
        """Update transitions; ``rows`` are advantage, return, id, update index."""
        # the update as well as the id: an id of another update is a mistake, which the count below finds
        sql = "UPDATE transitions SET advantage = ?, return_ = ? WHERE id = ? AND update_index = ?"
        changed = self.run_many(sql, rows).rowcount if rows else 0
        # a row that is missing means that trainer and database disagree on the ids: no training goes on from there
        if changed != len(rows):
            raise ValueError(
                f"advantages for {len(rows)} transitions were given, but {changed} of them exist"
            )

    def insert_transition(self, row: Transition) -> None:
        """Insert one environment step and its picture."""
        decision, text, number = row.decision, codec.clean_text, codec.number
        tokens = decision.generation
        self.run(
            _INSERT_TRANSITION,
            (
                int(row.id), int(row.episode_id), int(row.update_index), int(row.env_index), int(row.step),
                self.keep_image(row.image), text(decision.prompt), text(decision.output),
                text(decision.thoughts), text(decision.parsed.action_text), text(str(decision.parsed.action)),
                int(decision.parsed.legal_output), number(row.reward), int(row.terminated),
                int(row.truncated), number(row.value), number(row.bootstrap_value), number(decision.logprob),
                number(decision.thought_logprob), number(decision.action_logprob),
                codec.encode_ints(tokens.token_ids) if tokens else None,
                codec.encode_floats(tokens.token_logprobs) if tokens else None,
                int(tokens.action_start) if tokens else None, decision.actor and text(decision.actor),
            ),
        )  # fmt: skip

        if decision.error is not None:
            self.run("INSERT INTO failures VALUES (?,?)", (int(row.id), text(decision.error)))

    def insert_answer(self, row: AnswerRow) -> None:
        """Insert what one request came to."""
        optional = [
            None if value is None else codec.clean_text(value) for value in (row.finish_reason, row.error)
        ]
        self.run(
            "INSERT INTO answers (at, key, text, refusal, finish_reason, input_tokens, output_tokens, cost, attempts, "
            "seconds, error) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (
                time.time(), row.key, codec.clean_text(row.text), int(row.refusal), optional[0], row.input_tokens,
                row.output_tokens, codec.number(row.cost), int(row.attempts), codec.number(row.seconds), optional[1],
            ),
        )  # fmt: skip

    def keep_image(self, image: ImageArray) -> str:
        """Store a picture unless its content is already there; returns its key."""
        quick = codec.picture_key(image)
        known = self._known.get(quick)
        if known is not None:
            # at the end it is not the next one to be dropped
            self._known.move_to_end(quick)
            return known
        key = codec.image_key(image)
        # not known to this process may still be stored: by an earlier process of the run, or before the key was dropped
        if not self.run("SELECT 1 FROM images WHERE sha256 = ?", (key,)).fetchall():
            height, width = image.shape[:2]
            self.run(
                "INSERT INTO images (sha256, width, height, mime, data) VALUES (?,?,?,?,?)",
                (key, width, height, codec.PNG, codec.encode_image(image)),
            )
        self._known[quick] = key
        if len(self._known) > KNOWN_IMAGES:
            self._known.popitem(last=False)
        return key


def evaluation_insert(row: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """The statement and values that add an ``evaluations`` row."""
    # `at` may be given: results that are imported keep their time
    known = {"at": time.time(), **row}
    # an interval comes as a pair `(low, high)` and is stored in two columns
    for name in ("success", "return"):
        if row.get(f"{name}_ci") is not None:
            known[f"{name}_low"], known[f"{name}_high"] = row[f"{name}_ci"]
    values = [_plain(known.get(name)) for name in _EVALUATION_COLUMNS]
    document = json.dumps({key: _plain(value) for key, value in row.items()}, default=str)
    columns, marks = ", ".join(_EVALUATION_COLUMNS), ",".join("?" * (len(values) + 1))
    return f"INSERT INTO evaluations ({columns}, json) VALUES ({marks})", (*values, document)


def _plain(value: Any) -> Any:
    """``value`` as SQLite and JSON take it: numpy scalars become Python's, NaN and infinities None."""
    # numpy and torch scalars; both have `item`, and `json` takes neither
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    # JSON has no words for them, and SQLite no NaN
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return codec.clean_text(value)
    return str(value) if isinstance(value, Path) else value


def connect(path: Path, mode: str, timeout: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection with explicit transactions. ``mode``: rwc creates the file, rw does not."""
    # a URI, because only there the mode can be said: without one, opening a wrong path would create a file
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    # `isolation_level=None`: Python would otherwise begin transactions by itself, and not IMMEDIATE ones. The
    # connection is made in one thread and used by the writer's, never by both at once
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=timeout)


def _set_journal(connection: sqlite3.Connection, wanted: str) -> str:
    """Ask for a journal; returns the one that is kept.

    SQLite changes it only while nobody else has the database open. A dashboard that is looking must not keep a run from
    going on: then it stays as it is until the next start.
    """
    # a short wait for the journal, the usual long one for everything behind it
    connection.execute(f"PRAGMA busy_timeout = {int(1000 * JOURNAL_SECONDS)}")
    try:
        found = connection.execute(f"PRAGMA journal_mode = {wanted}").fetchall()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        found = connection.execute("PRAGMA journal_mode").fetchall()
    connection.execute(f"PRAGMA busy_timeout = {int(1000 * BUSY_SECONDS)}")
    return str(found[0][0])


def ballast(path: Path) -> Path:
    """The file that keeps a little disk reserved beside the database."""
    return path.with_name(f".{path.name}.ballast")


def _write_ballast(path: Path) -> None:
    """Reserve a little disk, so that a full one still has room for the last words."""
    file = ballast(path)
    if not file.exists() or file.stat().st_size < BALLAST_BYTES:
        # random bytes: a file system that compresses would reserve next to nothing for zeros
        file.write_bytes(os.urandom(BALLAST_BYTES))


_NO_SPACE = "Free some space on that disk; a training run then continues with `vlmagent train --resume RUN`."


def store_error(verb: str, path: Path, error: BaseException) -> StoreError:
    """One sentence on what could not be done, and what to do."""
    text = str(error)
    remedies = (
        ("disk is full", _NO_SPACE),
        ("No space left", _NO_SPACE),
        ("readonly", "Make the folder writable, or choose another one with --run-dir."),
        ("Read-only", "Make the folder writable, or choose another one with --run-dir."),
        ("unable to open", "Check that the folder exists and is writable."),
        (
            "locked",
            "Another program holds it; close that one. On a network disk: --set store.journal_mode=delete.",
        ),
        ("not a database", "Choose another path: this file is something else."),
        ("malformed", "The file is damaged; restore a copy, or start a new run."),
        ("UNIQUE constraint", "It already holds this step; start a new run, or continue with --resume."),
        ("disk I/O error", "Check that the disk is still there, has space and allows file locks."),
    )
    # SQLite tells the kind of a failure reliably only in its text; the first that fits
    todo = next((remedy for word, remedy in remedies if word.lower() in text.lower()), "")
    reason = text or type(error).__name__
    return StoreError(f"The run database {path} could not be {_PAST[verb]}: {reason}. {todo}".strip())


_PAST = {"open": "opened", "write": "written"}
