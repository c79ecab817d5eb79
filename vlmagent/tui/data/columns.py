"""Columns of the lists: chosen for the room there is, and never so narrow that a number loses a digit.

Only columns of text are cut; their ``fill`` does it and ends in an ellipsis. Everything else (numbers, signs, states)
is written whole by its ``fill``, and a column that turns out too narrow for one is made wider, at the cost of columns
that can be left out. Deliberately knows no widget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: in its head; also what it is called by.
        width: in cells; 0 takes what is left.
        fill: makes a cell of a row, of whatever else it depends on (colours of the theme, say), and of the width.
    """

    title: str
    width: int
    fill: Callable[[Any, Any, int], Text]


Fitted = Sequence[tuple[Column, int]]
"""Columns that fit, each with its width."""
Least = Mapping[str, int]
"""Cells that columns need at least, by title."""


def fit(
    choose: Callable[[Least], Fitted], rows: Iterable[Any], context: Any
) -> tuple[Fitted, list[list[Text]]]:
    """The columns for some rows, and the cells of each row.

    Args:
        choose: the columns that fit when they have at least these widths.
        context: handed to each ``fill``.
    """
    # an iterator would be used up by the first of several turns
    rows = list(rows)
    least: dict[str, int] = {}
    # a column that was widened may push another one out, or have others narrowed: choose again until all cells fit.
    # Widths only grow, and no further than the longest cell, so that this ends
    while True:
        columns = choose(least)
        cells = [cells_of(row, columns, context) for row in rows]
        # where there is no room at all a column keeps less than it was asked to: asking for the same again is no help
        wider = {
            title: width for title, width in needed(columns, cells).items() if width > least.get(title, 0)
        }
        if not wider:
            return columns, cells
        least |= wider


def cells_of(row: Any, columns: Fitted, context: Any) -> list[Text]:
    """The cells of one row, in the order of the columns."""
    return [column.fill(row, context, width) for column, width in columns]


def needed(columns: Fitted, cells: Iterable[Sequence[Text]]) -> dict[str, int]:
    """The columns that are too narrow for their cells, and the widths that these need."""
    found: dict[str, int] = {}
    for row in cells:
        for (column, width), cell in zip(columns, row, strict=True):
            if cell.cell_len > max(width, found.get(column.title, 0)):
                found[column.title] = cell.cell_len
    return found


def heads(columns: Fitted) -> list[tuple[str, int]]:
    """Title and width of each column; a title that begins with a blank stands at the right, as its numbers do."""
    found = []
    for column, width in columns:
        title = column.title.strip()
        found.append((title.rjust(width) if column.title.startswith(" ") else title, width))
    return found
