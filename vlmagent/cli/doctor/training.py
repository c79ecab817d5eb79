"""Checks of what a training begins with: environments are reset and stepped once, the built-in model acts and is saved.

They are the looks that every run takes first (``training.preflight``). The model is tried in a process of its own
(``trial``), where torch may crash or hang without harm.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from functools import partial

from rich.filesize import decimal

from vlmagent.cli.doctor import installed, machine
from vlmagent.cli.doctor.findings import Finding, State
from vlmagent.errors import VlmAgentError

AREA = "Training"
SLOW = ("alfworld",)
"""Its environment takes seconds to start, and more with each world; it has an area of its own."""
_found = partial(Finding, AREA)


def check_environments() -> Iterator[Finding]:
    """The program's own environments; without NumberLine's the built-in model has nothing to train on."""
    from vlmagent.tasks.registry import BUILT_IN

    todo = installed.install_command()
    names = [name for name in BUILT_IN if name not in SLOW]
    yield from _tried("Environments", names, todo, essential="numberline")


def check_other_tasks() -> Iterator[Finding]:
    """Tasks of other packages that are installed here."""
    from vlmagent.tasks.registry import BUILT_IN, task_names

    names = [name for name in task_names() if name not in BUILT_IN]
    if names:
        yield from _tried("Other tasks", names, "Mend the package that it comes with, or remove that.")
    else:
        yield _found("Other tasks", State.OK, "none installed")


def _tried(line: str, names: Iterable[str], remedy: str, essential: str = "") -> Iterator[Finding]:
    """One line for all environments in order, and one for each that is not."""
    good = []
    for name in names:
        # all that work share a line; each that does not needs its own remedy
        said = _problem(name)
        if said is None:
            good.append(name)
        else:
            yield _found(line, State.PROBLEM, said, remedy, essential=name == essential)
    if good:
        yield _found(line, State.OK, f"{', '.join(good)}: reset and stepped once, as training will")


def _problem(name: str) -> str | None:
    """Why a task's environment cannot be trained on; None where it can."""
    from vlmagent.tasks.recipes import recipe_of
    from vlmagent.tasks.registry import task_from_config
    from vlmagent.training.preflight import check_environment

    try:
        config = recipe_of(name, {})
        check_environment(task_from_config(config), config)
    except VlmAgentError as error:
        return str(error)
    return None


def check_model() -> Iterator[Finding]:
    """The built-in model, from nothing: one state encoded, one output sampled and scored, one checkpoint written."""
    found = partial(_found, "Built-in model")
    try:
        told = machine.ask("vlmagent.cli.doctor.trial")
    except machine.TorchError as error:
        if installed.is_absent("torch"):  # which has a line of its own
            yield found(State.NOTE, "Not known without torch.")
        else:
            yield found(
                State.PROBLEM, f"It cannot be built: {error}", installed.install_command(), essential=True
            )
    except subprocess.TimeoutExpired:
        text = f"Not known: it took over {machine.TORCH_SECONDS:g} s."
        yield found(State.NOTE, text, "Try again when the machine is idle.")
    else:
        if told["problem"]:
            yield found(State.PROBLEM, told["problem"], installed.install_command(), essential=True)
        else:
            text = f"acts, is scored, and can be saved ({decimal(told['bytes'])}) and read back"
            yield found(State.OK, f"{text}: {told['seconds']:.1f} s")
