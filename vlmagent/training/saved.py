"""Which checkpoints a run has. The steps in their names decide; the link ``latest`` is there for people alone.

A link may be lost, dangling, out of date or, in a copy of a run, a folder of its own; and some file systems have none.
Never imports torch: the dashboard and the command line ask, too.
"""

from __future__ import annotations

from pathlib import Path

from vlmagent import paths
from vlmagent.errors import UsageError, unknown_choice
from vlmagent.paths import Run
from vlmagent.text import command

START = "start"
"""By this name people call the checkpoint that RL started from."""
SFT = "sft"
"""Beside the checkpoints: where an interrupted supervised start is kept until it is finished."""


def steps_of(folder: Path) -> int:
    """Environment steps of a checkpoint, from its name.

    Raises:
        ValueError: it is no ``step-N``.
    """
    return int(folder.name.removeprefix("step-"))


def list_checkpoints(run: Run) -> list[Path]:
    """The run's complete checkpoints, oldest first. One is complete when its trainer state, written last, is there."""
    folders = [file.parent for file in run.checkpoints.glob(f"step-*/{paths.TRAINER}")]
    # a copy that somebody named `step-640-good` is no checkpoint of the run's
    numbered = [folder for folder in folders if folder.name.removeprefix("step-").isdecimal()]
    return sorted(numbered, key=steps_of)


def newest_checkpoint(run: Run) -> Path | None:
    """The furthest complete checkpoint, or None."""
    return next(iter(list_checkpoints(run)[::-1]), None)


def find_checkpoint(run: Run, name: str = paths.LATEST) -> Path:
    """A checkpoint by name: ``latest``, ``start`` (before RL), ``step-N`` or ``N``.

    Raises:
        UsageError: the run has no such checkpoint; lists those it has.
    """
    known = list_checkpoints(run)
    if not known:
        raise UsageError(
            f"The run {run} has no checkpoint yet. Wait until `{command('vlmagent', 'runs', 'show', run)}` lists one."
        )
    if name == paths.LATEST:
        return known[-1]
    # RL starts from the state after no environment step
    wanted = "step-0" if name == START else name if name.startswith("step-") else f"step-{name}"
    for folder in known:
        if folder.name == wanted:
            return folder
    names = [paths.LATEST, START, *(folder.name for folder in known)]
    raise unknown_choice(f"checkpoint of {run}", name, names)
