"""A keyed table that can be begun anew or continued at its end, for lists that are read in pages.

Deliberately knows nothing of what it shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vlmagent.tui.keys import key
from vlmagent.tui.widgets.keyed_table import Cells, KeyedTable


class GrowingTable(KeyedTable):
    """A table of many rows."""

    BINDINGS: ClassVar = [
        key("home", "scroll_top", "First", "table.first", "To the first row", show=False),
        key("end", "scroll_bottom", "Last", "table.last", "To the last row", show=False),
    ]

    def restart(self, rows: Mapping[str, Cells]) -> None:
        """Other rows altogether; the selection stays where the same row is among them."""
        kept = self.current
        self.clear()
        self._shown = {}
        self._kept = kept
        self.show(rows)

    def append(self, rows: Mapping[str, Cells]) -> None:
        """More rows at the end."""
        for name, cells in rows.items():
            if name not in self._shown:
                self.add_row(*cells, key=name)
                self._shown[name] = cells
