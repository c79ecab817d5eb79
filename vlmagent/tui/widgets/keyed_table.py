"""A table whose rows have keys: showing newer rows keeps the selection, the scroll position and all else.

Deliberately knows nothing of what it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text
from textual.widgets import DataTable

Cells = Sequence[Text]


class KeyedTable(DataTable[Text]):
    """A ``DataTable`` with a row cursor that is handed all its rows again and again."""

    def __init__(self, *, id: str | None = None, **more: Any) -> None:
        # "renderable": under the cursor, too, cells keep their own colours, which tell success from failure
        super().__init__(id=id, cursor_type="row", cursor_foreground_priority="renderable", **more)
        # title and width of each column
        self._names: tuple[tuple[str, int | None], ...] = ()
        self._shown: dict[str, Cells] = {}

    @property
    def current(self) -> str | None:
        """Key of the row under the cursor."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    def set_columns(self, columns: Sequence[tuple[str, int | None]]) -> None:
        """Title and width of each column; with other ones than before, ``show`` must be called again."""
        if tuple(columns) == self._names:
            return
        self._names = tuple(columns)
        # before `clear`, which puts the cursor on the first row
        kept = self.current
        self.clear(columns=True)
        self._shown = {}
        self._kept = kept
        for title, width in columns:
            self.add_column(Text(title, style="bold"), width=width, key=title)

    def show(self, rows: Mapping[str, Cells]) -> None:
        """Show these rows in this order; changes only what is different from before."""
        # the row that was chosen before the table was cleared, where it is empty now
        kept = self.current or self._kept
        self._kept = None
        # where the cursor goes if its row is gone
        place = self.cursor_row
        # a list of its own, because the table changes meanwhile
        for key in [key for key in self._shown if key not in rows]:
            self.remove_row(key)
        for key, cells in rows.items():
            if key not in self._shown:
                self.add_row(*cells, key=key)
            else:
                self._change(key, cells)
        # kept to tell the next time which cells changed: drawing costs more than comparing
        self._shown = dict(rows)
        order = {key: index for index, key in enumerate(rows)}
        if [row.key.value for row in self.ordered_rows] != list(order):
            self._order(order)
        self._select(kept, place)

    # the row to choose again at the next `show`, across a `clear`
    _kept: str | None = None

    def _change(self, key: str, cells: Cells) -> None:
        for (title, _), old, new in zip(self._names, self._shown[key], cells, strict=True):
            # equal texts with equal spans may still differ in their style, which `Text` does not compare
            if old != new or old.style != new.style:
                self.update_cell(key, title, new)

    def _order(self, order: Mapping[str, int]) -> None:
        """Sort by ``order``, which maps keys to places."""
        # `DataTable.sort` knows only the values of cells: the order is set as it does it, and the count has all cached
        # lines drawn anew
        by_place = sorted(self._data, key=lambda row_key: order[str(row_key.value)])
        self._row_locations = type(self._row_locations)({key: index for index, key in enumerate(by_place)})
        self._update_count += 1
        self.refresh()

    def _select(self, key: str | None, place: int) -> None:
        """Put the cursor on the row ``key``, or, when it is gone, where it was."""
        if not self.row_count:
            return
        row = self.get_row_index(key) if key in self._shown and key else min(place, self.row_count - 1)
        # a cursor that was out of sight moves without scrolling: the reader is looking at other rows
        if row != self.cursor_row:
            self.move_cursor(row=row, column=0, scroll=self.is_on_screen_row(self.cursor_row))

    def is_on_screen_row(self, row: int) -> bool:
        """Whether a row is in sight, as well as that can be told cheaply."""
        top = round(self.scroll_y)
        return top <= row < top + max(1, self.size.height - self.header_height)
