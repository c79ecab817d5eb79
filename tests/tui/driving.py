"""Waiting in pilot tests: for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot
from textual.widget import Widget


async def until(pilot: Pilot[Any], condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Let the application work until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen; on the screen:\n{seen(pilot)}"
        await pilot.pause(0.02)


def shown(widget: Widget) -> str:
    """The text a widget shows, line by line."""
    return "\n".join(widget.render_line(y).text for y in range(widget.size.height))


def said(widget: Widget) -> str:
    """The text a widget shows as one line, wherever its width breaks it."""
    return " ".join(shown(widget).split())


def seen(pilot: Pilot[Any]) -> str:
    """The text of the whole screen, line by line."""
    return "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())
