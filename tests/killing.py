"""Work that is killed in the middle, as a power cut or ``kill -9`` does it: no handler and no ``finally`` runs."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILLED = 9
Watched = tuple[tuple[Any, tuple[str, ...]], ...]
DISK: Watched = (
    (Path, ("rename", "replace", "mkdir", "unlink", "open", "symlink_to")),
    (shutil, ("rmtree",)),
    (os, ("fsync",)),
)
"""What changes a disk: owners, and names of their functions."""


def killed_before(number: int, work: Callable[[], object], watched: Watched = DISK) -> bool:
    """Do ``work`` in a forked process that is killed before its call ``number`` to what is watched; whether it was."""
    return _forked(lambda: _count_down(number, watched), work)


def killed_after(seconds: float, work: Callable[[], object]) -> bool:
    """Do ``work`` in a forked process that is killed after some time; whether it was."""

    def wait() -> None:
        time.sleep(seconds)
        os._exit(KILLED)

    return _forked(threading.Thread(target=wait, daemon=True).start, work)


def done(work: Callable[[], object]) -> None:
    """Do ``work`` in a forked process that nobody kills."""
    assert not _forked(lambda: None, work)


def _forked(prepare: Callable[[], None], work: Callable[[], object]) -> bool:
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, KILLED), f"the work failed with code {code}"
        return code == KILLED
    try:
        prepare()
        work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _count_down(number: int, watched: Watched) -> None:
    """Let this process die right before its call ``number`` to what is watched, whichever thread makes it."""
    left = number
    lock = threading.Lock()

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal left
            with lock:
                if left == 0:
                    os._exit(KILLED)
                left -= 1
            return original(*arguments, **options)

        return call

    for owner, names in watched:
        for name in names:
            setattr(owner, name, counted(getattr(owner, name)))
