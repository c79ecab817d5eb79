"""All runs as the list shows them; a run that has not changed is not read again.

Deliberately knows no widget. ``scan`` reads files: call it on a worker's thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vlmagent import paths
from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.runs import folders
from vlmagent.runs import status as runs_status
from vlmagent.runs.daemon import began_at
from vlmagent.runs.follow import Goal
from vlmagent.runs.worked import WorkedTime, end_of
from vlmagent.store.reader import StoreReader
from vlmagent.store.rows import RunRow
from vlmagent.tui.data.live import seen_state
from vlmagent.tui.data.states import LIVE


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run of the list. Times are unix seconds; what is not known is None or empty.

    Attributes:
        success: success rate of every update so far.
        speed: environment steps per second of the last update.
        trained: seconds in all its sessions, when it was looked at.
        error: why it failed, or why it cannot be read.
        alive: whether its process exists.
    """

    run: Run
    state: str
    task: str = ""
    model: str = ""
    seed: int | None = None
    env_steps: int | None = None
    goal_steps: int = 0
    success: tuple[float, ...] = ()
    speed: float | None = None
    created_at: float | None = None
    trained: float | None = None
    error: str = ""
    alive: bool = False

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.run.name

    @property
    def locked(self) -> bool:
        """Whether another program kept it from being read, for the moment."""
        return self.state == "damaged" and "locked" in self.error

    @property
    def searchable(self) -> str:
        """What a filter looks through."""
        return f"{self.name} {self.task} {self.model} {self.state}".lower()


# (time of change in ns, bytes) of each file that tells of a change
_Signature = tuple[tuple[int, int], ...]


class Catalogue:
    """Lists the runs under the runs folder and one more that may lie elsewhere."""

    def __init__(self, extra: Run | None = None) -> None:
        self._extra = None if extra is None else extra.resolve()
        self._known: dict[Run, tuple[_Signature, RunSummary]] = {}
        self._beats = runs_status.Heartbeats()

    def scan(self) -> list[RunSummary]:
        """All runs, newest first. A run that cannot be read is listed as ``damaged``; never raises."""
        runs = [run.resolve() for run in folders.all_runs()]
        if self._extra is not None and self._extra not in runs and self._extra.exists():
            runs.insert(0, self._extra)
        # a new table: runs that were deleted are forgotten
        self._known = {run: self._look(run) for run in runs}
        summaries = [summary for _, summary in self._known.values()]
        return sorted(summaries, key=lambda summary: -(summary.created_at or 0.0))

    def _look(self, run: Run) -> tuple[_Signature, RunSummary]:
        signature = _signature(run)
        known = self._known.get(run)
        # a lock leaves no trace in the files: a run that was kept from being read must be tried again
        if known is None or known[0] != signature or known[1].locked:
            return signature, summarise(run, self._beats)
        if known[1].state in LIVE or known[1].alive:  # its process may have died without a word
            state, alive = _state(run, runs_status.show_run(run), self._beats)
            return signature, replace(known[1], state=state, alive=alive)
        return known


def summarise(run: Run, beats: runs_status.Heartbeats) -> RunSummary:
    """Read one run. Never raises.

    Args:
        beats: what is known of heartbeats from looking at runs before.
    """
    shown = runs_status.show_run(run)
    state, alive = _state(run, shown, beats)
    summary = RunSummary(
        run=run,
        state=state,
        task=str(shown["task"] or ""),
        model=str(shown["model"] or ""),
        seed=shown["seed"],
        env_steps=shown["env_steps"],
        goal_steps=_goal(shown["config_json"], int(shown["env_steps"] or 0), str(shown["status"] or "")),
        created_at=shown["created_at"],
        error=str(shown["error"] or ""),
        alive=alive,
    )
    try:
        with StoreReader(run.database) as reader:
            row, events = reader.run(), reader.events()
            success = reader.metric_series("rollout/success")
            speed = [one.value for one in reader.metric_series("rollout/env_steps_per_second")]
    # the row is worth showing without its curve; what is wrong stands in `error`
    except (StoreError, OSError, ValueError):
        return summary
    trained = None
    if row is not None:
        # any metric would do: all of an update are written at once
        worked = WorkedTime(row.created_at)
        worked.take(events, success)
        live = state in LIVE
        trained = worked.seconds(end_of(row, live, time.time()), began_at(run) if live else 0.0)
    values = tuple(one.value for one in success)
    return replace(summary, success=values, speed=speed[-1] if speed else None, trained=trained)


def _state(run: Run, shown: Mapping[str, Any], beats: runs_status.Heartbeats) -> tuple[str, bool]:
    """The state as the dashboard sees it, and whether the run's process exists."""
    state = str(shown["state"])
    # there is no row, only a folder: nobody's silence can be told
    if shown["heartbeat_at"] is None:
        return state, state in LIVE
    # `show_run` lists the columns of the row beside what it found out itself
    row = RunRow(**{name: shown[name] for name in RunRow.__dataclass_fields__})
    # from the state before silence is counted in: a process that says nothing is shown as lost but can be stopped
    return seen_state(state, run, row, beats), state in LIVE


def _goal(config_json: str | None, env_steps: int, status: str) -> int:
    """Environment steps of a run that has made ``env_steps``; 0 when unknown."""
    try:
        return Goal.of(json.loads(config_json or "{}"), (0, env_steps), status).env_steps
    # no JSON: the row of a damaged database
    except ValueError:
        return 0


def _signature(run: Run) -> _Signature:
    """Sizes and times of the files that change when a run does."""
    found = []
    # a commit changes the `-wal` only, a checkpoint of SQLite the database, a start `daemon.json`
    for name in (paths.DATABASE, f"{paths.DATABASE}-wal", paths.DAEMON):
        try:
            status = (run.path / name).stat()
            found.append(
                (status.st_mtime_ns, status.st_size) if status.st_size else (0, 0)
            )  # readers make empty ones
        except OSError:
            found.append((0, 0))
    return tuple(found)
