"""What the list of episodes shows: its filters, how a page is read, how a row becomes cells.

A list holds episodes, or single outputs when it is a ranking or a search. Deliberately knows no widget; the
reading functions run on the database's own thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.text import Text

from vlmagent.errors import UsageError
from vlmagent.store.browse import (
    Filter,
    OutputOrder,
    OutputRow,
    Seen,
    count_episodes,
    episode_page,
    episodes_since,
    look_at_episodes,
    output_page,
    update_bounds,
)
from vlmagent.store.queries import EPISODE_ORDERS, EpisodeOrder
from vlmagent.store.reader import StoreReader
from vlmagent.store.rows import EpisodeRow
from vlmagent.tui.data.columns import Column, Least
from vlmagent.tui.data.recordings import split_of
from vlmagent.tui.data.step_text import cut_off, signed
from vlmagent.tui.text import safe, safe_cell
from vlmagent.types import Split

# rows; more than any terminal shows at once
PAGE = 100
# rows that may join at once; where more have come, the list is begun anew from the top
MOST_NEWS = 5 * PAGE
OUTPUTS: dict[str, OutputOrder] = {"largest |advantage|": "advantage", "lowest log-prob": "logprob"}
ORDERS = (*EPISODE_ORDERS, *OUTPUTS)
OUTCOMES: dict[bool | None, str] = {None: "all", True: "success", False: "failure"}

Row = EpisodeRow | OutputRow
EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class View:
    """What the list shows: ``order`` is one of ``ORDERS``, ``text`` a search over outputs."""

    filter: Filter = EVERYTHING
    order: str = "newest"
    text: str = ""

    @property
    def lists_outputs(self) -> bool:
        """Whether its rows are outputs, not episodes."""
        return bool(self.text.strip()) or self.order in OUTPUTS

    @property
    def can_grow(self) -> bool:
        """Whether newly finished episodes belong at its top."""
        return not self.lists_outputs and self.order == "newest"

    def with_filter(self, **changes: Any) -> View:
        """The same view with another filter."""
        return replace(self, filter=replace(self.filter, **changes))

    def next_outcome(self) -> View:
        """All, then successes, then failures."""
        order = list(OUTCOMES)
        place = order.index(self.filter.success) + 1
        return self.with_filter(success=order[place % len(order)])

    def next_order(self, by: int) -> View:
        """In an order ``by`` places further in ``ORDERS``; leaves a search, whose matches have their own."""
        place = ORDERS.index(self.order) + by
        return replace(self, order=ORDERS[place % len(ORDERS)], text="")

    def ranked(self, order: str) -> View:
        """Outputs in this order; where they are in it already, the newest episodes again. Leaves a search."""
        return replace(self, order="newest" if self.order == order else order, text="")


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows.

    Attributes:
        cursor: where the next ones begin, or would if there were any; None when there cannot be.
        more: whether there are next ones.
        looked_at: outputs considered.
    """

    rows: Sequence[Row]
    cursor: Any
    more: bool
    looked_at: int


@dataclass(frozen=True, slots=True)
class Summary:
    """How many episodes there are, how many of them pass, which updates they cover, and of what kind they are."""

    total: int
    passing: int
    updates: tuple[int, int] | None
    split: Split


def key_of(row: Row) -> str:
    """A name for a row that stays the same."""
    return f"o{row.id}" if isinstance(row, OutputRow) else f"e{row.id}"


def episode_of(row: Row) -> tuple[int, int | None]:
    """The episode of a row, and the step when the row is one."""
    return (row.episode_id, row.step) if isinstance(row, OutputRow) else (row.id, None)


