"""Creates, starts, finds, stops and copies runs: everything about a run's folder and its process.

Deliberately knows nothing of training: a daemon is a command that enters ``daemon_session``. Never imports
torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import psutil

from vlmagent import paths
from vlmagent.config import Config, dump_config, load_config, parse_overrides
from vlmagent.daemon import DaemonInfo, already_running, daemon_info, daemon_session, process_of
from vlmagent.errors import RunFailedError, StoreError, UsageError, VlmAgentError, nearest
from vlmagent.store.reader import NotReadyError, StoreReader, copy_database
from vlmagent.store.rows import RunRow

__all__ = [
    "create_run", "create_session", "daemon_session", "export_run", "is_alive", "is_run", "list_runs", "log_tail",
    "resolve_run", "run_folders", "run_state", "show_run", "start_daemon", "stop_run", "update_config",
]  # fmt: skip

RunState = Literal["starting", "running", "lost", "stopped", "done", "failed", "damaged"]

START_SECONDS = 60.0
STALE_SECONDS = 30.0
POLL_SECONDS = 0.05
_children: list[subprocess.Popen[bytes]] = []  # kept, so that Python does not warn about them


# Finding and creating


def is_run(folder: Path) -> bool:
    """Whether ``folder`` holds a run: a config or a database."""
    return (folder / paths.CONFIG).is_file() or (folder / paths.DATABASE).is_file()


def run_folders() -> list[Path]:
    """All runs under the runs folder, newest first."""
    try:
        entries = [entry for entry in paths.runs_dir().iterdir() if not entry.is_symlink() and is_run(entry)]
    except OSError:
        return []
    return sorted(entries, key=_created, reverse=True)


def resolve_run(name: str | Path | None = None) -> Path:
    """The folder of a run, absolute.

    Args:
        name: a path, a run's name or the unique beginning of one; None, ``latest`` and ``runs/latest`` mean
            the newest.

    Raises:
        UsageError: there is no such run; says what is missing and which runs there are.
    """
    text = paths.LATEST if name is None else str(name)
    if text in (paths.LATEST, f"runs/{paths.LATEST}", str(paths.runs_dir() / paths.LATEST)):
        return _latest_run()
    for folder in (Path(text), paths.runs_dir() / text):
        if is_run(folder):
            return folder.resolve()
        if folder.is_file() and is_run(folder.parent):
            return folder.parent.resolve()
    if Path(text).is_dir():
        raise UsageError(
            f"{text} is no run: it has neither {paths.CONFIG} nor {paths.DATABASE}. {_known_runs()}"
        )
    matches = [folder for folder in run_folders() if folder.name.startswith(text)]
    if len(matches) == 1:
        return matches[0].resolve()
    if matches:
        names = ", ".join(folder.name for folder in matches[:5])
        raise UsageError(f"'{text}' is the beginning of several runs: {names}. Write more of the name.")
    close = nearest(text, [folder.name for folder in run_folders()])
    hint = f" Did you mean '{close}'?" if close else ""
    raise UsageError(f"There is no run '{text}'.{hint} {_known_runs()}")


def create_run(config: Config, run_dir: Path | None = None, *, suffix: str = "") -> Path:
    """Make the folder of a new run and write its config.

    Args:
        run_dir: where; None makes ``<time>-<task><suffix>`` under the runs folder.

    Raises:
        UsageError: ``run_dir`` holds something already, or the place is not writable.
    """
    try:
        folder = _new_folder(config.task + suffix) if run_dir is None else _given_folder(run_dir)
        with (folder / paths.CONFIG).open("x", encoding="utf-8") as file:
            file.write(dump_config(config))
    except FileExistsError:
        raise _holds_a_run(run_dir or paths.runs_dir()) from None
    except OSError as error:
        place = run_dir or paths.runs_dir()
        raise UsageError(
            f"The run folder {place} could not be written: {error.strerror or error}. "
            "Choose another place with --run-dir or $VLMAGENT_RUNS."
        ) from None
    return folder.resolve()


def create_session(task: str) -> Path:
    """Make the folder ``<time>-<task>-play`` for a session of play that belongs to no run.

    It gets no config: it can be listed and replayed, not trained.

    Raises:
        UsageError: the place is not writable.
    """
    try:
        return _new_folder(f"{task}-play").resolve()
    except OSError as error:
        raise UsageError(
            f"No folder could be made in {paths.runs_dir()}: {error.strerror or error}. "
            "Set $VLMAGENT_RUNS to another place."
        ) from None


def update_config(run: Path, overrides: Sequence[str]) -> Config:
    """Apply ``--set`` pairs to the config of a run that is about to be continued; returns the result.

    Raises:
        UsageError: a pair is not valid, the run is being trained, or its config cannot be read or written.
    """
    path = run / paths.CONFIG
    config = load_config(path, parse_overrides(overrides))
    if not overrides:
        return config
    info = daemon_info(run)
    if info is not None and is_alive(run):
        raise already_running(run, info)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(dump_config(config), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{path} could not be written: {error.strerror or error}.") from None
    return config


def _latest_run() -> Path:
    link = paths.runs_dir() / paths.LATEST
    if is_run(link):
        return link.resolve()
    folders = run_folders()
    folders = [folder for folder in folders if (folder / paths.CONFIG).is_file()] or folders
    if not folders:
        raise UsageError(
            f"There is no run under {paths.runs_dir()} yet. Start one: vlmagent train numberline"
        )
    return folders[0].resolve()


def _known_runs() -> str:
    names = [folder.name for folder in run_folders()[:5]]
    if not names:
        return f"There are no runs under {paths.runs_dir()}; start one: vlmagent train numberline"
    return f"Newest runs: {', '.join(names)}."


def _created(folder: Path) -> float:
    for name in (paths.CONFIG, paths.DATABASE):
        with contextlib.suppress(OSError):
            return (folder / name).stat().st_mtime
    return 0.0


def _new_folder(task: str) -> Path:
    """Make ``<time>-<task>``; a number is added when another process was faster."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", task).strip("-.") or "task"
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}"
    paths.runs_dir().mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = paths.runs_dir() / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise UsageError(
        f"{paths.runs_dir()} already holds a thousand runs named {name}. Choose another --run-dir."
    )


