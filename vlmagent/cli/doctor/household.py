"""Checks of ALFWorld: its packages, the real games, what real frames need."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from vlmagent.cli.doctor import installed
from vlmagent.cli.doctor.findings import Finding, State
from vlmagent_envs.alfworld import available
from vlmagent_envs.alfworld.games import AlfworldError, count_games, data_folder, data_root
from vlmagent_envs.alfworld.problems import SPLITS

AREA = "ALFWorld"
_found = partial(Finding, AREA)


def check_alfworld() -> Iterator[Finding]:
    """Its three worlds: the generated household, the real games, and the real games in real frames."""
    absent = available.absent_packages()
    if absent:
        yield from _without(absent)
        return
    packages = installed.wanted().extras.get("alfworld", ())
    versions = ", ".join(f"{one.name} {installed.version_of(one)}" for one in packages)
    if any(installed.unmet(packages)):
        ranges = ", ".join(f"{one.name} {one.specifier}" for one in packages)
        todo = installed.install_command("alfworld")
        yield _found("alfworld", State.PROBLEM, f"{versions} may fail (needs {ranges}).", todo)
    else:
        yield _found("alfworld", State.OK, f"{versions}: the generated household can be played")
    yield _games()
    yield _thor()


def _without(absent: list[str]) -> Iterator[Finding]:
    """What to do where the extra is not, or only half, installed."""
    command = installed.install_command("alfworld")
    if available.too_new():
        version = ".".join(map(str, sys.version_info[:2]))
        text = f"Not installed; its library textworld 1.7 does not work on Python {version}."
        yield _found("alfworld", State.NOTE, text, "Use Python 3.11 or 3.12.")
        return
    # some of its packages are here and some are not: an installation that broke off
    if len(absent) < len(available.PACKAGES):
        yield _found("alfworld", State.PROBLEM, f"Half installed: {', '.join(absent)} is missing.", command)
    else:
        text = "Not installed; adds household tasks in words and pictures."
        yield _found("alfworld", State.NOTE, text, command)
    tools = available.absent_tools()
    if tools:
        text = f"{', '.join(tools)} missing, which the installation builds a planner with."
        todo = f"Install {' '.join(tools)} with the system's package manager, then the extra."
        yield _found("Build tools", State.NOTE, text, todo)
    else:
        text = f"{', '.join(available.BUILD_TOOLS)} are here; the planner takes some minutes to build"
        yield _found("Build tools", State.OK, text)


def _games() -> Finding:
    """How many of the real games are here, by split."""
    todo = f"{_download()}\nIf they are elsewhere: export ALFWORLD_DATA=FOLDER (that holds json_2.1.1)"
    # looking for the games raises where there are none, as it does for a run
    try:
        root = data_root(None)
    except AlfworldError:
        text = f"None in {data_folder()}; env.world=tw plays them."
        return _found("Real games", State.NOTE, text, todo)
    counts = {split: count_games(root, split) for split in SPLITS}
    text = f"{root}: {', '.join(f'{split} {count}' for split, count in counts.items())}"
    if all(counts.values()):
        return _found("Real games", State.OK, text)
    return _found("Real games", State.PROBLEM, f"{text}: not complete.", todo)


def _download() -> str:
    """The command that fetches the real games; it may lie beside this Python and not on the path."""
    name = "alfworld-download"
    beside = Path(sys.executable).with_name(name)
    return shlex.quote(str(beside)) if shutil.which(name) is None and beside.is_file() else name


def _thor() -> Finding:
    """Whether the simulator's frames can be had."""
    lacks = available.lacks_for_thor(games=True)  # those have a line of their own
    if not lacks:
        return _found("Real frames", State.OK, "packages, simulator and display of env.world=thor are here")
    packages = [lack.package for lack in lacks if lack.package]
    ways = [f"{installed.installer()} {' '.join(packages)}"] if packages else []
    ways += [f"{lack.what}: {lack.todo}" for lack in lacks if not lack.package]
    text = f"env.world=thor lacks {', '.join(lack.what.removeprefix('the package ') for lack in lacks)}."
    return _found("Real frames", State.NOTE, text, "\n".join(ways))
