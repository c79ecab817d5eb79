"""What a run is doing, as seen from outside: its state, its row, all runs as a list. Never imports torch."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import time
from typing import Any, Literal

from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.runs.daemon import DaemonInfo, daemon_info, process_of
from vlmagent.runs.folders import all_runs, created_at
from vlmagent.store.reader import NotReadyError, StoreReader
from vlmagent.store.rows import RunRow

RunState = Literal["starting", "running", "lost", "stopped", "done", "failed", "damaged"]

START_SECONDS = 60.0
STALE_SECONDS = 30.0


def is_alive(run: Run) -> bool:
    """Whether the run's process exists; on another host: whether its heartbeat is fresh."""
    info = daemon_info(run)
    if info is None:
        return False
    if info.host != platform.node():
        row = _run_row(run)
        return isinstance(row, RunRow) and row.finished_at is None and _fresh(row)
    return process_of(info) is not None


def _fresh(row: RunRow) -> bool:
    return time.time() - row.heartbeat_at < STALE_SECONDS


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
        return "running" if alive and "locked" in str(row) else "damaged"
    if row is None:
        young = info is None and time.time() - created_at(run) < START_SECONDS
        return "starting" if alive or young else "lost"
    if row.finished_at is not None:
        if info is None or info.started < row.finished_at:
            return row.status
        return "starting" if alive else "lost"  # it was to continue
    return row.status if alive else "lost"


def _run_row(run: Run) -> RunRow | StoreError | None:
    """The ``run`` row; None before there is one; the error when the database is damaged."""
    database = run.database
    try:
        if not database.is_file():
            return None
        with StoreReader(database) as reader:
            return reader.run()
    except NotReadyError:
        return None
    except StoreError as error:
        return error


def show_run(run: Run) -> dict[str, Any]:
    """The ``run`` row's columns, ``env_steps``, ``path``, ``state``, ``pid`` and ``host``; never raises."""
    row, state = _look(run)
    steps: int | None = None
    if isinstance(row, RunRow):
        with contextlib.suppress(StoreError), StoreReader(run.database) as reader:
            steps = reader.env_steps()
        columns: dict[str, Any] = dataclasses.asdict(row)
    else:
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
