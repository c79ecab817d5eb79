"""All keys that work on the screen beneath, and what they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from vlmagent.tui.keys import key


@dataclass(frozen=True, slots=True)
class KeyHelp:
    """One action: its keys as people write them, what it does, and where it works."""

    keys: str
    text: str
    place: str


def keys_of(screen: Screen[object]) -> list[KeyHelp]:
    """Every enabled action of the screen and of what has the focus in it, in the order of their definition."""
    found: dict[tuple[str, str], KeyHelp] = {}
    bindings = sorted(screen.active_bindings.items(), key=lambda item: not item[1].binding.id)  # ours first
    for pressed, active in bindings:
        binding = active.binding
        if binding.system or not active.enabled or not (binding.tooltip or binding.description):
            continue
        place = _place(active.node, screen)
        shown = screen.app.get_key_display(binding.with_key(pressed))
        # keys with the same action share a line
        where = (place, binding.action)
        before = found.get(where)
        text = binding.tooltip or binding.description
        found[where] = KeyHelp(f"{before.keys} {shown}" if before else shown, text, place)
    order = ["on this screen", "in the focused pane", "everywhere"]
    # stable: within a place as they were defined
    return sorted(found.values(), key=lambda help: order.index(help.place))


def _place(node: object, screen: Screen[object]) -> str:
    if node is screen.app:
        return "everywhere"
    return "on this screen" if node is screen else "in the focused pane"


class HelpScreen(ModalScreen[None]):
    """Shows keys; any of the usual keys closes it."""

    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar = [key("escape,q,question_mark", "dismiss", "Close", "help.close", "Close the help")]

    def __init__(self, title: str, keys: Sequence[KeyHelp]) -> None:
        super().__init__()
        self._title, self._keys = title, keys

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help-box") as box:
            box.border_title = f"{self._title}: keys"
            box.border_subtitle = "escape closes · ctrl+p: all commands by name"
            yield Static(self._text())

    def _text(self) -> Group:
        colours = self.app.theme_variables
        parts: list[Text | Table] = []
        for place, helps in groupby(self._keys, lambda help: help.place):
            parts += [Text(place, style=f"bold {colours['primary']}"), Table.grid(padding=(0, 2))]
            # the grid just added
            table = parts[-1]
            assert isinstance(table, Table)
            table.add_column(width=14, justify="right", style="bold")
            table.add_column()
            for help in helps:
                table.add_row(Text(help.keys), Text(help.text))
            parts.append(Text())
        return Group(*parts[:-1])
