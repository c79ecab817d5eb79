"""The rows of the list of episodes, in the columns that there is room for.

Deliberately reads nothing: it is handed rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from vlmagent.tui.data.columns import Fitted, cells_of, fit, heads, needed
from vlmagent.tui.data.episode_list import Row, View, columns_for, key_of
from vlmagent.tui.keys import key
from vlmagent.tui.widgets.growing_table import GrowingTable


class EpisodesTable(GrowingTable):
    """Episodes, or single outputs."""

    BINDINGS: ClassVar = [
        key("enter", "select_cursor", "Replay", "episodes.replay", "Replay this episode, from this step"),
    ]

    def __init__(self, *, id: str | None = None, **more: Any) -> None:
        super().__init__(id=id, **more)
        self._fitting: Fitted = ()
        # rows, view and width of the last `show_rows`, which `append_rows` may have to repeat
        self._shows: tuple[dict[str, Row], View, int] = ({}, View(), 0)

    def show_rows(self, rows: Mapping[str, Row], view: View, width: int, *, restart: bool) -> None:
        """Show these rows and no others.

        Args:
            width: cells there are.
            restart: they have little to do with those shown before.
        """
        self._shows = dict(rows), view, width
        colours = self.app.theme_variables
        self._fitting, cells = fit(lambda least: columns_for(view, width, least), rows.values(), colours)
        self.set_columns(heads(self._fitting))
        by_key = dict(zip(rows, cells, strict=True))
        if restart:
            self.restart(by_key)
        else:
            self.show(by_key)

    def append_rows(self, rows: Iterable[Row]) -> None:
        """Show more rows beneath; all are shown anew where a longer number than before is among them."""
        known, view, width = self._shows
        new = {key_of(row): row for row in rows}
        known.update(new)
        cells = {key: cells_of(row, self._fitting, self.app.theme_variables) for key, row in new.items()}
        # a number is longer than its column: all rows must be filled for the wider one
        if needed(self._fitting, cells.values()):
            self.show_rows(known, view, width, restart=False)
        else:
            self.append(cells)