def _given_folder(folder: Path) -> Path:
    if folder.is_dir() and is_run(folder):
        raise _holds_a_run(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--run-dir {folder} is not an empty folder. Choose a new one.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _holds_a_run(folder: Path) -> UsageError:
    return UsageError(
        f"--run-dir {folder} already holds a run. Continue it with `vlmagent train --resume {folder}`, "
        "or choose a new folder."
    )


# The daemon, from outside


def daemon_command(run: Path) -> list[str]:
    """The command that trains ``run`` in a process of its own."""
    return [sys.executable, "-m", "vlmagent", "_daemon", str(run)]


def start_daemon(
    run: Path, command: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> int:
    """Start the process that trains ``run``, detached from this one; returns its pid once it holds the run.

    Args:
        command: what to run; ``daemon_command`` by default.
        environment: variables that the process gets beside ours.

    Raises:
        UsageError: a process already trains this run, or its folder is not writable.
        RunFailedError: the process ended at once; quotes the end of its log.
    """
    info = daemon_info(run)
    if info is not None and is_alive(run):
        raise already_running(run, info)
    log = run / paths.LOG
    try:
        output = log.open("ab")
    except OSError as error:
        raise UsageError(f"The run folder {run} is not writable: {error.strerror or error}.") from None
    with output:
        offset = log.stat().st_size
        process = subprocess.Popen(
            list(command or daemon_command(run)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=True,
            # waiting threads must not spin: two runs on the same cores would each slow down tenfold
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **(environment or {}), "PYTHONUNBUFFERED": "1"},
        )
    for earlier in _children:
        earlier.poll()  # takes leave of one that ended: a long reproduction would gather zombies
    _children.append(process)
    _await_start(run, process, offset)
    return process.pid


def _await_start(run: Path, process: subprocess.Popen[bytes], offset: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        ended = process.poll()
        info = daemon_info(run)
        if info is not None and info.pid == process.pid:
            return
        if ended is None and time.monotonic() > deadline:
            process.kill()
            ended = process.wait()
        if ended is not None:
            break
        time.sleep(POLL_SECONDS)
    with (run / paths.LOG).open("rb") as file:
        file.seek(offset)
        said = file.read().decode(errors="replace").strip().splitlines()[-8:]
    kind = UsageError if ended == UsageError.exit_code else RunFailedError
    quoted = "\n".join(said) or "(it wrote nothing)"
    raise kind(
        f"The training process ended with code {ended} before it began. "
        f"{run / paths.LOG} ends with:\n{quoted}"
    )


def is_alive(run: Path) -> bool:
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


def stop_run(run: Path, timeout: float = 120.0) -> RunState:
    """Ask a run's process to finish its step, save and end; waits for that and returns the final state.

    Raises:
        UsageError: the run is not running, is lost, or runs on another host.
        VlmAgentError: it may not be signalled, or has not ended after ``timeout`` seconds.
    """
    info = daemon_info(run)
    if info is not None and info.host != platform.node() and is_alive(run):
        raise UsageError(
            f"The run {run.name} runs on host {info.host}. Stop it there: vlmagent runs stop {run}"
        )
    process = None if info is None else process_of(info)
    if info is None or process is None:
        state = run_state(run)
        more = (
            f" Its process is gone; continue it with `vlmagent train --resume {run}`."
            if state == "lost"
            else ""
        )
        raise UsageError(f"The run {run.name} is not running: it is {state}.{more}")
    try:
        process.send_signal(signal.SIGTERM)
    except psutil.AccessDenied:
        raise VlmAgentError(f"The process {info.pid} of {run.name} belongs to another user.") from None
    except psutil.NoSuchProcess:
        return run_state(run)
    deadline = time.monotonic() + timeout
    while process_of(info) is not None:
        if time.monotonic() > deadline:
            raise VlmAgentError(
                f"The run {run.name} was told to stop, but is still finishing its step after {timeout:g} s. "
                f"Look again with `vlmagent runs show {run.name}`; `kill -9 {info.pid}` ends it unsaved."
            )
        time.sleep(POLL_SECONDS)
    return run_state(run)


# Looking at runs


def run_state(run: Path) -> RunState:
    """What a run is doing; ``lost`` when it should be running but its process is gone."""
    return _look(run)[1]


def _look(run: Path) -> tuple[RunRow | StoreError | None, RunState]:
    """The run's row and what it means. The process is asked first: its last words come before its end."""
    info, alive = daemon_info(run), is_alive(run)
    row = _run_row(run)
    return row, _state(run, row, info, alive)


def _state(run: Path, row: RunRow | StoreError | None, info: DaemonInfo | None, alive: bool) -> RunState:
    if isinstance(row, StoreError):
        return "running" if alive and "locked" in str(row) else "damaged"
    if row is None:
        young = info is None and time.time() - _created(run) < START_SECONDS
        return "starting" if alive or young else "lost"
    if row.finished_at is not None:
        if info is None or info.started < row.finished_at:
            return row.status
        return "starting" if alive else "lost"  # it was to continue
    return row.status if alive else "lost"


def _run_row(run: Path) -> RunRow | StoreError | None:
    """The ``run`` row; None before there is one; the error when the database is damaged."""
    database = run / paths.DATABASE
    try:
        if not database.is_file():
            return None
        with StoreReader(database) as reader:
            return reader.run()
    except NotReadyError:
        return None
    except StoreError as error:
        return error


def show_run(run: Path) -> dict[str, Any]:
    """The ``run`` row's columns, ``env_steps``, ``path``, ``state``, ``pid`` and ``host``; never raises."""
    row, state = _look(run)
    steps: int | None = None
    if isinstance(row, RunRow):
        with contextlib.suppress(StoreError), StoreReader(run / paths.DATABASE) as reader:
            steps = reader.env_steps()
        columns: dict[str, Any] = dataclasses.asdict(row)
    else:
        columns = dict.fromkeys(RunRow.__dataclass_fields__)
        columns |= {"id": run.name, "error": str(row) if row else None, "created_at": _created(run) or None}
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
    return [show_run(folder) for folder in run_folders()]


def log_tail(run: Path, lines: int = 50, follow: bool = False) -> Iterator[str]:
    """The last ``lines`` of a run's log; with ``follow`` also what comes until the run ends."""
    path = run / paths.LOG
    position, rest = 0, b""
    if path.exists():
        data = path.read_bytes()
        position = len(data)
        whole, _, rest = data.rpartition(b"\n")
        if not follow and rest:
            whole, rest = data, b""
        shown = whole.splitlines()
        yield from (line.decode(errors="replace") for line in shown[max(0, len(shown) - lines) :])
    while follow:
        alive = is_alive(run)
        if path.exists():
            with path.open("rb") as file:
                file.seek(position)
                new = file.read()
            position += len(new)
            *complete, rest = (rest + new).split(b"\n")
            yield from (line.decode(errors="replace") for line in complete)
        if not alive:
            if rest:
                yield rest.decode(errors="replace")
            return
        time.sleep(0.2)


# Copying


def export_run(run: Path, out: Path) -> Path:
    """Copy a run, also while it trains, to the new folder ``out``: config, log, checkpoint, all databases.

    The newest checkpoint is copied before the database, so that the copy's rows reach at least as far and it
    can be resumed.

    Raises:
        UsageError: ``out`` exists and is not empty.
        VlmAgentError: something could not be read or written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} already exists. Choose a new folder for the copy.")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        _copy_checkpoint(run / paths.CHECKPOINTS, partial / paths.CHECKPOINTS)
        for name in (paths.CONFIG, paths.LOG):
            if (run / name).is_file():
                shutil.copy2(run / name, partial / name)
        others = (*(run / paths.EVALUATIONS).glob("*.db"), *(run / paths.PLAYS).glob("*.db"))
        for database in [run / paths.DATABASE, *sorted(others)]:
            if database.is_file():
                target = partial / database.relative_to(run)
                target.parent.mkdir(exist_ok=True)
                copy_database(database, target)
        if out.is_dir():
            out.rmdir()
        partial.replace(out)
    except (OSError, shutil.Error) as error:
        raise VlmAgentError(f"The run {run.name} could not be copied to {out}: {error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out.resolve()


def _copy_checkpoint(source: Path, target: Path) -> None:
    """Copy what ``latest`` points at; tried again when the trainer removes it in the middle."""
    link = source / paths.LATEST
    for attempt in range(5):
        if not link.exists():
            return
        newest = link.resolve()
        try:
            shutil.copytree(newest, target / newest.name)
        except (OSError, shutil.Error):
            shutil.rmtree(target, ignore_errors=True)
            if attempt == 4 or newest.exists():
                raise
            continue
        (target / paths.LATEST).symlink_to(newest.name)
        return
