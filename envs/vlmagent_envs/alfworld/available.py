"""Whether ALFWorld and what each of its worlds needs are installed here, and what to do if not.

Looks for packages without importing them: ``alfworld`` makes a folder when imported.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
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
_TOOLS = ("cmake", "make", "g++")
_TOO_NEW = (3, 13)
_AI2THOR = "2.1.0"


def missing_packages() -> str | None:
    """What to do about packages that are not installed; None when all are there."""
    absent = [name for name in PACKAGES if not _installed(name)]
    if not absent:
        return None
    if sys.version_info >= _TOO_NEW:
        return (
            "ALFWorld's library textworld 1.7 does not work on Python 3.13 or newer. Use Python 3.11 or 3.12."
        )
    tools = [tool for tool in _TOOLS if shutil.which(tool) is None]
    need = f" It compiles a planner and needs {', '.join(tools)}, which this machine lacks." if tools else ""
    return f"ALFWorld needs packages that are not installed ({', '.join(absent)}). Run: {INSTALL}{need}"


def missing_for_thor(games: bool) -> str | None:
    """Everything that real frames need and this machine lacks, as one list; None when nothing is missing.

    Args:
        games: whether the real games are here.
    """
    lacks = [
        f"the package {name} (pip install {wanted})"
        for name, wanted in THOR_PACKAGES.items()
        if not _installed(name)
    ]
    if _installed("ai2thor") and (version := _version("ai2thor")) != _AI2THOR:
        lacks.append(f"ai2thor {_AI2THOR} instead of {version} (pip install ai2thor=={_AI2THOR})")
    if not (Path.home() / ".ai2thor" / "releases").is_dir():
        lacks.append("the simulator's build in ~/.ai2thor/releases (ai2thor downloads it when first used)")
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        lacks.append("an X display in $DISPLAY (a machine without a screen can run Xorg or Xvfb)")
    if not games:
        lacks.append("the real games (run alfworld-download, or set ALFWORLD_DATA to where they are)")
    if not lacks:
        return None
    listed = "; ".join(lacks)
    return f"env.world=thor lacks: {listed}. The generated household needs none of this: env.world=mini"


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "an unknown version"
