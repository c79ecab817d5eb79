"""What a shell offers on tab: tasks, runs, checkpoints, recipes, keys of a config.

Called by the shell through ``vlmagent --install-completion``, for every press of the key: imports stand inside, nothing
loads torch, and whatever goes wrong offers nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import typer

Offered = list[str]


def _matching(offer: Callable[[], Iterable[str]], incomplete: str) -> Offered:
    """What begins like the word; nothing where it cannot be found out: an error would be printed into the line."""
    with contextlib.suppress(Exception):
        return [word for word in offer() if word.startswith(incomplete)]
    return []


def tasks(incomplete: str) -> Offered:
    """Names of registered tasks."""
    from vlmagent.tasks.registry import task_names

    return _matching(task_names, incomplete)


def runs(incomplete: str) -> Offered:
    """Runs by name, newest first, and ``runs/latest``."""
    from vlmagent.runs.folders import all_runs

    return _matching(lambda: ["runs/latest", *(run.name for run in all_runs())], incomplete)


def checkpoints(ctx: typer.Context, incomplete: str) -> Offered:
    """``latest``, ``start`` and the steps of the run that the line names, or of the latest."""

    def offer() -> Iterator[str]:
        from vlmagent.runs.folders import resolve_run

        yield from ("latest", "start")
        named = ctx.params.get("run")
        run = resolve_run(named[0] if isinstance(named, list | tuple) and named else None)
        yield from sorted(folder.name for folder in run.checkpoints.glob("step-*"))

    found: Offered = []
    with contextlib.suppress(Exception):  # without a run the two names are there all the same
        found.extend(word for word in offer() if word.startswith(incomplete))
    return found


def recipes(incomplete: str) -> Offered:
    """Shipped recipes, ``paper/`` and all."""

    def offer() -> Iterator[str]:
        from vlmagent import paths

        folder = paths.config_dir()
        for file in sorted(folder.rglob("*.yaml")):
            name = file.relative_to(folder).with_suffix("").as_posix()
            if not name.startswith(("deepspeed/", "baselines")):
                yield name

    return _matching(offer, incomplete)


def config_keys(incomplete: str) -> Offered:
    """Dotted keys of a config, each up to its ``=``; section by section, as a path."""
    from vlmagent.config import Config

    return _matching(lambda: (f"{key}=" for key in _keys(Config, "")), incomplete)


def _keys(model: Any, prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def baselines(incomplete: str) -> Offered:
    """Experts, chance and the endpoints of the shipped file."""

    def offer() -> Iterator[str]:
        from vlmagent.agents.api.endpoints import endpoints

        yield from ("expert", "random", *endpoints())

    return _matching(offer, incomplete)


def artefacts(incomplete: str) -> Offered:
    """Tables and figures of the paper."""
    from vlmagent.evaluation.report.catalogue import ITEMS

    return _matching(lambda: ITEMS, incomplete)
