"""Which packages vlmagent asks for, and which are here: read from metadata, without importing any of them.

Knows nothing of findings.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion

_CHECKOUT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a vlmagent of this version asks for.

    Attributes:
        python: the versions of Python, such as ``>=3.11``.
        packages: what every installation needs.
        extras: what each extra adds.
    """

    python: str
    packages: tuple[Requirement, ...]
    extras: dict[str, tuple[Requirement, ...]]


def wanted() -> Wanted:
    """From a checkout's ``pyproject.toml``, which is newer than what pip once wrote about it, else from metadata."""
    checkout = checkout_folder()
    return _from_metadata() if checkout is None else _from_project(checkout / "pyproject.toml")


def checkout_folder() -> Path | None:
    """The checkout that this program runs from, None for an installed package."""
    return _CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else None


def _from_project(file: Path) -> Wanted:
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return Wanted(
        project["requires-python"],
        tuple(map(Requirement, project["dependencies"])),
        {name: tuple(map(Requirement, lines)) for name, lines in extras.items()},
    )


def _from_metadata() -> Wanted:
    about = metadata.metadata("vlmagent")
    every = [Requirement(line) for line in about.get_all("Requires-Dist") or []]
    extras: dict[str, tuple[Requirement, ...]] = {}
    for extra in about.get_all("Provides-Extra") or []:
        extras[extra] = tuple(one for one in every if f"extra == '{extra}'" in _marker(one))
    return Wanted(
        about["Requires-Python"], tuple(one for one in every if "extra ==" not in _marker(one)), extras
    )


def _marker(requirement: Requirement) -> str:
    return str(requirement.marker or "").replace('"', "'")


def applies(requirement: Requirement, extra: str = "") -> bool:
    """Whether this system and this Python are meant at all."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def version_of(requirement: Requirement) -> str | None:
    """The version that is here, None when there is none."""
    try:
        found: str | None = metadata.version(requirement.name)
    except (metadata.PackageNotFoundError, KeyError):
        return None
    return found or None  # a half-removed package has metadata without a version


def is_absent(name: str) -> bool:
    """Whether a package that is imported by its own name cannot be found."""
    return importlib.util.find_spec(name) is None


def in_range(requirement: Requirement, version: str) -> bool:
    """Whether ``version`` is one of those asked for; nightly builds count by their number."""
    try:
        return requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def unmet(requirements: tuple[Requirement, ...]) -> Iterator[tuple[Requirement, str | None]]:
    """Those of which no version, or a wrong one, is here."""
    for requirement in requirements:
        version = version_of(requirement)
        if version is None or not in_range(requirement, version):
            yield requirement, version


def installer() -> str:
    """The command that installs into this very Python: ``pip`` where that is the one beside it."""
    here = Path(sys.executable).parent
    found = shutil.which("pip")
    if found is not None and Path(found).parent == here:
        return "pip install"
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {shlex.quote(sys.executable)}"
    return f"{shlex.quote(sys.executable)} -m pip install"


def install_command(extra: str = "") -> str:
    """The command that installs vlmagent's packages, or those of an extra."""
    suffix = f"[{extra}]" if extra else ""
    checkout = checkout_folder()
    target = f"vlmagent{suffix}" if checkout is None else f"{checkout}{suffix}"
    return f"{installer()} {'' if checkout is None else '-e '}{shlex.quote(target)}"
