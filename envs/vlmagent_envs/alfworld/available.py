"""Whether ALFWorld and what each of its worlds needs are installed here, and what to do if not.

Looks for packages without importing them: ``alfworld`` makes a folder when imported.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PACKAGES = ("alfworld", "textworld", "fast_downward")
THOR_PACKAGES = {
    "ai2thor": "ai2thor==2.1.0",
    "cv2": "opencv-python",
    "torchvision": "torchvision",
    "werkzeug": "werkzeug==2.0.3",
}
INSTALL = "pip install 'vlmagent[alfworld]'"
BUILD_TOOLS = ("cmake", "make", "g++")
"""What the extra's planner is built with."""
_TOO_NEW = (3, 13)
_AI2THOR = "2.1.0"


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that is not here.

    Attributes:
        todo: how to get it.
        package: what pip would install; "" where pip cannot help.
    """

    what: str
    todo: str
    package: str = ""


def absent_packages() -> list[str]:
    """Packages of the extra that are not installed."""
    return [name for name in PACKAGES if not _installed(name)]


def absent_tools() -> list[str]:
    """Programs that installing the extra needs and that are not on the path."""
    return [tool for tool in BUILD_TOOLS if shutil.which(tool) is None]


def too_new() -> bool:
    """Whether ALFWorld's libraries do not work on this Python."""
    return sys.version_info >= _TOO_NEW


def missing_packages() -> str | None:
    """What to do about packages that are not installed; None when all are there."""
    absent = absent_packages()
    if not absent:
        return None
    if too_new():
        return (
            "ALFWorld's library textworld 1.7 does not work on Python 3.13 or newer. Use Python 3.11 or 3.12."
        )
    tools = absent_tools()
    need = f" It compiles a planner and needs {', '.join(tools)}, which this machine lacks." if tools else ""
    return f"ALFWorld needs packages that are not installed ({', '.join(absent)}). Run: {INSTALL}{need}"


def missing_for_thor(games: bool) -> str | None:
    """Everything that real frames need and this machine lacks, as one list; None when nothing is missing.

    Args:
        games: whether the real games are here.
    """
    lacks = lacks_for_thor(games)
    if not lacks:
        return None
    listed = "; ".join(f"{lack.what} ({lack.todo})" for lack in lacks)
    return (
        f"env.world=thor lacks: {listed}. `vlmagent doctor` looks again. "
        "The generated household needs none of this: env.world=mini"
    )


def lacks_for_thor(games: bool) -> list[Lack]:
    """The same, one by one."""
    lacks = [
        Lack(f"the package {name}", f"pip install {wanted}", wanted)
        for name, wanted in THOR_PACKAGES.items()
        if not _installed(name)
    ]
    if _installed("ai2thor") and (version := _version("ai2thor")) != _AI2THOR:
        wanted = THOR_PACKAGES["ai2thor"]
        lacks.append(Lack(f"ai2thor {_AI2THOR} instead of {version}", f"pip install {wanted}", wanted))
    if not (Path.home() / ".ai2thor" / "releases").is_dir():
        todo = "ai2thor downloads it when first used"
        lacks.append(Lack("the simulator's build in ~/.ai2thor/releases", todo))
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        lacks.append(Lack("an X display in $DISPLAY", "a machine without a screen can run Xorg or Xvfb"))
    if not games:
        lacks.append(Lack("the real games", "run alfworld-download, or set ALFWORLD_DATA to where they are"))
    return lacks


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "an unknown version"
