"""Checks of the program itself: Python, the packages it needs, the extras."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping
from functools import partial

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from vlmagent import __version__
from vlmagent.cli.doctor import installed
from vlmagent.cli.doctor.findings import Finding, State

PROGRAM, EXTRAS = "Program", "Extras"
SHOWN = ("torch", "transformers", "peft", "textual", "gymnasium")
"""Packages that get a line of their own; the others only when something is wrong with them."""
BRINGS: Mapping[str, str] = {
    "graphics": "pictures in the terminal's own graphics (kitty, sixel)",
    "report": "the figures of `vlmagent report`",
    "serve": "the dashboard in a browser (`vlmagent tui --serve`)",
    "deepspeed": "training on several GPUs or machines",
    "quant": "weights in 8 or 4 bits",
}
"""What an extra is good for. ALFWorld has an area of its own."""
_found = partial(Finding, PROGRAM)


def check_python() -> Iterator[Finding]:
    """Versions of the program, of Python and of the system."""
    place = installed.checkout_folder()
    where = "" if place is None else f", from the checkout {place}"
    yield _found("vlmagent", State.OK, f"{__version__}{where}")
    version = platform.python_version()
    wanted = installed.wanted()
    needs = wanted.python
    if not SpecifierSet(needs).contains(version, prereleases=True):
        todo = "Make an environment with another Python, and install vlmagent there."
        yield _found("Python", State.PROBLEM, f"{version} (needs {needs})", todo, essential=True)
    else:
        # the markers of its packages say up to which Python they work
        fits = all(installed.applies(one, "alfworld") for one in wanted.extras.get("alfworld", ()))
        alfworld = "right for" if fits else "too new for"
        yield _found("Python", State.OK, f"{version}, {alfworld} the extra alfworld ({sys.executable})")
    yield _found("System", State.OK, f"{platform.system()} {platform.release()}, {platform.machine()}")


def check_packages() -> Iterator[Finding]:
    """What every installation needs."""
    needed = [one for one in installed.wanted().packages if installed.applies(one)]
    others = [one for one in needed if one.name not in SHOWN]
    for requirement in sorted(needed, key=_as_shown):
        version = installed.version_of(requirement)
        # metadata without files: an installation that was removed by hand
        if requirement.name in SHOWN and version is not None and installed.is_absent(requirement.name):
            yield _wrong(requirement, f"{version} without its files")
        elif version is None or not installed.in_range(requirement, version):
            yield _wrong(requirement, version)
        elif requirement not in others:
            yield _found(requirement.name, State.OK, f"{version} (needs {requirement.specifier})")
    right = len(others) - len(list(installed.unmet(tuple(others))))
    yield _found("Others", State.OK, f"{right} more packages are as needed")


def _as_shown(requirement: Requirement) -> int:
    return SHOWN.index(requirement.name) if requirement.name in SHOWN else len(SHOWN)


def _wrong(requirement: Requirement, version: str | None) -> Finding:
    text = "is not installed" if version is None else f"is {version}"
    needs = f" (needs {requirement.specifier})"
    todo = installed.install_command()
    return _found(requirement.name, State.PROBLEM, text + needs, todo, essential=True)


def check_extras() -> Iterator[Finding]:
    """What may be added: one line for each extra."""
    extras = installed.wanted().extras
    for extra, brings in BRINGS.items():
        asked = extras.get(extra, ())
        yield _extra(extra, brings, tuple(one for one in asked if installed.applies(one, extra)))


def _extra(extra: str, brings: str, packages: tuple[Requirement, ...]) -> Finding:
    found = partial(Finding, EXTRAS, extra)
    if not packages:
        return found(State.NOTE, f"Not to be had on {platform.system()}: {brings}.")
    lacking = list(installed.unmet(packages))
    command = installed.install_command(extra)
    if not lacking:
        listed = ", ".join(f"{one.name} {installed.version_of(one)}" for one in packages)
        return found(State.OK, f"{listed}: {brings}")
    # a wrong version is a problem, none at all only an extra that was not chosen
    wrong = [f"{one.name} {version} (needs {one.specifier})" for one, version in lacking if version]
    if wrong:
        return found(State.PROBLEM, f"{', '.join(wrong)}: {brings} may fail.", command)
    return found(State.NOTE, f"Not installed; adds {brings}.", command)
