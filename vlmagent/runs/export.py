"""Copies a run, also while it trains, and reads the end of its log."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from vlmagent import paths
from vlmagent.errors import UsageError, VlmAgentError
from vlmagent.files import whole_folder
from vlmagent.paths import Run
from vlmagent.runs.status import is_alive
from vlmagent.store.reader import copy_database


def log_tail(run: Run, lines: int = 50, follow: bool = False) -> Iterator[str]:
    """The last ``lines`` of a run's log; with ``follow`` also what comes until the run ends."""
    path = run.log
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


def export_run(run: Run, out: Path) -> Path:
    """Copy a run, also while it trains, to the new folder ``out``: config, log, checkpoint, all databases.

    The newest checkpoint is copied before the database, so that the copy's rows reach at least as far and it
    can be resumed.

    Raises:
        UsageError: ``out`` exists and is not empty.
        VlmAgentError: something could not be read or written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} already exists. Choose a new folder for the copy.")
    try:
        with whole_folder(out) as partial:
            _copy_checkpoint(run.checkpoints, Run(partial).checkpoints)
            for file in (run.config_file, run.log):
                if file.is_file():
                    shutil.copy2(file, partial / file.name)
            others = (*run.evaluations.glob("*.db"), *run.plays.glob("*.db"))
            for database in [run.database, *sorted(others)]:
                if database.is_file():
                    target = partial / database.relative_to(run.path)
                    target.parent.mkdir(exist_ok=True)
                    copy_database(database, target)
    except (OSError, shutil.Error) as error:
        raise VlmAgentError(f"The run {run.name} could not be copied to {out}: {error}") from None
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
