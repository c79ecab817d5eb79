"""What a run is doing, as seen from outside: its state, its row, all runs as a list. Never imports torch."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import time
from typing import Any, Literal

from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.runs.daemon import DaemonInfo, daemon_info, is_held, process_of
from vlmagent.runs.folders import all_runs, created_at
from vlmagent.store.reader import NotReadyError, StoreReader
from vlmagent.store.rows import RunRow

RunState = Literal["starting", "running", "lost", "stopped", "done", "failed", "damaged"]

# how long a run may be without a process after it was made, and a process may take until it holds its run
START_SECONDS = 60.0
# the heart beats every 2 s (`store.connection.HEARTBEAT_SECONDS`); this allows for a slow disk between machines
STALE_SECONDS = 30.0


def is_alive(run: Run) -> bool:
    """Whether a process trains the run: the one answer that stopping, continuing, listing and watching go by.

    A held lock is alive, whoever holds it. Where nobody does, the run is not; only where the lock tells nothing (none
    there, a file system without locks, another machine that does not share them) do the process that ``daemon.json``
    names and, on another machine, the heartbeat decide. The clock of this machine counts in the last case alone.
    """
    held = is_held(run)
    if held:
        return True
    info = daemon_info(run)
    if info is None:  # a copy of a run that was being trained has a fresh heartbeat, too
        return False
    if info.host == platform.node():
        # a lock that can be read and that nobody holds is an answer: the process of that pid does something else
        return held is None and process_of(info) is not None
    # another machine that shares no locks: only the database, which both see, can tell
    row = _run_row(run)
    return isinstance(row, RunRow) and row.finished_at is None and _fresh(row)


def _fresh(row: RunRow) -> bool:
    """Whether a heartbeat is news. One from the future is: of two clocks, nobody knows which one is right."""
    return time.time() - row.heartbeat_at < STALE_SECONDS


class Heartbeats:
    """Which heartbeats stand still, for those who look again and again: by a clock of this process that nobody sets."""

    def __init__(self) -> None:
        self._seen: dict[Run, tuple[float, float]] = {}

    def is_silent(self, run: Run, row: RunRow) -> bool:
        """Whether an unfinished run's heartbeat has not moved for ``STALE_SECONDS`` of looking at it."""
        # a run that was never looked at has no beat yet, and so counts as moving
        now = time.monotonic()
        beat, since = self._seen.get(run, (None, now))
        if row.heartbeat_at != beat:
            self._seen[run] = (row.heartbeat_at, now)
            return False
        return row.finished_at is None and now - since > STALE_SECONDS


def run_state(run: Run) -> RunState:
    """What a run is doing; ``lost`` when it should be running but its process is gone."""
    return _look(run)[1]


def _look(run: Run) -> tuple[RunRow | StoreError | None, RunState]:
    """The run's row and what it means. The process is asked first: its last words come before its end."""
    info, alive = daemon_info(run), is_alive(run)
    row = _run_row(run)
    return row, _state(run, row, info, alive)


def _state(run: Run, row: RunRow | StoreError | None, info: DaemonInfo | None, alive: bool) -> RunState:
    if isinstance(row, StoreError):
        # SQLite's word for a writer in the middle of something long, not for a broken file
        return "running" if alive and "locked" in str(row) else "damaged"
    if row is None:
        # a folder that was made just now; one from the future was made before the clock was set back
        # without `daemon.json` its process may still be coming: the folder is made first
        young = info is None and abs(time.time() - created_at(run)) < START_SECONDS
        return "starting" if alive or young else "lost"
    if row.finished_at is None:
        # the row says `running` also after a kill: nobody was left to change it
        return row.status if alive else "lost"
    if not _is_to_continue(row.finished_at, info):
        return row.status
    # the row still tells the earlier end: between taking the run and recording it lies the loading of torch
    return "starting" if alive else "lost"


def _is_to_continue(finished_at: float, info: DaemonInfo | None) -> bool:
    """Whether the process of ``daemon.json`` took the run after its end, and has not yet recorded that it goes on."""
    if info is None:
        return False
    if info.resumed_end is not None:
        return info.resumed_end == finished_at
    # it took a run without an end, and ended it; of earlier versions, whose files have no ticks, only the times tell
    return info.start_ticks is None and info.started >= finished_at


def _run_row(run: Run) -> RunRow | StoreError | None:
    """The ``run`` row; None before there is one; the error when the database is damaged."""
    database = run.database
    try:
        if not database.is_file():
            return None
        with StoreReader(database) as reader:
            return reader.run()
    except NotReadyError:
        # the trainer has made the file, but not yet its tables
        return None
    except StoreError as error:
        return error


def show_run(run: Run) -> dict[str, Any]:
    """The ``run`` row's columns, ``env_steps``, ``path``, ``state``, ``pid`` and ``host``; never raises."""
    row, state = _look(run)
    steps: int | None = None
    # the row has been read: without a count of steps it is still worth showing
    if isinstance(row, RunRow):
        with contextlib.suppress(StoreError), StoreReader(run.database) as reader:
            steps = reader.env_steps()
        columns: dict[str, Any] = dataclasses.asdict(row)
    else:
        # one shape whatever became of the database: lists and `--json` have the same keys for every run
        columns = dict.fromkeys(RunRow.__dataclass_fields__)
        columns |= {"id": run.name, "error": str(row) if row else None, "created_at": created_at(run) or None}
    info = daemon_info(run)
    return {
        **columns,
        "env_steps": steps,
        "path": str(run),
        "state": state,
        "pid": info.pid if info else None,
        "host": info.host if info else None,
    }


def list_runs() -> list[dict[str, Any]]:
    """``show_run`` of every run under the runs folder, newest first; a damaged one is listed as such."""
    return [show_run(folder) for folder in all_runs()]
