"""The process that trains a run, seen from inside: its lock, its ``daemon.json``, its signals.

Deliberately knows neither training nor the database. Processes that look at it from outside use ``launch``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
from filelock import FileLock, Timeout

from vlmagent import paths
from vlmagent.errors import UsageError
from vlmagent.files import point_link, tidy, write_text
from vlmagent.paths import Run
from vlmagent.text import command

SAME_PROCESS_SECONDS = 5.0
"""How far two readings of one process's start may differ (the system clock may be set in between)."""


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """``daemon.json``: which process trains this run. Times are unix seconds."""

    pid: int
    started: float
    host: str
    create_time: float


def daemon_info(run: Run) -> DaemonInfo | None:
    """What ``daemon.json`` says, or None when there is none (or it is unreadable)."""
    try:
        data = json.loads(run.daemon_file.read_text(encoding="utf-8"))
        return DaemonInfo(
            int(data["pid"]), float(data["started"]), str(data["host"]), float(data["create_time"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def process_of(info: DaemonInfo) -> psutil.Process | None:
    """The very process that wrote ``daemon.json``: not one with a reused pid, nor a dead child of ours."""
    try:
        process = psutil.Process(info.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process if abs(process.create_time() - info.create_time) < SAME_PROCESS_SECONDS else None
    except psutil.Error:
        return None


@contextlib.contextmanager
def daemon_session(run: Run) -> Iterator[threading.Event]:
    """Hold ``run`` for this process; yields the event that is set once the process is asked to stop.

    Takes the run's lock, writes ``daemon.json``, points ``latest`` here, and turns SIGTERM and SIGINT into
    the event, however often they come.

    Raises:
        UsageError: another process holds the run, or its folder is not writable.
    """
    lock = FileLock(run.lock_file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise already_running(run, daemon_info(run)) from None
    except OSError as error:
        raise UsageError(f"The run folder {run} is not writable: {error.strerror or error}.") from None
    stop = threading.Event()
    try:
        tidy(run.path)
        tidy(run.checkpoints)
        write_info(run)
        _point_latest(run)
        with _signals(stop):
            yield stop
    finally:
        lock.release()


def already_running(run: Run, info: DaemonInfo | None) -> UsageError:
    """The error for a second process on one run."""
    who = f"process {info.pid} on {info.host}" if info else "another process"
    return UsageError(
        f"The run {run} is already being trained by {who}. Watch it with `{command('vlmagent', 'tui', run)}`, "
        f"or stop it with `{command('vlmagent', 'runs', 'stop', run)}`."
    )


def write_info(run: Run) -> None:
    """Write ``daemon.json``: this process holds ``run``.

    Raises:
        UsageError: the folder is not writable.
    """
    info = DaemonInfo(os.getpid(), time.time(), platform.node(), psutil.Process().create_time())
    try:
        write_text(run.daemon_file, json.dumps(dataclasses.asdict(info)) + "\n")
    except OSError as error:
        raise UsageError(f"The run folder {run} is not writable: {error.strerror or error}.") from None


def _point_latest(run: Run) -> None:
    """Let ``runs/latest`` point at ``run``, atomically; a file system without links just does without."""
    root, run = paths.runs_dir(), run.resolve()
    with contextlib.suppress(OSError):
        root.mkdir(parents=True, exist_ok=True)
        point_link(root / paths.LATEST, run.name if run.path.parent == root.resolve() else str(run))


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set ``stop`` while the block runs (only possible in the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
