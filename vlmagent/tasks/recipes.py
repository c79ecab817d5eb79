"""Which shipped recipe belongs to a task, however the task is called. Reads recipes; builds no environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlmagent.config import Config, available_configs, find_config, load_config, merge
from vlmagent.config.validation import validate
from vlmagent.errors import UsageError
from vlmagent.tasks.registry import build_task


def task_name(task: str) -> str:
    """The name of a task that may be called by its environment, ``module:EnvId``; unknown ones keep theirs."""
    # without options: a recipe's own may be invalid, and the name does not depend on them
    try:
        return build_task(task).name
    except UsageError:
        return task


def recipe_name(task: str, agent: str | None = None) -> str | None:
    """The shipped recipe of a task, that of an agent where it has one of its own; None where none ships."""
    name, known = task_name(task), available_configs()
    # "points24-cnn" beside "points24"
    if agent is not None and f"{name}-{agent}" in known:
        return f"{name}-{agent}"
    return name if name in known else None


def recipe_of(task: str, overrides: Mapping[str, Any]) -> Config:
    """A task's shipped recipe, or the defaults where there is none.

    Raises:
        UsageError: an override is not valid.
    """
    # under the overrides, which may name the task in full
    over = merge({"task": task}, overrides)
    name = recipe_name(task)
    return validate(Config, over) if name is None else load_config(find_config(name), over)