def read_page(reader: StoreReader, view: View, cursor: Any, limit: int = PAGE) -> Page:
    """The rows after ``cursor``, the first ones for None."""
    # a search ranks by itself, whatever order was chosen before
    if view.lists_outputs:
        order: OutputOrder = "match" if view.text.strip() else OUTPUTS[view.order]
        found = output_page(reader, view.filter, order, text=view.text, after=cursor, limit=limit)
        return Page(found.rows, found.cursor, found.cursor is not None, found.looked_at)
    order_: EpisodeOrder = view.order  # type: ignore[assignment]
    # the last row is the cursor; a page that is exactly full may have nothing behind it, which costs an empty one
    rows = episode_page(reader, view.filter, order_, after=cursor, limit=limit)
    return Page(rows, rows[-1] if rows else cursor, len(rows) == limit, len(rows))


def read_summary(reader: StoreReader, view: View) -> Summary:
    """Counts over the whole database."""
    total = count_episodes(reader, EVERYTHING)
    # counting goes through all episodes: once is enough where nothing is filtered
    passing = total if view.filter == EVERYTHING else count_episodes(reader, view.filter)
    return Summary(total, passing, update_bounds(reader), split_of(reader))


def read_news(reader: StoreReader, view: View, seen: Seen) -> tuple[list[EpisodeRow], Seen]:
    """The episodes that ended after a look, newest first, at most ``MOST_NEWS``; and a new look."""
    now = look_at_episodes(reader, seen)
    return episodes_since(reader, view.filter, seen, MOST_NEWS), now


def parse_updates(text: str, bounds: tuple[int, int] | None) -> tuple[int, int] | None:
    """``12``, ``5-20``, ``5-`` or ``-20`` as first and last update; None for nothing.

    Raises:
        UsageError: it is none of these, or the first comes after the last.
    """
    text = text.strip()
    if not text:
        return None
    first, last = bounds or (0, 0)
    # number, then perhaps a sign (-, an en dash, ..) with perhaps another number; twelve digits stay within SQLite's 64
    # bits
    match = re.fullmatch(r"(\d{1,12})?\s*(?:(-|–|\.\.)\s*(\d{1,12})?)?", text)
    # a sign alone matches too, and names no update
    if match is None or not (match[1] or match[3]):
        raise UsageError(f"'{text}' is no range of updates. Write 12, 5-20, 5- or -20.")
    low = int(match[1]) if match[1] else first
    if match[3]:
        high = int(match[3])
    elif match[2] is None:  # one number alone
        high = low
    else:
        # "90-" of a run with 50 updates is an empty list that will fill, not a mistake
        high = max(last, low)
    if low > high:
        raise UsageError(f"The range of updates {low}-{high} is empty: the first comes after the last.")
    return low, high


# Rows as cells


def columns_for(view: View, width: int, least: Least | None = None) -> list[tuple[Column, int]]:
    """The columns that fit into ``width`` cells, with their widths.

    Args:
        least: cells that some of them need, by title.
    """
    least = least or {}
    wanted = [
        replace(column, width=max(column.width, least.get(column.title, 0))) if column.width else column
        for column in (_OUTPUT_COLUMNS if view.lists_outputs else _EPISODE_COLUMNS)
    ]
    # `room` is what an excerpt should have; lists of episodes have no open column, there 0 means: does not fit
    for title, room in _DISPENSABLE:
        if width - _used(wanted) < (room if any(not column.width for column in wanted) else 0):
            wanted = [column for column in wanted if column.title.strip() != title]
    left = width - _used(wanted)
    # an excerpt keeps seven cells even where nothing is left for it
    return [(column, column.width or max(7, left)) for column in wanted]


def _used(columns: Sequence[Column]) -> int:
    """Cells that columns take, without what an open one gets."""
    # the scroll bar, and a blank of `DataTable` on either side of each cell
    return 1 + sum(column.width + 2 for column in columns)


def _right(text: str, width: int, style: str = "") -> Text:
    return Text(text.rjust(width), style=style, no_wrap=True, end="")


