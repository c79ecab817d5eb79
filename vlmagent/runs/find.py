"""Finds runs by what they were trained on, and what acts in them by now. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterator

from vlmagent.config import load_config
from vlmagent.errors import UsageError
from vlmagent.paths import Run
from vlmagent.runs.folders import all_runs
from vlmagent.tasks.recipes import task_name
from vlmagent.training.saved import newest_checkpoint


def newest_run_of(task: str) -> Run | None:
    """The newest run of a task: of those with a checkpoint, if there are any, since the others cannot act yet.

    Args:
        task: its name, or ``module:EnvId``: a run counts whichever of them it was trained under.
    """
    # newest first, so the first that has a checkpoint is the newest that can act
    runs = list(_runs_of(task_name(task)))
    acting = (run for run in runs if newest_checkpoint(run) is not None)
    found = next(acting, runs[0] if runs else None)
    return None if found is None else found.resolve()


def _runs_of(name: str) -> Iterator[Run]:
    """Newest first; sessions of play have no config and do not count."""
    for run in all_runs():
        try:
            trained = load_config(run.config_file).task
        except UsageError:
            continue  # a broken run must not hide the others
        if task_name(trained) == name:
            yield run


def same_task(first: str, second: str) -> bool:
    """Whether two names mean one task, which may also be called by its environment."""
    return first == second or task_name(first) == task_name(second)
