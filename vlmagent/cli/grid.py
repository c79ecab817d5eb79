"""Tables that lose nothing: numbers, states and names keep their width, only texts are cut.

What does not fit side by side stands one value to a line. Knows neither runs nor results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vlmagent.text import harmless

Kind = Literal["name", "number", "text"]
GAP = 2
"""Cells between two columns."""
LEAST_TEXT = 16
"""A column of texts that would become narrower stands below the table instead."""
LONGEST_NOTE = 400
"""Characters of a text that stands below the table."""


def cell(value: object, style: str = "") -> Text:
    """One value on one line, fit to print; never read as markup."""
    return Text(harmless("" if value is None else str(value)), style=style)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a ``Grid``.

    Attributes:
        title: may have several lines.
        kind: names and numbers are shown in full, numbers to the right; texts may be cut.
    """

    title: str
    kind: Kind = "name"

    @property
    def width(self) -> int:
        """Of the title, in cells."""
        return max(cell_len(line) for line in self.title.split("\n"))


@dataclass(slots=True)
class Grid:
    """A table as wide as it needs to be, or the same values one below the other where that is too wide.

    Attributes:
        columns: the first one says what a row is about.
        rows: a cell for each column.
        sections: numbers of the rows before which there is a gap.
    """

    columns: Sequence[Column]
    rows: list[Sequence[Text]] = field(default_factory=list)
    sections: set[int] = field(default_factory=set)

    def add(self, *cells: Text) -> None:
        """One more row."""
        self.rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The first form that fits: all columns, the texts cut, the texts below, one value to a line."""
        wanted = [self._needed(index) for index in range(len(self.columns))]
        texts = [
            index for index, column in enumerate(self.columns) if column.kind == "text" and wanted[index]
        ]
        kept = [index for index, column in enumerate(self.columns) if column.kind != "text"]
        shown = sorted([*kept, *texts])
        left = options.max_width - sum(wanted[index] for index in kept) - GAP * (len(shown) - 1)
        if left < sum(min(wanted[index], LEAST_TEXT) for index in texts):
            left += GAP * len(texts)
            shown, below = kept, texts
        else:
            below = []
        if left < 0:
            yield from self._blocks(options.max_width)
            return
        if not below:
            _cut(wanted, texts, left)
        yield self._table(shown, wanted)
        for row in self.rows:
            yield from (_note(row[0], row[index]) for index in below if row[index])

    def _needed(self, index: int) -> int:
        """The width at which nothing of a column is cut; 0 for one without a value."""
        values = max((cell_len(row[index].plain) for row in self.rows), default=0)
        return max(values, self.columns[index].width) if values or index == 0 else 0

    def _table(self, shown: Sequence[int], widths: Sequence[int]) -> Table:
        # one blank and one divider of the box between two columns: GAP; no edges, they would cost two cells
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for index in shown:
            column = self.columns[index]
            table.add_column(
                Text(column.title, style="bold"),
                justify="right" if column.kind == "number" else "left",
                width=max(widths[index], 1),
                no_wrap=True,
                overflow="ellipsis",
            )
        for number, row in enumerate(self.rows):
            if number in self.sections and number:
                table.add_section()
            table.add_row(*(row[index] for index in shown))
        return table

    def _blocks(self, width: int) -> Iterator[RenderableType]:
        for row in self.rows:
            yield Text(row[0].plain, style=row[0].style or "bold", overflow="fold")
            titles = (" ".join(column.title.split()) for column in self.columns[1:])
            pairs = [(title, value) for title, value in zip(titles, row[1:], strict=True) if value]
            yield from _lines(pairs, width, indent=2)
            yield Text()


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values, one to a line or several where they fit; nothing is cut.

    Attributes:
        across: how many pairs may stand in one line.
    """

    pairs: Sequence[tuple[str, Text]]
    across: int = 1

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As many across as fit."""
        names = max((cell_len(name) for name, _ in self.pairs), default=0)
        values = max((cell_len(value.plain) for _, value in self.pairs), default=0)
        one = names + GAP + values
        across = max(1, min(self.across, (options.max_width + GAP) // (one + GAP)))
        if across == 1:
            yield from _lines(self.pairs, options.max_width)
            return
        for start in range(0, len(self.pairs), across):
            line = Text(no_wrap=True)
            for name, value in self.pairs[start : start + across]:
                line.append(name + " " * (names - cell_len(name) + GAP), style="dim")
                line.append_text(value).append(" " * (values - cell_len(value.plain) + GAP))
            line.rstrip()
            yield line


def _lines(pairs: Iterable[tuple[str, Text]], width: int, *, indent: int = 0) -> Iterator[RenderableType]:
    """One value to a line; below its name where both do not fit beside each other, folded where it is longer still."""
    pairs = list(pairs)
    names = max((cell_len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        if indent + names + GAP + cell_len(value.plain) <= width:
            line = Text(" " * indent, no_wrap=True)
            line.append(name + " " * (names - cell_len(name) + GAP), style="dim")
            yield line.append_text(value)
            continue
        yield Text(" " * indent + name, style="dim", overflow="fold")
        # a name that fits into a line of its own is not broken: people copy it
        room = indent + 2 + cell_len(value.plain) <= width
        yield Padding(
            Text(value.plain, style=value.style, overflow="fold"), (0, 0, 0, indent + 2 if room else 0)
        )


def _cut(widths: list[int], texts: Sequence[int], left: int) -> None:
    """Give the columns of texts what is left: the widest ones give way first."""
    while sum(widths[index] for index in texts) > left:
        widest = max(texts, key=lambda index: widths[index])
        widths[widest] -= 1


def _note(about: Text, text: Text) -> Text:
    said = text.plain if len(text.plain) <= LONGEST_NOTE else text.plain[: LONGEST_NOTE - 1] + "…"
    return Text.assemble((about.plain, "bold"), ": ", (said, text.style), overflow="fold")
