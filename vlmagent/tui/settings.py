"""What the dashboard remembers between sessions: the theme."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from textual.app import App

from vlmagent import paths
from vlmagent.files import write_text


def _file() -> Path:
    return paths.cache_dir() / "dashboard.json"


def load_theme() -> str | None:
    """The theme chosen last, None without a (readable) choice."""
    try:
        theme = json.loads(_file().read_text(encoding="utf-8"))["theme"]
    # no file yet, no JSON, or JSON of another shape
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return theme if isinstance(theme, str) else None


def save_theme(theme: str) -> None:
    """Remember the theme; where that is not possible, it is forgotten."""
    with contextlib.suppress(OSError):
        write_text(_file(), json.dumps({"theme": theme}) + "\n")


def images_of(app: App[Any]) -> str:
    """How pictures are drawn in this application."""
    # another application than the dashboard's has no such setting, and half blocks work in all of them
    return str(getattr(app, "images", "half"))
