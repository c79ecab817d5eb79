"""One of several processes that train a run, from its start to its last words.

Knows its supervisor only through the run's folder: it looks for a request to stop there and leaves there how it ended.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from vlmagent import paths
from vlmagent.config import load_config
from vlmagent.errors import UsageError, VlmAgentError
from vlmagent.files import write_text
from vlmagent.models.device import choose_device
from vlmagent.paths import Run
from vlmagent.runs.daemon import daemon_info, process_of
from vlmagent.store.rows import RunStatus
from vlmagent.store.writer import StoreWriter
from vlmagent.training.distributed.group import join, leave
from vlmagent.training.distributed.lifeline import Lifeline
from vlmagent.training.distributed.shared_store import SharedWriter
from vlmagent.training.train import failure_text, recorded
from vlmagent.training.trainer import Trainer

# how often the supervisor is looked for: it may be killed with SIGKILL, and cannot say goodbye then
LOOK_SECONDS = 2.0
LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket", "NCCL")
"""What torch says in a process when another one is gone."""


def run_rank(run: Run) -> NoReturn:
    """Train as process ``$RANK`` of ``run``, say how it ended, and end this process with 0 or 1."""
    rank = int(os.environ["RANK"])
    folder = run.ranks
    if not run.config_file.is_file():
        raise UsageError(
            f"The run folder {run} is not there on {platform.node()}. All machines of a hostfile must see it under the "
            "same path: choose --run-dir on a shared file system."
        )
    # every rank has a log of its own: in a common one their tracebacks would be woven into each other
    _write_to(folder / paths.rank_log(rank))
    asked = threading.Event()
    # only set a flag: the step is finished and saved. A launcher sends SIGTERM, a terminal SIGINT
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    # torch.distributed announces changes of its own to its own callers; nobody who reads a run's log can act on them
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    # a thread, because the main one may wait in a collective operation for hours
    threading.Thread(target=_end_without, args=(run,), name="supervisor-watch", daemon=True).start()
    stop, end = folder / paths.STOP, folder / paths.rank_end(rank)
    try:
        status = train_rank(run, lambda: asked.is_set() or stop.exists(), lambda: _give_up(end))
    except BaseException as error:
        # everything, SystemExit included: without last words the supervisor can only say "ended without a word"
        if isinstance(error, VlmAgentError):
            print(f"Error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        # the first failure makes all others fail, too, with broken connections. They must not be reported as the cause
        lost = not isinstance(error, VlmAgentError) and any(text in str(error) for text in LOST_PEER)
        _record(end, "lost" if lost else "failed", failure_text(error))
        sys.stderr.flush()
        os._exit(1)  # connections to processes that are still there must not hold this one
    _record(end, status, "")
    # only after the end is on disk: leaving may wait for the others
    leave()


def train_rank(run: Run, should_stop: Callable[[], bool], on_loss: Callable[[], None]) -> RunStatus:
    """Train ``run`` together with the other processes; the first one keeps the database.

    Args:
        on_loss: called from a thread when another process died.
    """
    config = load_config(run.config_file)
    ranks = join(choose_device(config.model.device).type)
    lifeline = Lifeline(ranks, os.environ["MASTER_ADDR"], on_loss)

    # what differs between the first process, which has the database, and the others, which have None
    def work(own: StoreWriter | None) -> RunStatus:
        writer = SharedWriter(ranks, run.database, own)
        return Trainer(run, config, writer, should_stop, ranks).run()

    status = work(None) if ranks.rank else recorded(run, config, work)
    # only on success: a connection that ends without goodbye is what tells the others of a failure
    lifeline.close()
    return status


def _give_up(end: Path) -> None:
    """End at once: another process died, and what this one waits for may never come."""
    # the main thread may have recorded its own, truer end just before
    if not end.exists():
        _record(end, "lost", "another process died")
    print("Another process of this run died; so this one ends too.", file=sys.stderr, flush=True)
    os._exit(1)


def _write_to(log: Path) -> None:
    """Let standard output and standard error go to the end of ``log``."""
    log.parent.mkdir(exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    # what Python still buffers belongs to the old place
    sys.stdout.flush()
    sys.stderr.flush()
    # descriptors, not `sys.stdout`: NCCL and other libraries in C write to 1 and 2 themselves
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _record(path: Path, ended: str, error: str) -> None:
    """Leave for the supervisor how this process ended."""
    document = {"ended": ended, "error": error, "host": platform.node(), "at": time.time()}
    write_text(path, json.dumps(document))


def _end_without(run: Run) -> None:
    """End this process when the supervisor on this machine is gone: nobody would notice what becomes of it."""
    info = daemon_info(run)
    # on the other machines of a hostfile there is no supervisor: the launcher's ssh sessions end those
    if info is None or info.host != platform.node():
        return
    while process_of(info) is not None:
        time.sleep(LOOK_SECONDS)
    print("The supervisor of this run is gone; so this process ends too.", file=sys.stderr, flush=True)
    os._exit(1)
