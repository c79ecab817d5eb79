"""Copies a run, also while it trains, and reads the end of its log."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlmagent import paths
from vlmagent.config import load_config
from vlmagent.errors import UsageError, VlmAgentError
from vlmagent.files import remedy, whole_folder
from vlmagent.paths import Run
from vlmagent.runs.status import is_alive
from vlmagent.store.reader import copy_database
from vlmagent.training.saved import SFT, list_checkpoints, steps_of

COPY_ATTEMPTS = 5
"""How often the weights are looked for; each time the trainer must have replaced them while they were copied."""


def log_tail(run: Run, lines: int = 50, follow: bool = False) -> Iterator[str]:
    """The last ``lines`` of a run's log; with ``follow`` also what comes until the run ends."""
    path = run.log
    position, rest = 0, b""
    # first what is there already
    if path.exists():
        data = path.read_bytes()
        position = len(data)
        # `rest` is a line that is still being written: with `follow` it is shown once it is complete
        whole, _, rest = data.rpartition(b"\n")
        if not follow and rest:
            whole, rest = data, b""
        shown = whole.splitlines()
        yield from (line.decode(errors="replace") for line in shown[max(0, len(shown) - lines) :])
    while follow:
        # asked before reading: what a process wrote just before it ended would be missed the other way round
        alive = is_alive(run)
        if path.exists():
            with path.open("rb") as file:
                file.seek(position)
                new = file.read()
            position += len(new)
            # the last piece has no line end yet (b"" if there was one)
            *complete, rest = (rest + new).split(b"\n")
            yield from (line.decode(errors="replace") for line in complete)
        if not alive:
            if rest:
                yield rest.decode(errors="replace")
            return
        # seconds between looks at the log
        time.sleep(0.2)


@dataclass(frozen=True, slots=True)
class Exported:
    """What a copy of a run holds.

    Attributes:
        out: the copy's folder, absolute.
        checkpoints: names of the folders of weights in it, none where the run has none yet.
        databases: how many there are, the run's own included.
    """

    out: Path
    checkpoints: tuple[str, ...]
    databases: int

    def describe(self) -> str:
        """What was copied where, in one line."""
        databases = "1 database" if self.databases == 1 else f"{self.databases} databases"
        return f"{self.out}: config, log, {databases}, {self._weights()}"

    def _weights(self) -> str:
        if not self.checkpoints:
            return "without a checkpoint: the run has none yet"
        if self.checkpoints == (SFT,):
            return "the supervised start as far as it is"
        return f"checkpoint {' and '.join(self.checkpoints)}"


def export_run(run: Run, out: Path) -> Exported:
    """Copy a run, also while it trains, to the new folder ``out``: all that is needed to continue and to replay it.

    That is config, log, all databases and the newest checkpoint, which is copied before the database, so that the
    copy's rows reach at least as far; the checkpoint that RL started from where ``ppo.kl_coef`` refers to it; and the
    supervised start in progress where there is no checkpoint yet.

    Raises:
        UsageError: ``out`` exists and is not empty.
        VlmAgentError: something could not be read or written; nothing is left at ``out`` then.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} already exists. Choose a new folder for the copy.")
    try:
        with whole_folder(out) as partial:
            # weights first, database last: rows beyond a checkpoint are replayed, a checkpoint beyond the rows cannot
            # be continued
            checkpoints = _copy_weights(run, Run(partial).checkpoints)
            for file in (run.config_file, run.log):
                # copy2 keeps the config's time, by which runs are sorted
                if file.is_file():
                    shutil.copy2(file, partial / file.name)
            others = (*run.evaluations.glob("*.db"), *run.plays.glob("*.db"))
            databases = [file for file in (run.database, *sorted(others)) if file.is_file()]
            for database in databases:
                target = partial / database.relative_to(run.path)
                target.parent.mkdir(exist_ok=True)
                # not as a file: half of what is committed may stand in the WAL beside it
                copy_database(database, target)
    except OSError as error:
        raise VlmAgentError(
            f"The run {run.name} could not be copied to {out}: {error}. {remedy(error)}."
        ) from None
    return Exported(out.resolve(), checkpoints, len(databases))


def _copy_weights(run: Run, target: Path) -> tuple[str, ...]:
    """Copy what the run would go on from; looked for anew when the trainer replaces it in the middle.

    Returns:
        Names of the copied folders.
    """
    # the trainer removes old checkpoints while it writes new ones, so a folder may go in the middle of a copy
    for _ in range(COPY_ATTEMPTS - 1):
        wanted = _weights_of(run)
        before = _identities(wanted)
        try:
            return _copy_all(wanted, target)
        except OSError:
            # a half-copied checkpoint must not lie beside the next attempt
            shutil.rmtree(target, ignore_errors=True)
            if before == _identities(_weights_of(run)):
                raise  # nothing was replaced: it cannot be read, or there is no room
    # the last attempt lets its error out
    return _copy_all(_weights_of(run), target)


def _identities(folders: list[Path]) -> list[int]:
    """Numbers that tell folders from others under the same names; 0 for one that is gone."""
    found = []
    for folder in folders:
        try:
            found.append(folder.stat().st_ino)
        except OSError:
            found.append(0)
    return found


def _copy_all(folders: list[Path], target: Path) -> tuple[str, ...]:
    for folder in folders:
        shutil.copytree(folder, target / folder.name)
    # the last one is the newest; a supervised start is no checkpoint, and `latest` never leads to one
    if folders and folders[-1].name != SFT:
        with contextlib.suppress(
            OSError
        ):  # for people; some file systems have no links, and nothing depends on it
            (target / paths.LATEST).symlink_to(folders[-1].name)
    return tuple(folder.name for folder in folders)


def _weights_of(run: Run) -> list[Path]:
    """What the run would go on from, the newest checkpoint last."""
    known = list_checkpoints(run)
    if not known:
        sft = run.checkpoints / SFT
        return [sft] if (sft / paths.TRAINER).is_file() else []
    try:
        # the penalty on the distance from the start needs the start's weights, also after resuming
        with_start = load_config(run.config_file).ppo.kl_coef > 0
    except UsageError:  # of another version, or not there: a copy to look at
        with_start = False
    start = [known[0]] if with_start and len(known) > 1 and steps_of(known[0]) == 0 else []
    return [*start, known[-1]]