def _number(value: float | None, colours: Mapping[str, str], width: int) -> Text:
    if value is None:
        return _right("–", width, "dim")
    # neither good nor bad
    if value == 0:
        return _right(signed(value), width)
    return _right(signed(value), width, colours["success" if value > 0 else "error"])


def _plain(value: float | None, width: int) -> Text:
    return _right("–" if value is None else signed(value), width)


def _outcome(success: bool | None, colours: Mapping[str, str], word: bool) -> Text:
    if success is None:
        return Text("◐ running" if word else "◐", style=colours["primary"])
    sign, name, colour = ("✓", "success", "success") if success else ("✗", "failure", "error")
    return Text(f"{sign} {name}" if word else sign, style=colours[colour])


def _illegal(row: EpisodeRow, colours: Mapping[str, str], width: int) -> Text:
    return _right(str(row.illegal), width, colours["warning"]) if row.illegal else _right("·", width, "dim")


def _action(row: OutputRow, colours: Mapping[str, str], width: int) -> Text:
    style = "" if row.legal_output else colours["warning"]
    return safe_cell(row.action, width, style=style)


def _excerpt(row: OutputRow, colours: Mapping[str, str], width: int) -> Text:
    """The text from a little before the first match on; matches stand out."""
    # a third of the room for what comes before the match
    start = max(0, row.marks[0][0] - width // 3) if row.marks else 0
    if start:  # at a word, if one begins before the match
        # `find` says -1 where there is no blank: 0 after the addition, which leaves the start as it is
        start = (row.excerpt.find(" ", start, row.marks[0][0]) + 1) or start
    shown = row.excerpt[start:]
    text = Text(safe(shown, width, lines=False), no_wrap=True, end="")
    for first, last in row.marks:
        # marks count from the beginning of the excerpt, and may lie before or behind what is shown
        text.stylize(f"bold {colours['warning']}", max(0, first - start), max(0, last - start))
    return text


_EPISODE_COLUMNS: tuple[Column, ...] = (
    Column(" episode", 8, lambda row, c, w: _right(f"{row.id:,}", w)),
    Column(
        "update", 6, lambda row, c, w: _right("–" if row.update_index is None else str(row.update_index), w)
    ),
    Column("outcome", 9, lambda row, c, w: _outcome(row.success, c, word=True)),
    Column(" return", 7, lambda row, c, w: _number(row.episode_return, c, w)),
    Column("steps", 5, lambda row, c, w: _right("–" if row.length is None else str(row.length), w)),
    Column("illegal", 7, _illegal),
    Column("end", 7, lambda row, c, w: Text(cut_off(row.ended, brief=True), style="dim")),
    Column("      seed", 10, lambda row, c, w: _right(str(row.seed), w, "dim")),
    Column("env", 4, lambda row, c, w: _right(str(row.env_index), w, "dim")),
)
_OUTPUT_COLUMNS: tuple[Column, ...] = (
    Column(" episode", 8, lambda row, c, w: _right(f"{row.episode_id:,}", w)),
    Column("step", 4, lambda row, c, w: _right(str(row.step + 1), w)),
    Column("", 1, lambda row, c, w: _outcome(row.success, c, word=False)),
    Column("update", 6, lambda row, c, w: _right(str(row.update_index), w)),
    Column("   adv.", 7, lambda row, c, w: _plain(row.advantage, w)),
    Column("  log p", 7, lambda row, c, w: _plain(row.logprob, w)),
    Column("reward", 6, lambda row, c, w: _number(row.reward, c, w)),
    Column("action", 8, _action),
    Column("output", 0, _excerpt),
)
_DISPENSABLE = (
    ("env", 0), ("seed", 0), ("action", 26), ("end", 0), ("update", 12), ("reward", 12), ("illegal", 0), ("", 12),
)  # fmt: skip
"""What is left out, in this order, while an excerpt has fewer cells than this, or the columns do not fit. The action
stands in the output as well, so that it goes first; a number goes only where the excerpt would say nothing."""
