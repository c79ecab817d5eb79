"""Starts the processes that train one run together and answers for them: they end together, and never silently.

Runs inside the run's daemon. On one machine it starts them itself, over several DeepSpeed's launcher does. Knows
nothing of training and never imports torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmagent import paths
from vlmagent.config import Config
from vlmagent.errors import RunFailedError, StoreError
from vlmagent.paths import Run
from vlmagent.store.writer import StoreWriter, mark_failed
from vlmagent.training.distributed.hosts import read_hostfile
from vlmagent.training.plan.hardware import usable_cores

# seconds between looks at the processes, and the longest that a stop request waits here
POLL_SECONDS = 0.1
GRACE_SECONDS = 5.0
"""How long the other processes may take to say what they saw once one has failed."""
# lines of a log in an error message: enough for the last line of a traceback and where it came from
QUOTED_LINES = 8


def supervise(run: Run, config: Config, stop: threading.Event) -> None:
    """Train ``run`` in ``config.distributed.processes`` processes; returns when all are done or stopped.

    Args:
        stop: set when the run shall stop; it finishes its step and saves.

    Raises:
        RunFailedError: one of them failed or died; the run is marked ``failed`` and the others are ended.
    """
    folder = run.ranks
    # last words of an earlier start would be taken for those of this one, and its stop request would stop it at once
    _clear(folder)
    children = _launch(run, config)
    try:
        codes = _wait(children, folder, stop)
    finally:
        _end(children)
    # read after the end of all: a process may be writing its last words while another one has already failed
    said = [_last_words(folder, rank) for rank in range(config.distributed.processes)]
    orderly = all(words.get("ended") in ("done", "stopped") for words in said)
    if not any(codes.values()) and (orderly or None not in codes):  # the launcher's own code may hide a death
        return
    message = _diagnosis(codes, said, folder)
    _mark(run, config, message)
    raise RunFailedError(message)


@dataclass(frozen=True, slots=True)
class _Child:
    """A process of ours: a rank, or (without one) the launcher of ranks elsewhere."""

    process: subprocess.Popen[bytes]
    rank: int | None


def _clear(folder: Path) -> None:
    """Remove what processes said when they were started before; their logs go on."""
    folder.mkdir(exist_ok=True)
    # not the logs: ranks append to them, as the run's own log goes on
    for file in (*folder.glob("*.json"), folder / paths.STOP):
        file.unlink(missing_ok=True)


def _launch(run: Run, config: Config) -> list[_Child]:
    run, wanted = run.resolve(), config.distributed
    environment = _environment(config)
    if wanted.hostfile is not None:
        # over several machines this process has one child, the launcher, which numbers the ranks itself
        return [_Child(_start(launcher_command(run, Path(wanted.hostfile)), environment), None)]
    port = str(free_port())
    children = []
    for rank in range(wanted.processes):
        # the variables that torch.distributed reads (`env://`)
        own = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            # the loopback address: the host's name may resolve to an interface that a firewall closes
            "WORLD_SIZE": str(wanted.processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        children.append(_Child(_start(rank_command(run), environment | own), rank))
    return children


def rank_command(run: Run) -> list[str]:
    """The command of one process; its number comes from the environment."""
    return [sys.executable, "-m", "vlmagent", "_rank", str(run)]


def launcher_command(run: Run, hostfile: Path) -> list[str]:
    """DeepSpeed's launcher, which reaches the machines of ``hostfile`` through ssh; a single one is this machine."""
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--hostfile", str(hostfile)]
    # on a single machine ssh need not be set up at all
    if len(read_hostfile(hostfile)) == 1:
        launcher += ["--no_ssh_check", "--master_addr", "127.0.0.1"]
    options = ["--master_port", str(free_port()), "--no_local_rank", "--module"]
    # `--no_local_rank`: the local rank comes in the environment; as an option it would be no option of ours
    return [*launcher, *options, "vlmagent", "_rank", str(run)]


