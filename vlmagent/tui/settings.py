"""What the dashboard remembers between sessions: the theme, and which runs are pinned.

Several dashboards may be open: each change is made to the file as it is at that moment, never to what was read before.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from textual.app import App

from vlmagent import paths
from vlmagent.errors import UsageError
from vlmagent.files import remedy, write_text
from vlmagent.paths import Run

# another dashboard has the lock for milliseconds; a file system without locks must not hold up the screen
LOCK_SECONDS = 0.5


def _file() -> Path:
    return paths.cache_dir() / "dashboard.json"


def load_theme() -> str | None:
    """The theme chosen last, None without a (readable) choice."""
    theme = _read().get("theme")
    return theme if isinstance(theme, str) else None


def save_theme(theme: str) -> None:
    """Remember the theme; where that is not possible, it is forgotten."""
    with contextlib.suppress(OSError), _changing() as settings:
        settings["theme"] = theme


def load_pins() -> set[str]:
    """The folders of the pinned runs; none without a (readable) file."""
    pins = _read().get("pins")
    return {pin for pin in pins if isinstance(pin, str)} if isinstance(pins, list) else set()


def save_pin(run: Run, pinned: bool) -> set[str]:
    """Pin or unpin a run; the other pins stay as they are in the file now. Returns all pins.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        with _changing() as settings:
            this = {str(run.resolve())}
            pins = load_pins() | this if pinned else load_pins() - this
            settings["pins"] = sorted(pins)
    except OSError as error:
        raise UsageError(
            f"What is pinned could not be kept in {_file()}: {error.strerror or error}. {remedy(error)}."
        ) from None
    return pins


def _read() -> dict[str, Any]:
    """The file; empty where there is none, or none that can be read."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _changing() -> Iterator[dict[str, Any]]:
    """The settings as they are in the file; what the block makes of them is written.

    Raises:
        OSError: the file cannot be written.
    """
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        # without the lock two changes in the same millisecond might lose one of them: no reason to refuse both
        with contextlib.suppress(Timeout, OSError, NotImplementedError):
            held.enter_context(FileLock(f"{file}.lock", timeout=LOCK_SECONDS))
        settings = _read()
        yield settings
        write_text(file, json.dumps(settings) + "\n")


def images_of(app: App[Any]) -> str:
    """How pictures are drawn in this application."""
    # another application than the dashboard's has no such setting, and half blocks work in all of them
    return str(getattr(app, "images", "half"))
