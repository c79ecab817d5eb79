"""Waiting in pilot tests: for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.message import Message
from textual.pilot import Pilot
from textual.widget import Widget

from vlmagent.tui import app as app_module
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.messages import Open


class Noting(VlmAgentApp):
    """The dashboard, but what its screens ask for is noted and not opened."""

    CSS_PATH = Path(app_module.__file__).with_name("app.tcss")

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.asked: list[Open] = []

    def check_message_enabled(self, message: Message) -> bool:
        if isinstance(message, Open):
            self.asked.append(message)
            return False
        return super().check_message_enabled(message)


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
