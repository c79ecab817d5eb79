"""A setting in a bar: its name, its value, and an action for a click."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from vlmagent.tui.text import safe_line


class Chip(Static):
    """Shows a setting; a click runs an action, for which there is also a key.

    Args:
        action: such as ``screen.outcome``.
    """

    DEFAULT_CSS = """
    Chip { width: auto; height: 1; max-width: 36; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    Chip:hover { background: $boost; }
    """

    def __init__(self, action: str, *, id: str | None = None) -> None:
        super().__init__("", id=id, markup=False)
        self._action = action

    def show(self, name: str, value: str, chosen: bool) -> None:
        """Show a value; ``chosen`` when it is not the usual one. Without a value the chip is gone."""
        self.display = bool(value)
        # a chip that is only news has no name
        gap = " " if name else ""
        shown = safe_line(value, 34, style="bold $primary" if chosen else "")
        self.update(Content.assemble((f"{name}{gap}", "$foreground-muted"), shown))

    async def on_click(self) -> None:
        await self.run_action(self._action)
