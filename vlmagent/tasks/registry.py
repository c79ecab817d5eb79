"""Finding tasks by name: built-in ones, and other people's by the entry-point group ``vlmagent.tasks``.

Imports a task only when it is asked for, so that listing names is cheap and a broken plug-in costs no other.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any, cast

from vlmagent import config as configuration
from vlmagent.config.validation import validate
from vlmagent.errors import UsageError, unknown_choice
from vlmagent.tasks.base import Task

GROUP = "vlmagent.tasks"
BUILT_IN = {
    "numberline": "vlmagent.tasks.numberline:NumberLineTask",
    "ezpoints": "vlmagent.tasks.ezpoints:EZPointsTask",
    "points24": "vlmagent.tasks.points24:Points24Task",
    "blackjack": "vlmagent.tasks.blackjack:BlackjackTask",
    "alfworld": "vlmagent.tasks.alfworld:AlfworldTask",
}
"""Name -> "module:Class"."""


def task_names() -> list[str]:
    """Every registered name: the built-in ones in their order, then other packages' by name."""
    return [*BUILT_IN, *sorted(set(_plugins()) - set(BUILT_IN))]


def build_task(
    name: str, *, cot: bool = True, rule_set: str | None = None, env: Mapping[str, Any] | None = None
) -> Task:
    """The task called ``name``.

    Args:
        name: a name of ``task_names()``, or ``module:EnvId`` of an environment with a registered task.
        cot: whether prompts and responses hold thoughts.
        rule_set: one of the task's ``rule_sets``; None takes the first.
        env: options of the environment, checked against the task's ``options``.

    Raises:
        UsageError: the task, the rule set or an option is unknown or invalid, or the task cannot be imported.
    """
    task_class = _by_env_id(name) if ":" in name else _by_name(name)
    chosen = task_class.rule_sets[0] if rule_set is None else rule_set
    if chosen not in task_class.rule_sets:
        raise unknown_choice(f"rule_set of the task {task_class.name}", chosen, task_class.rule_sets)
    options = validate(task_class.options, env or {}, prefix="env.")
    constructor = cast(Any, task_class)  # a protocol does not describe its constructor
    return cast(Task, constructor(cot=cot, rule_set=chosen, env=options.model_dump()))


def task_from_config(config: configuration.Config) -> Task:
    """The task that a recipe describes."""
    # the default names the rules of the paper; a task that has none of those plays by its first ones
    rule_set = (
        None if config.rule_set == configuration.Config.model_fields["rule_set"].default else config.rule_set
    )
    return build_task(config.task, cot=config.cot, rule_set=rule_set, env=config.env)


def _plugins() -> dict[str, str]:
    """Entry points of all installed packages: name -> "module:Class"."""
    return {point.name: point.value for point in metadata.entry_points(group=GROUP)}


def _by_name(name: str) -> type[Task]:
    targets = {**_plugins(), **BUILT_IN}  # no package may take a built-in task's name
    if name not in targets:
        raise unknown_choice("task", name, task_names())
    try:
        return _load(targets[name])
    except Exception as error:
        # a plug-in's mistake, whatever it raises, is told as such and not as one of this program
        where = f"the entry point '{name} = {targets[name]}'"
        raise UsageError(f"The task '{name}' could not be imported through {where}: {error!r}") from error


def _load(target: str) -> type[Task]:
    module, _, attribute = target.partition(":")
    return cast("type[Task]", getattr(importlib.import_module(module), attribute))


def _by_env_id(name: str) -> type[Task]:
    """The registered task of the environment ``module:EnvId``; the module is imported first."""
    module, _, env_id = name.partition(":")
    try:
        importlib.import_module(module)
    except Exception as error:
        raise UsageError(
            f"The task '{name}' names the module '{module}', which could not be imported: {error!r}"
        ) from error
    known: list[str] = []
    # every task is imported here: only its class knows its environment's id
    for task_class in _loadable():
        # Gymnasium registers `EnvId`; some tasks write the module before it, too
        if task_class.env_id in (env_id, name):
            return task_class
        known.append(task_class.env_id)
    todo = f"A package adds a task for its environment by an entry point in the group '{GROUP}'."
    raise unknown_choice("environment with a task", env_id, known, todo)


def _loadable() -> Iterator[type[Task]]:
    """Every task that can be imported; the others are passed over."""
    for name in task_names():
        try:
            yield _by_name(name)
        except UsageError:
            continue
