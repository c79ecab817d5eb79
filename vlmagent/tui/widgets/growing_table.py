"""A keyed table that can be begun anew or continued at its end, for lists that are read in pages.

Deliberately knows nothing of what it shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from vlmagent.tui.keys import key
from vlmagent.tui.widgets.keyed_table import Cells, KeyedTable


class GrowingTable(KeyedTable):
    """A table of many rows, each one line high."""

    BINDINGS: ClassVar = [
        key("home", "scroll_top", "First", "table.first", "To the first row", show=False),
        key("end", "scroll_bottom", "Last", "table.last", "To the last row", show=False),
    ]

    def restart(self, rows: Mapping[str, Cells]) -> None:
        """Other rows altogether; the selection stays where the same row is among them."""
        # before `clear`, which puts the cursor on the first row
        kept = self.current
        self.clear()
        self._shown = {}
        self._kept = kept
        self.show(rows)

    def append(self, rows: Mapping[str, Cells]) -> None:
        """More rows at the end."""
        for name, cells in rows.items():
            # a page may hold a row that has joined the top meanwhile
            if name not in self._shown:
                self.add_row(*cells, key=name)
                self._shown[name] = cells

    def _render_cell(
        self,
        row_index: int,
        column_index: int,
        base_style: Style,
        width: int,
        cursor: bool = False,
        hover: bool = False,
    ) -> list[list[Segment]]:
        """A cell that is one line of text, at a third of the usual cost: such lists change often."""
        # heads and labels, which have the row or the column -1
        if row_index < 0 or column_index < 0:
            return super()._render_cell(row_index, column_index, base_style, width, cursor, hover)
        # not kept, as `DataTable` keeps cells: its key holds the number of changes, so that a list which changes often
        # finds nothing there
        row, column = self._row_locations.get_key(row_index), self._column_locations.get_key(column_index)
        cell = self._data[row][column] if row is not None and column is not None else ""
        look, post = self._get_styles_to_render_cell(
            False, False, False, hover, cursor, self.show_cursor, self._show_hover_cursor,
            self.cursor_foreground_priority == "css", self.cursor_background_priority == "css",
        )  # fmt: skip
        # by which a mouse click tells the cell
        meta = Style.from_meta({"row": row_index, "column": column_index})
        style = base_style + meta + look
        pad, room = self.cell_padding, width - 2 * self.cell_padding
        text = cell if isinstance(cell, Text) else Text(str(cell))
        own = self.app.console.get_style(text.style)  # which render() leaves out when there are no spans
        segments = [Segment(" " * pad, style)]
        segments += [
            Segment(part.text, style + (part.style or own) + post)
            for part in text.render(self.app.console, end="")
        ]
        # cut or filled to the column; the blank at the right comes after it
        shown = Segment.adjust_line_length(segments, pad + room, style)
        return [[*shown, Segment(" " * pad, style)]]
