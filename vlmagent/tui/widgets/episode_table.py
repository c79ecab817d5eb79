"""The rows of the list of episodes, in the columns that there is room for.

Deliberately reads nothing: it is handed rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from vlmagent.tui.data.episode_list import Column, Row, View, cells_of, columns_for, key_of
from vlmagent.tui.keys import key
from vlmagent.tui.widgets.growing_table import GrowingTable


class EpisodesTable(GrowingTable):
    """Episodes, or single outputs."""

    BINDINGS: ClassVar = [
        key("enter", "select_cursor", "Replay", "episodes.replay", "Replay this episode, from this step"),
    ]

    def __init__(self, *, id: str | None = None, **more: Any) -> None:
        super().__init__(id=id, **more)
        self._fitting: list[tuple[Column, int]] = []

    def show_rows(self, rows: Mapping[str, Row], view: View, width: int, *, restart: bool) -> None:
        """Show these rows and no others.

        Args:
            width: cells there are.
            restart: they have little to do with those shown before.
        """
        self._fitting = columns_for(view, width)
        self.set_columns([(column.title, cells) for column, cells in self._fitting])
        colours = self.app.theme_variables
        cells = {name: cells_of(row, self._fitting, colours) for name, row in rows.items()}
        if restart:
            self.restart(cells)
        else:
            self.show(cells)

    def append_rows(self, rows: Iterable[Row]) -> None:
        """Show more rows beneath."""
        colours = self.app.theme_variables
        self.append({key_of(row): cells_of(row, self._fitting, colours) for row in rows})
