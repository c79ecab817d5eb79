"""From the command line's words to one checked config: recipe, overrides, model. Imports nothing heavy at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from vlmagent.errors import UsageError

if TYPE_CHECKING:
    from vlmagent.config import Config


def _default_recipe(task: str | None, model: str | None, recipes: list[str]) -> str | None:
    """The recipe when none is named: the task's own, or the paper's for a pretrained model; None without any."""
    from vlmagent.models.locate import is_pretrained

    paper = f"paper/{task}"
    if model is not None and is_pretrained(model) and paper in recipes:
        typer.echo(
            f"Recipe: {paper}, since --model names a pretrained model. --config takes another.", err=True
        )
        return paper
    return task if task in recipes else None


def _check_same_task(config: str, task: str) -> None:
    """One task's recipe would train another badly, or not at all, without a word."""
    from vlmagent.config import find_config, read_yaml

    own = read_yaml(find_config(config)).get("task", task)
    if own != task:
        raise UsageError(
            f"--config {config} is a recipe for the task '{own}', not for '{task}'. Name that task, or another recipe."
        )


def build_config(
    task: str | None,
    config: str | None,
    overrides: list[str] | None,
    model: str | None,
    *,
    fetch: bool = True,
    trains: bool = True,
) -> Config:
    """Recipe, overrides and --model as one validated config; the task and the model are checked too.

    Args:
        fetch: whether the hub may be asked for the model.
        trains: whether the task must have what the recipe's supervised start asks of it.
    """
    from vlmagent.config import (
        Config,
        available_configs,
        find_config,
        load_config,
        merge,
        parse_overrides,
    )
    from vlmagent.config.validation import validate
    from vlmagent.models.encoders import check_encoders
    from vlmagent.models.locate import check_model
    from vlmagent.tasks.registry import task_from_config, task_names
    from vlmagent.training.sft.samples import check_offered

    if task is None and config is None:
        raise UsageError(
            f"Which task? Valid choices: {', '.join(task_names())}. Example: vlmagent train numberline"
        )
    over: dict[str, Any] = parse_overrides(overrides or [])
    if model is not None:
        over = merge(over, {"model": {"name": model}})
    if task is not None:
        over = merge({"task": task}, over)
    if config is not None and task is not None:
        _check_same_task(config, task)
    special = f"{task}-cnn" if over.get("agent") == "cnn" else None
    recipe = config or (special if special in available_configs() else None)
    recipe = recipe or _default_recipe(task, model, available_configs())
    resolved = load_config(find_config(recipe), over) if recipe else validate(Config, over)
    built = task_from_config(resolved)
    if trains and resolved.agent == "vlm":
        check_offered(built, resolved.sft)
    if trains:
        resolved.model.check_trainable()
    if resolved.model.name != "tiny" and fetch:
        check_model(resolved.model.name)
    if resolved.agent == "cnn":
        check_encoders(resolved.cnn)
    return resolved
