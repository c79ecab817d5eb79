"""From what was asked for to one checked config: recipe, overrides, model. Imports nothing heavy at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vlmagent.errors import UsageError

if TYPE_CHECKING:
    from vlmagent.config import Config


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What somebody wants trained, or data made from.

    Attributes:
        config: a file, or the name of a shipped recipe; None takes the task's own.
        overrides: ``key=value`` pairs, those that say where to train among them.
        run_dir: where the run goes; None makes a folder under the runs folder.
        resume: a run to continue, with its own config.
        suffix: of the name that a new folder is given.
    """

    task: str | None = None
    config: str | None = None
    overrides: Sequence[str] = ()
    model: str | None = None
    agent: str | None = None
    run_dir: Path | None = None
    resume: str | None = None
    suffix: str = ""


def build_config(request: TrainRequest, *, fetch: bool = True, trains: bool = True) -> Config:
    """Recipe, overrides and --model as one validated config; the task and the model are checked too.

    A task of another package also shows one reset and one step of its environment before anything is trained on it.

    Args:
        fetch: whether the hub may be asked for the model.
        trains: whether the task must have what the recipe's supervised start asks of it.

    Raises:
        UsageError: something of it does not exist or does not go together.
    """
    from vlmagent.config import Config, find_config, load_config
    from vlmagent.config.validation import validate
    from vlmagent.tasks.registry import task_names

    if request.task is None and request.config is None:
        raise UsageError(
            f"Which task? Valid choices: {', '.join(task_names())}. Example: vlmagent train numberline"
        )
    if request.config is not None and request.task is not None:
        _check_same_task(request.config, request.task)
    over = _overrides(request)
    recipe = request.config or _default_recipe(str(request.task), request.model, over.get("agent"))
    resolved = validate(Config, over) if recipe is None else load_config(find_config(recipe), over)
    _check(resolved, fetch=fetch, trains=trains)
    return resolved


def _overrides(request: TrainRequest) -> dict[str, Any]:
    """What goes over the recipe: --set, and over that --agent and --model."""
    from vlmagent.config import merge, parse_overrides

    # each over the one before: an option of its own is written for this command alone
    over: dict[str, Any] = parse_overrides([*request.overrides])
    if request.agent is not None:
        over = merge(over, {"agent": request.agent})
    if request.model is not None:
        over = merge(over, {"model": {"name": request.model}})
    if request.task is None:
        return over
    # below --set, which may name the task in full where the argument names it in short
    return merge({"task": request.task}, over)


def _check_same_task(config: str, task: str) -> None:
    """One task's recipe would train another badly, or not at all, without a word."""
    from vlmagent.config import find_config, read_yaml
    from vlmagent.tasks.recipes import task_name

    # a recipe that names no task fits any
    own = read_yaml(find_config(config)).get("task", task)
    # by the registered name too: the argument may be `module:EnvId` where the recipe says `numberline`
    if own != task and task_name(str(own)) != task_name(task):
        raise UsageError(
            f"--config {config} is a recipe for the task '{own}', not for '{task}'. Name that task, or another recipe."
        )


def _default_recipe(task: str, model: str | None, agent: str | None) -> str | None:
    """The recipe when none is named: the task's own, or the paper's for a pretrained model; None without any."""
    from vlmagent.config import available_configs
    from vlmagent.models.locate import is_pretrained
    from vlmagent.tasks.recipes import recipe_name, task_name

    own = recipe_name(task, agent)
    paper = f"paper/{task_name(task)}"
    # the task's own recipe is made for the built-in model: its learning rates would ruin a pretrained one
    if agent != "cnn" and model is not None and is_pretrained(model) and paper in available_configs():
        typer.echo(
            f"Recipe: {paper}, since --model names a pretrained model. --config takes another.", err=True
        )
        return paper
    return own


def _check(config: Config, *, fetch: bool, trains: bool) -> None:
    """What a run would fail at only after it was made."""
    from vlmagent.models.encoders import check_encoders
    from vlmagent.models.locate import check_model
    from vlmagent.tasks.registry import BUILT_IN, task_from_config
    from vlmagent.training.preflight import check_environment
    from vlmagent.training.sft.samples import check_offered

    # from cheap to dear: the hub is only asked when everything else is right
    task = task_from_config(config)
    if trains:
        if config.agent == "vlm":
            check_offered(task, config.sft)
        config.model.check_trainable()
        if config.task not in BUILT_IN:
            # somebody else's environment: a mistake in it is said here, not in the log of a run that is there already
            check_environment(task, config)
    if config.model.name != "tiny" and fetch:
        check_model(config.model.name)
    # the CNN baseline may take pretrained encoders, which can be missing like a model
    if config.agent == "cnn":
        check_encoders(config.cnn)
