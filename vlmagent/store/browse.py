"""Finds the episodes and outputs worth looking at, in pages by cursor that stay fast in a database of millions.

Deliberately writes nothing and knows no widget. Outputs are ranked and searched in windows: a call ends after
about ``seconds`` even when the filters let nothing through, and says where to go on.
"""

from __future__ import annotations

import abc
import json
import re
import time
from dataclasses import dataclass
from typing import Any, Literal

from vlmagent.store.queries import (
    EPISODE,
    EPISODE_ORDERS,
    EpisodeOrder,
    episode_filter,
    episode_row,
    fts_query,
)
from vlmagent.store.reader import StoreReader
from vlmagent.store.rows import EpisodeRow
from vlmagent.types import Split

Place = tuple[float, int]
"""Where an output stands in a ranking: what it is ranked by, and its id."""
OutputOrder = Literal["advantage", "logprob", "match"]
# outputs considered at once, doubled from window to window while filters let little through
WINDOW, LARGEST_WINDOW = 1000, 8000
# with fewer outputs than this in reach, sorting them all is quicker than walking an index of the whole run
NARROW = 20_000
# characters of an output in a list: more than any list shows in a row
EXCERPT = 400


@dataclass(frozen=True, slots=True)
class Filter:
    """What to leave out; None lets everything through.

    Attributes:
        success: of the episode.
        illegal: episodes with an output that named no legal action; of outputs, those themselves.
        updates: first and last update, both included.
    """

    split: Split | None = None
    success: bool | None = None
    illegal: bool | None = None
    updates: tuple[int, int] | None = None

    @property
    def selects_outputs(self) -> bool:
        """Whether any condition must be looked up for each single output."""
        return not (self.split is None and self.success is None and self.illegal is None)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What a list shows of an output; ``marks`` are (start, end) of the words searched for."""

    text: str
    marks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class OutputRow:
    """One output in a list, with what is known of its episode.

    Attributes:
        excerpt: at most ``EXCERPT`` characters of it, or the words around a match.
        marks: (start, end) of the matched words in ``excerpt``.
        key: what the list is ranked by.
    """

    id: int
    episode_id: int
    step: int
    update_index: int
    action: str
    legal_output: bool
    reward: float | None
    value: float | None
    logprob: float | None
    advantage: float | None
    seed: int
    success: bool | None
    episode_return: float | None
    length: int | None
    excerpt: str
    marks: tuple[tuple[int, int], ...]
    key: float


@dataclass(frozen=True, slots=True)
class OutputPage:
    """A page of outputs.

    Attributes:
        cursor: where the next page begins; None when nothing is left.
        looked_at: how many outputs were considered for this page.
    """

    rows: list[OutputRow]
    cursor: Place | None
    looked_at: int


def episode_page(
    reader: StoreReader,
    filter: Filter,
    order: EpisodeOrder = "newest",
    *,
    after: EpisodeRow | None = None,
    limit: int = 200,
) -> list[EpisodeRow]:
    """The finished episodes that follow ``after`` in this order."""
    column, way = EPISODE_ORDERS[order]
    where, values = _finished(filter)
    # seek, not OFFSET: a page costs the same wherever it is. The first half of the condition lets an index find the
    # place, the second one steps over equals by their ids
    if after is not None:
        sign = "<" if way == "DESC" else ">"
        key = getattr(after, column)
        where += f" AND {column} {sign}= ? AND ({column} {sign} ? OR id {sign} ?)"
        values += [key, key, after.id]
    sql = f"SELECT {EPISODE} FROM episodes WHERE {where} ORDER BY {column} {way}, id {way} LIMIT ?"
    return [episode_row(*row) for row in reader.query(sql, (*values, limit))]


@dataclass(frozen=True, slots=True)
class Seen:
    """How far episodes were looked at: the newest one begun by then, and those that were still going on."""

    newest: int = 0
    running: tuple[int, ...] = ()


def look_at_episodes(reader: StoreReader, seen: Seen | None = None) -> Seen:
    """How things stand now. Ask before reading rows: what ends in between is then read again, and not missed.

    Args:
        seen: an earlier look, from which this one goes on; without one, all episodes are gone through.
    """
    # those that had ended stay so: only the ones that ran, and those begun since, can be running
    where, values = _after(seen or Seen())
    sql = f"SELECT id FROM episodes WHERE ended = 'running' AND {where}"
    running = tuple(int(row[0]) for row in reader.query(sql, values))
    return Seen(int(reader.query("SELECT max(id) FROM episodes")[0][0] or 0), running)


def episodes_since(reader: StoreReader, filter: Filter, seen: Seen, limit: int = -1) -> list[EpisodeRow]:
    """The episodes that ended after a look, newest first; no limit below zero."""
    where, values = _finished(filter)
    after, more = _after(seen)
    sql = f"SELECT {EPISODE} FROM episodes WHERE {where} AND {after} ORDER BY id DESC LIMIT ?"
    return [episode_row(*row) for row in reader.query(sql, (*values, *more, limit))]


def _after(seen: Seen) -> tuple[str, list[Any]]:
    """The condition that episodes pass which may have ended since, and its values."""
    # episodes are numbered as they begin: one that began long before others may end after them
    return "(id > ? OR id IN (SELECT value FROM json_each(?)))", [seen.newest, json.dumps(seen.running)]


def count_episodes(reader: StoreReader, filter: Filter) -> int:
    """How many finished episodes pass ``filter``."""
    where, values = _finished(filter)
    return int(reader.query(f"SELECT count(*) FROM episodes WHERE {where}", values)[0][0])


def update_bounds(reader: StoreReader) -> tuple[int, int] | None:
    """First and last update that has outputs; None before the first."""
    sql = "SELECT (SELECT min(update_index) FROM transitions), (SELECT max(update_index) FROM transitions)"
    first, last = reader.query(sql)[0]
    return None if first is None else (int(first), int(last))


def output_page(
    reader: StoreReader,
    filter: Filter,
    order: OutputOrder,
    *,
    text: str = "",
    after: Place | None = None,
    limit: int = 100,
    seconds: float = 0.15,
) -> OutputPage:
    """The outputs that follow ``after``.

    Args:
        order: ``advantage``: largest absolute value first; ``logprob``: lowest first; ``match``: those that
            contain the words of ``text`` (see ``StoreReader.search``), newest first.
        seconds: return what was found when this much time is over.
    """
    ranking = _ranking(reader, filter, order, text)
    if ranking is None:
        return OutputPage([], None, 0)
    rows: list[OutputRow] = []
    began = time.monotonic()
    # without filters every output in a window is shown, so the window need not be larger than the page
    looked_at, cursor, size = 0, after, WINDOW if filter.selects_outputs else limit
    while True:
        begun = time.monotonic()
        window = ranking.window(reader, cursor, size)
        looked_at += window.size
        rows += ranking.rows(reader, filter, cursor, window, limit - len(rows))
        if len(rows) >= limit:
            # the page ends inside this window: the next one begins behind its last row, not behind the window
            return OutputPage(rows, (rows[-1].key, rows[-1].id), looked_at)
        now, cursor, size = time.monotonic(), window.last, min(2 * size, LARGEST_WINDOW)
        # the next window is twice as large and will take about twice as long: stop if that is too long
        if cursor is None or now - began + 2 * (now - begun) > seconds:
            return OutputPage(rows, cursor, looked_at)


@dataclass(frozen=True, slots=True)
class _Window:
    """Some outputs of a ranking, whatever the filters say.

    Attributes:
        last: place of the last one; None when nothing follows.
        ids: the outputs, where they were looked up.
    """

    size: int
    last: Place | None
    ids: tuple[int, ...] = ()


class _Ranking(abc.ABC):
    """Outputs in an order, as SQL: ``source`` follows FROM, ``order`` follows ORDER BY."""

    source: str
    order: str
    key: str

    @abc.abstractmethod
    def window(self, reader: StoreReader, after: Place | None, size: int) -> _Window:
        """The next ``size`` outputs after ``after``."""

    @abc.abstractmethod
    def inside(self, after: Place | None, window: _Window) -> tuple[str, list[Any]]:
        """The condition, and its values, that keeps what lies after ``after`` in ``window``."""

    @abc.abstractmethod
    def excerpt(self, output: str) -> Excerpt:
        """What a list shows of an output."""

    def rows(
        self, reader: StoreReader, filter: Filter, after: Place | None, window: _Window, limit: int
    ) -> list[OutputRow]:
        """The first ``limit`` outputs of ``window`` that pass the filter."""
        where, values = self.inside(after, window)
        for column, value in (("e.split", filter.split), ("e.success", filter.success)):
            if value is not None:
                where += f" AND {column} = ?"
                values.append(value)
        if filter.illegal is not None:
            where += " AND t.legal_output = ?"
            values.append(not filter.illegal)
        sql = (
            "SELECT t.id, t.episode_id, t.step, t.update_index, t.action, t.legal_output, t.reward, t.value, "
            # CROSS JOIN fixes the order in SQLite: transitions first, in the ranking's order, then each one's episode.
            # Left to choose, it may begin with all episodes and sort everything
            "t.logprob, t.advantage, e.seed, e.success, e.episode_return, e.length, "
            f"t.output, {self.key} FROM {self.source} CROSS JOIN episodes e ON e.id = t.episode_id "
            f"WHERE {where} ORDER BY {self.order} LIMIT ?"
        )
        return [self._row(*row) for row in reader.query(sql, (*values, limit))]

    def _row(self, *values: Any) -> OutputRow:
        *columns, output, key = values
        # by position in the SELECT above: 5 is `legal_output`, 11 `success`, which may be NULL while an episode runs
        columns[5] = bool(columns[5])
        columns[11] = None if columns[11] is None else bool(columns[11])
        found = self.excerpt(output)
        return OutputRow(*(*columns, found.text, found.marks, key))


class _Ranked(_Ranking):
    """Outputs by a number, over the index of that number where the database has one."""

    def __init__(self, reader: StoreReader, order: OutputOrder, ids: tuple[int, int]) -> None:
        self.key = "abs(t.advantage)" if order == "advantage" else "t.logprob"
        self.descending = order == "advantage"
        way = "DESC" if self.descending else "ASC"
        self.order = f"{self.key} {way}, t.id {way}"
        self.where, self.ids = f"t.{order} IS NOT NULL AND t.id BETWEEN ? AND ?", ids
        # the index ranks all outputs of the run: for a few updates out of many most of its entries would be passed
        # over. NOT INDEXED still finds a range of ids by the table's own order
        narrow, index = ids[1] - ids[0] < NARROW, f"transitions_{order}"
        # databases of the first schema, opened read-only, do not have the indexes; asking for them would be an error
        known = "SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = ?"
        self.indexed = not narrow and bool(reader.query(known, (index,)))
        hint = f"INDEXED BY {index}" if self.indexed else "NOT INDEXED" if narrow else ""
        self.source = f"transitions t {hint}"

    def window(self, reader: StoreReader, after: Place | None, size: int) -> _Window:
        if not self.indexed:  # each query sorts everything: one must do
            return _Window(self.ids[1] - self.ids[0] + 1, None)
        where, values = self.inside(after, _Window(0, None))
        # only the place where the window ends: index entries are read, not the rows behind them
        sql = (
            f"SELECT {self.key}, t.id FROM {self.source} WHERE {where} ORDER BY {self.order} LIMIT 1 OFFSET ?"
        )
        last = reader.query(sql, (*values, size - 1))
        return _Window(size, (last[0][0], int(last[0][1])) if last else None)

    def inside(self, after: Place | None, window: _Window) -> tuple[str, list[Any]]:
        where, values = self.where, list[Any](self.ids)
        beyond, until = ("<", ">") if self.descending else (">", "<")
        if after is not None:
            # as in `episode_page`: beyond the place, or at it with an id that comes later
            where += f" AND {self.key} {beyond}= ? AND ({self.key} {beyond} ? OR t.id {beyond} ?)"
            values += [after[0], after[0], after[1]]
        if window.last is not None:
            key, id_ = window.last
            # the window's last output is included, so equality of ids counts here
            where += f" AND {self.key} {until}= ? AND ({self.key} {until} ? OR t.id {until}= ?)"
            values += [key, key, id_]
        return where, values

    def excerpt(self, output: str) -> Excerpt:
        return Excerpt(output[:EXCERPT])


class _Matches(_Ranking):
    """Outputs that contain words, newest first."""

    source = "transitions t"
    order = "t.id DESC"
    key = "t.id"

    def __init__(self, text: str, query: str, ids: tuple[int, int]) -> None:
        self.query, self.ids = query, ids
        # longest first: of "be" and "better" the regular expression would else mark the shorter one inside the longer
        words = sorted(re.findall(r"\w+", text), key=len, reverse=True)
        # at most 50 words: a pasted page would become a pattern that costs more than the search
        self.words = re.compile("|".join(map(re.escape, words[:50])), re.IGNORECASE)

    def window(self, reader: StoreReader, after: Place | None, size: int) -> _Window:
        # conditions on rowid are passed down into FTS5, which walks its matches in that order by itself
        sql = (
            "SELECT rowid FROM transitions_fts WHERE transitions_fts MATCH ? AND rowid >= ? AND rowid <= ? "
            "ORDER BY rowid DESC LIMIT ?"
        )
        high = self.ids[1] if after is None else after[1] - 1
        ids = tuple(int(row[0]) for row in reader.query(sql, (self.query, self.ids[0], high, size)))
        # a full window may go on, one that is not full is the end
        return _Window(len(ids), (ids[-1], ids[-1]) if len(ids) == size else None, ids)

    def inside(self, after: Place | None, window: _Window) -> tuple[str, list[Any]]:
        # a list of any length as one value: SQLite limits the number of question marks
        return "t.id IN (SELECT value FROM json_each(?))", [json.dumps(window.ids)]

    def excerpt(self, output: str) -> Excerpt:
        found = self.words.search(output)
        # some words before the match, for its context
        start = max(0, found.start() - EXCERPT // 8) if found else 0
        text = output[start : start + EXCERPT]
        return Excerpt(text, tuple(match.span() for match in self.words.finditer(text)))


def _ranking(reader: StoreReader, filter: Filter, order: OutputOrder, text: str) -> _Ranking | None:
    """The ranking, or None when it is empty for certain."""
    ids = _id_range(reader, filter.updates)
    if ids is None:
        return None
    if order != "match":
        return _Ranked(reader, order, ids)
    query = fts_query(text)
    return _Matches(text, query, ids) if query else None


def _id_range(reader: StoreReader, updates: tuple[int, int] | None) -> tuple[int, int] | None:
    """First and last id of the outputs of these updates: ids grow with the updates. None without any."""
    if updates is None:
        return 0, reader.env_steps()
    # two seeks in the index of updates, whatever lies between
    sql = "SELECT id FROM transitions WHERE update_index BETWEEN ? AND ? ORDER BY update_index {0}, id {0} LIMIT 1"
    first, last = (reader.query(sql.format(way), updates) for way in ("ASC", "DESC"))
    return (int(first[0][0]), int(last[0][0])) if first and last else None


def _finished(filter: Filter) -> tuple[str, list[Any]]:
    """The condition that finished episodes pass, and its values."""
    return episode_filter(filter.split, filter.success, None, filter.illegal, filter.updates, finished=True)