def _environment(config: Config) -> dict[str, str]:
    """Variables for the processes: the device, and as many threads as there are cores for each."""
    # torch takes every core by default: N processes of it on one machine would be N threads on each core
    added = {}
    # DeepSpeed looks for an accelerator by itself, and would choose a GPU that the config does not want
    if config.model.device == "cpu":
        added["DS_ACCELERATOR"] = "cpu"
    if "OMP_NUM_THREADS" not in os.environ:
        added["OMP_NUM_THREADS"] = str(max(1, usable_cores() // config.distributed.processes))
    return added


# a session of its own makes a process group, which `_end` kills with all that the rank started
def _start(command: Sequence[str], added: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, env={**os.environ, **added}
    )


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as listener:
        # port 0 lets the system choose; it is free again when the socket closes here
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def _wait(children: Sequence[_Child], folder: Path, stop: threading.Event) -> dict[int | None, int]:
    """Until all have ended, or one has failed and the others had time to end by themselves.

    Returns:
        Exit codes of those that ended.
    """
    failed_at: float | None = None
    while True:
        polled = {child.rank: child.process.poll() for child in children}
        codes = {rank: code for rank, code in polled.items() if code is not None}
        # a code other than 0: from here on the others have `GRACE_SECONDS` to say what they saw
        if failed_at is None and any(codes.values()):
            failed_at = time.monotonic()
        late = failed_at is not None and time.monotonic() - failed_at > GRACE_SECONDS
        if late or len(codes) == len(children):
            return codes
        # a file, not a signal: through the launcher no signal reaches ranks on other machines, a shared folder does
        if stop.is_set():
            (folder / paths.STOP).touch()
        time.sleep(POLL_SECONDS)


def _end(children: Sequence[_Child]) -> None:
    """End whatever still runs, with all that it started."""
    for child in children:
        if child.process.poll() is None and child.rank is None:
            child.process.terminate()  # the launcher ends what it started elsewhere
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(GRACE_SECONDS)
        # SIGKILL: whoever still runs had its time, and may hang in a collective operation that never returns
        if child.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
        # without waiting the dead child would stay a zombie and look alive
        child.process.wait()


def _diagnosis(codes: Mapping[int | None, int], said: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """Which process began it, why, and where its log is.

    Args:
        codes: exit codes of those that ended by themselves.
        said: last words of each.
    """
    ranks = range(len(said))
    # no last words and no exit code 0; under a launcher no rank has a code of its own here, which counts as bad (1)
    silent = [rank for rank in ranks if not said[rank] and codes.get(rank, 1)]
    # a negative code is `subprocess`'s word for "by this signal"
    killed = [rank for rank in silent if codes.get(rank, 0) < 0]
    failed = [rank for rank in ranks if said[rank].get("ended") == "failed"]
    # `None` stands for the launcher; without any rank's log it never got to start one (ssh, a wrong hostfile)
    if None in codes and not any((folder / paths.rank_log(rank)).exists() for rank in ranks):
        log = Run(folder.parent).log
        return f"DeepSpeed's launcher ended before any process began. {log} ends with:\n{_tail(log)}"
    # the likeliest cause first: who was killed (out of memory) said nothing; who failed first made the others fail
    if killed:
        rank = killed[0]
        what = f"was killed by signal {-codes[rank]} ({signal.Signals(-codes[rank]).name})."
    elif failed:
        rank = min(failed, key=lambda number: float(said[number]["at"]))
        what = f"failed: {said[rank]['error']}"
    elif silent:
        # of the silent ones, one whose exit code is known says more: False sorts before True
        rank = min(silent, key=lambda number: number not in codes)
        what = f"ended with code {codes[rank]}." if rank in codes else "ended without a word."
    else:
        rank, what = 0, "lost the others."
    log = folder / paths.rank_log(rank)
    tail = _tail(log)
    if said[rank].get("error") and tail.endswith(
        said[rank]["error"]
    ):  # a sentence of ours, which is in ``what``
        return f"Process {rank} of {len(said)} {what} Its log: {log}"
    return f"Process {rank} of {len(said)} {what} Its log {log} ends with:\n{tail}"


def _last_words(folder: Path, rank: int) -> dict[str, Any]:
    """What a process left about its end, empty when it left nothing."""
    try:
        # half a document cannot be there (it is renamed into place), but none can, or one of another version
        words = json.loads((folder / paths.rank_end(rank)).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return words if isinstance(words, dict) else {}


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return "\n".join(lines[-QUOTED_LINES:]) or "(it wrote nothing)"


def _mark(run: Run, config: Config, message: str) -> None:
    """Record the failure, also when no process got as far as making the database."""
    # False where there is no run row yet: the first process, which makes it, may have died before
    if mark_failed(run.database, message):
        return
    document = json.dumps(config.model_dump(mode="json"))
    # the error that is being reported is more important than a database that cannot be written
    with contextlib.suppress(StoreError), StoreWriter(run.database) as writer:
        writer.start_run(run.name, config.task, config.model.name, document, config.seed)
        writer.set_status("failed", message)
