"""Which checks there are, in the order of their lines.

Each is imported where it runs: a package that is missing or broken costs a line and not the command.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable

from vlmagent.cli.doctor.findings import LIMIT_SECONDS, Check, Diagnosis, Finding, examine

_TORCH_LIMIT = 90.0
"""Loading torch has a limit of its own; this one lies above."""


def _check(area: str, name: str, place: str, essential: bool = False, limit: float = LIMIT_SECONDS) -> Check:
    """The check ``module:function`` of this package."""
    return Check(area, name, _later(*place.split(":")), essential, limit)


def _later(module: str, function: str) -> Callable[[], Iterable[Finding]]:
    def look() -> Iterable[Finding]:
        found: Iterable[Finding] = getattr(
            importlib.import_module(f"vlmagent.cli.doctor.{module}"), function
        )()
        return found

    return look


CHECKS = (
    _check("Program", "Python", "program:check_python", essential=True),
    _check("Program", "Packages", "program:check_packages", essential=True),
    _check("Extras", "Extras", "program:check_extras"),
    _check("Machine", "Processor", "machine:check_processor"),
    _check("Machine", "GPU", "machine:check_gpu", limit=_TORCH_LIMIT),
    _check("Places", "Runs folder", "places:check_runs_folder", essential=True),
    _check("Places", "Cache folder", "places:check_cache_folder", essential=True),
    _check("Places", "SQLite", "places:check_database", essential=True),
    _check("Training", "Environments", "training:check_environments", essential=True),
    _check("Training", "Other tasks", "training:check_other_tasks"),
    _check("Training", "Built-in model", "training:check_model", essential=True, limit=_TORCH_LIMIT),
    _check("Terminal", "Output", "terminal:check_terminal"),
    _check("Terminal", "Pictures", "terminal:check_pictures"),
    _check("ALFWorld", "alfworld", "household:check_alfworld"),
    _check("API keys", "Endpoints", "work:check_keys"),
    _check("Runs", "Runs", "work:check_runs"),
)


def diagnose() -> Diagnosis:
    """Look at everything."""
    return examine(CHECKS)
