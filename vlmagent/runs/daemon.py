"""The process that trains a run, seen from inside: its lock, its ``daemon.json``, its signals.

Deliberately knows nothing of training. Processes that look at it from outside use ``status`` and ``launch``.
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
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from vlmagent import paths
from vlmagent.errors import StoreError, UsageError
from vlmagent.files import point_link, remedy, tidy, write_text
from vlmagent.paths import Run
from vlmagent.store.reader import StoreReader
from vlmagent.text import command

SAME_PROCESS_SECONDS = 5.0
"""How far two readings of one process's start may differ, where only the clock tells when it was."""
LOCK_SECONDS = 1.0
"""How long the lock is asked for: whoever looks whether a run is held has it for microseconds."""
# Linux's random name of a boot: ticks are only comparable within one
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """``daemon.json``: which process trains this run. Times are unix seconds.

    The clock may be set while a process runs, and the start of a process is known to the system as seconds since it was
    booted. So a process is known by boot and ticks, where the system tells them; by ``create_time`` elsewhere.

    Attributes:
        boot_id, start_ticks: None where the system does not tell, and in files of earlier versions.
        resumed_end: ``finished_at`` of the run when this process took it: how long the run had been over is no news of
            this process. None where it had no end, and in files of earlier versions.
    """

    pid: int
    started: float
    host: str
    create_time: float
    boot_id: str | None = None
    start_ticks: int | None = None
    resumed_end: float | None = None


def daemon_info(run: Run) -> DaemonInfo | None:
    """What ``daemon.json`` says, or None when there is none (or it is unreadable)."""
    try:
        data = json.loads(run.daemon_file.read_text(encoding="utf-8"))
        boot_id, ticks, end = (data.get(name) for name in ("boot_id", "start_ticks", "resumed_end"))
        return DaemonInfo(
            int(data["pid"]),
            float(data["started"]),
            str(data["host"]),
            float(data["create_time"]),
            None if boot_id is None else str(boot_id),
            None if ticks is None else int(ticks),
            None if end is None else float(end),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # whatever stands there (a file of another program, of another version) only means that nothing is known
        return None


def began_at(run: Run) -> float:
    """When the process that ``daemon.json`` names took the run; 0 where it says nothing."""
    info = daemon_info(run)
    return 0.0 if info is None else info.started


def process_of(info: DaemonInfo) -> psutil.Process | None:
    """The very process that wrote ``daemon.json``: not one with a reused pid, nor a dead child of ours."""
    try:
        process = psutil.Process(info.pid)
        # a killed child stays in the system's table until its parent takes leave of it, and has its pid until then
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        ticks = start_ticks(info.pid)
        # pids are reused; pid and start together are not
        if info.boot_id is not None and info.start_ticks is not None and ticks is not None:
            same = (info.boot_id, info.start_ticks) == (boot_id(), ticks)
        else:
            # no ticks (another system, an earlier version): the start as the clock tells it, which shifts when the
            # clock is set
            near = abs(process.create_time() - info.create_time) < SAME_PROCESS_SECONDS
            same = near and info.host == platform.node()
        return process if same else None
    except (psutil.Error, OverflowError, ValueError):  # the latter: no pid of this system
        return None


def boot_id() -> str | None:
    """A name of this boot of the system, or None where it has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since the system was booted; None where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # the second field is the program's name in brackets, which may hold blanks and brackets itself
        # field 22 of /proc/PID/stat, `starttime`; the first two are cut off here, so its index is 22 - 3 = 19
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def is_held(run: Run) -> bool | None:
    """Whether a process, this one included, holds the run's lock; None where that cannot be told.

    Asks for a shared lock without waiting and gives it back at once. Two that look never see each other, and a process
    that takes the run meanwhile tries again (``LOCK_SECONDS``).
    """
    try:
        import fcntl
    except ImportError:  # a system without such locks
        return None
    try:
        descriptor = os.open(run.lock_file, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:  # none: nobody ever held it, or the file is lost; or not readable
        return None
    try:
        # shared, so that two who look do not take each other for a holder; an exclusive lock excludes it
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # among others a file system without locks
        return None
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def daemon_session(run: Run) -> Iterator[threading.Event]:
    """Hold ``run`` for this process; yields the event that is set once the process is asked to stop.

    Takes the run's lock, writes ``daemon.json``, points ``latest`` here, and turns SIGTERM and SIGINT into
    the event, however often they come.

    Raises:
        UsageError: another process holds the run, or its folder is not writable.
    """
    # an flock is let go by the kernel when its holder dies: a killed process leaves no run locked for ever
    lock = FileLock(run.lock_file, timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise already_running(run) from None
    except OSError as error:
        raise _not_writable(run, error) from None
    stop = threading.Event()
    try:
        # only under the lock: what another process is just writing would be removed
        tidy(run.path)
        tidy(run.checkpoints)
        # after the lock is held: who starts this process takes the file as the sign that the run is taken
        write_info(run)
        _point_latest(run)
        with _signals(stop):
            yield stop
    finally:
        lock.release()


def already_running(run: Run) -> UsageError:
    """The error for a second process on one run."""
    info = daemon_info(run)
    # of a process that has only just taken the run, daemon.json still tells the one before
    # a process on another host cannot be looked at from here; what the file says has to do
    known = info is not None and (info.host != platform.node() or process_of(info) is not None)
    who = f"process {info.pid} on {info.host}" if info is not None and known else "another process"
    return UsageError(
        f"The run {run} is already being trained by {who}. Watch it with `{command('vlmagent', 'tui', run)}`, "
        f"or stop it with `{command('vlmagent', 'runs', 'stop', run)}`."
    )


def write_info(run: Run) -> None:
    """Write ``daemon.json``: this process holds ``run``.

    Raises:
        UsageError: the folder is not writable.
    """
    info = DaemonInfo(
        os.getpid(),
        time.time(),
        platform.node(),
        psutil.Process().create_time(),
        boot_id(),
        start_ticks(os.getpid()),
        # read before the run is marked as started: `start_run` takes `finished_at` away
        _end_of(run),
    )
    try:
        write_text(run.daemon_file, json.dumps(dataclasses.asdict(info)) + "\n")
    except OSError as error:
        raise _not_writable(run, error) from None


def _end_of(run: Run) -> float | None:
    """When the run ended that is to go on; None where it did not, or where nothing can be read."""
    try:
        with StoreReader(run.database) as reader:
            row = reader.run()
    except StoreError:
        return None
    return None if row is None else row.finished_at


def _not_writable(run: Run, error: OSError) -> UsageError:
    return UsageError(
        f"The run folder {run} could not be written: {error.strerror or error}. {remedy(error)}."
    )


def _point_latest(run: Run) -> None:
    """Let ``runs/latest`` point at ``run``, atomically; a file system without links just does without."""
    root, run = paths.runs_dir(), run.resolve()
    # the link is a convenience; a run must not fail for it
    with contextlib.suppress(OSError):
        root.mkdir(parents=True, exist_ok=True)
        # relative where possible: a runs folder that is moved as a whole keeps its link
        point_link(root / paths.LATEST, run.name if run.path.parent == root.resolve() else str(run))


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set ``stop`` while the block runs (only possible in the main thread)."""
    # `signal.signal` raises in other threads, where tests and callers in Python may run this
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    # only an event: an exception in the middle of a step would leave the step half recorded
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
