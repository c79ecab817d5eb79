"""Starts and stops the process that trains a run, and changes the config of one that is about to be continued."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import psutil

from vlmagent.config import Config, dump_config, load_config, parse_overrides
from vlmagent.errors import RunFailedError, UsageError, VlmAgentError
from vlmagent.files import remedy, write_text
from vlmagent.paths import Run
from vlmagent.runs.daemon import DaemonInfo, already_running, daemon_info, process_of
from vlmagent.runs.status import START_SECONDS, RunState, is_alive, run_state
from vlmagent.runs.threads import WAITING
from vlmagent.text import command

POLL_SECONDS = 0.05


_children: list[subprocess.Popen[bytes]] = []  # kept, so that Python does not warn about them


def update_config(run: Run, overrides: Sequence[str]) -> Config:
    """Apply ``--set`` pairs to the config of a run that is about to be continued; returns the result.

    Everything is checked before the file is written: a refused pair leaves it as it was, to the byte.

    Raises:
        UsageError: a pair is not valid or can no longer change, the run is being trained, or its config cannot be
            read or written.
    """
    # it knows tasks and environments: the dashboard, which only stops runs, need not load them
    from vlmagent.runs.admission import check_admission

    path = run.config_file
    old = load_config(path)
    config = load_config(path, parse_overrides(overrides))
    if is_alive(run):
        raise already_running(run)
    check_admission(run, config, old)
    if config == old:
        return config
    try:
        created = path.stat()
        write_text(path, dump_config(config))
        os.utime(path, ns=(created.st_atime_ns, created.st_mtime_ns))  # by it runs are sorted: newest first
    except OSError as error:
        raise UsageError(
            f"{path} could not be written: {error.strerror or error}. {remedy(error)}."
        ) from None
    return config


def daemon_command(run: Run) -> list[str]:
    """The command that trains ``run`` in a process of its own."""
    return [sys.executable, "-m", "vlmagent", "_daemon", str(run)]


def start_daemon(
    run: Run, command: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> int:
    """Start the process that trains ``run``, detached from this one; returns its pid once it holds the run.

    Args:
        command: what to run; ``daemon_command`` by default.
        environment: variables that the process gets beside ours.

    Raises:
        UsageError: a process already trains this run, or its folder is not writable.
        RunFailedError: the process ended at once; quotes the end of its log.
    """
    if is_alive(run):
        raise already_running(run)
    # read before the start: only a different file than this one comes from the new process
    before = daemon_info(run)
    log = run.log
    try:
        output = log.open("ab")
    except OSError as error:
        raise UsageError(f"The run folder {run} is not writable: {error.strerror or error}.") from None
    with output:
        # the log goes on over all starts of a run; what is quoted on failure is only what stands behind this place
        offset = log.stat().st_size
        process = subprocess.Popen(
            list(command or daemon_command(run)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # detached from the terminal: closing it, or Ctrl-C in it, must not end a training
            start_new_session=True,
            close_fds=True,
            env={
                **WAITING,
                **os.environ,
                **(environment or {}),
                # without a buffer: a process that is killed would take its last lines with it
                "PYTHONUNBUFFERED": "1",
                "PYTHONIOENCODING": "utf-8",  # the log is read as UTF-8, wherever it is read
            },
        )
    # `Popen.poll` is what takes a dead child out of the system's table
    for earlier in _children:
        earlier.poll()  # takes leave of one that ended: a long reproduction would gather zombies
    _children.append(process)
    _await_start(run, process, offset, before)
    return process.pid


def _await_start(run: Run, process: subprocess.Popen[bytes], offset: int, before: DaemonInfo | None) -> None:
    """Wait until ``process`` holds the run.

    Args:
        offset: where its words in the log begin.
        before: what ``daemon.json`` said before: in a container that is started again pids repeat themselves.
    """
    # whichever comes first: it holds the run, it ends, or it takes too long and is ended
    deadline = time.monotonic() + START_SECONDS
    while True:
        ended = process.poll()
        info = daemon_info(run)
        # not the mere file: it may be left from an earlier process. The pid alone may be the earlier one's, too
        if info is not None and info.pid == process.pid and info != before:
            return
        # a process that hangs before it holds the run would go on later, behind the back of whoever was told it failed
        if ended is None and time.monotonic() > deadline:
            process.kill()
            ended = process.wait()
        if ended is not None:
            break
        time.sleep(POLL_SECONDS)
    with run.log.open("rb") as file:
        file.seek(offset)
        said = file.read().decode(errors="replace").strip().splitlines()[-8:]
    # keep the exit code: a wrong config that only the new process found is still the user's error, 2, not 1
    kind = UsageError if ended == UsageError.exit_code else RunFailedError
    quoted = "\n".join(said) or "(it wrote nothing)"
    raise kind(
        f"The training process ended with code {ended} before it began. {run.log} ends with:\n{quoted}"
    )


def stop_run(run: Run, timeout: float = 120.0) -> RunState:
    """Ask a run's process to finish its step, save and end; waits for that and returns the final state.

    Raises:
        UsageError: the run is not running, is lost, or runs where it cannot be signalled from here.
        VlmAgentError: it may not be signalled, or has not ended after ``timeout`` seconds.
    """
    if not is_alive(run):
        raise _not_running(run)
    info = daemon_info(run)
    process = None if info is None else process_of(info)
    if info is None or process is None:
        raise _out_of_reach(run, info)
    try:
        process.send_signal(signal.SIGTERM)
    except psutil.AccessDenied:
        raise VlmAgentError(f"The process {info.pid} of {run.name} belongs to another user.") from None
    except psutil.NoSuchProcess:
        return run_state(run)
    deadline = time.monotonic() + timeout
    # not the run's status: it is written before the process ends, and only then can another one take the run
    while process_of(info) is not None:
        if time.monotonic() > deadline:
            raise VlmAgentError(
                f"The run {run.name} was told to stop, but is still finishing its step after {timeout:g} s. "
                f"Look again with `{command('vlmagent', 'runs', 'show', run)}`; "
                f"`{command('kill', '-9', str(info.pid))}` ends it unsaved."
            )
        time.sleep(POLL_SECONDS)
    return run_state(run)


def _not_running(run: Run) -> UsageError:
    state = run_state(run)
    more = ""
    if state == "lost":
        more = f" Its process is gone; continue it with `{command('vlmagent', 'train', '--resume', run)}`."
    return UsageError(f"The run {run.name} is not running: it is {state}.{more}")


def _out_of_reach(run: Run, info: DaemonInfo | None) -> UsageError:
    """Something trains the run that is not a process here, or not the one that ``daemon.json`` names."""
    if info is not None and info.host != platform.node():
        stop = command("vlmagent", "runs", "stop", run)
        return UsageError(f"The run {run.name} runs on host {info.host}. Stop it there: {stop}")
    return UsageError(
        f"A process holds the run {run.name}, but {run.daemon_file} does not say which. If it has only just begun, try "
        f"again in a moment; else `{command('fuser', '-v', run.lock_file)}` names it."
    )
