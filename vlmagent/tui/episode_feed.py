"""The rows of the list of episodes: read page by page, renewed while the run goes on.

Deliberately knows no widget; every method that reads may raise ``StoreError`` and leaves the rows as they were.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmagent import paths
from vlmagent.errors import StoreError
from vlmagent.store.reader import StoreReader
from vlmagent.tui.episode_list import (
    PAGE,
    Page,
    Row,
    Summary,
    View,
    episode_of,
    key_of,
    read_news,
    read_page,
    read_summary,
)
from vlmagent.tui.export import Story, read_story
from vlmagent.tui.pieces import PieceReader
from vlmagent.tui.source import Source
from vlmagent.tui.widgets.step_facts import thought_weight
from vlmagent.types import ImageArray

COUNT_SECONDS = 5.0
MOST_FOLLOWED = 1000


@dataclass(frozen=True, slots=True)
class Look:
    """One step of an episode with what is needed to show it."""

    story: Story
    step: int
    weight: float | None
    image: ImageArray | None


class EpisodeFeed:
    """What one list shows.

    Attributes:
        view: filters, order, search. Change it, then call ``restart``.
        rows: by ``key_of``, in the order of the list.
        shown: the view that the rows belong to.
        more: whether more rows follow.
        waiting: newly finished episodes that are not among the rows.
        looked_at: outputs considered so far, for rankings and searches.
        summary: counts; None until they are known.
    """

    def __init__(self, run: Path, view: View) -> None:
        self.run = run
        self.view = view
        self.shown = view
        self.rows: dict[str, Row] = {}
        self.more = False
        self.waiting = 0
        self.looked_at = 0
        self.summary: Summary | None = None
        self._source = Source(run / paths.DATABASE)
        self._pieces = PieceReader(run)
        self._cursor: Any = None
        self._seen = -1
        self._counted = 0.0

    @property
    def database(self) -> Path:
        """Where the episodes come from."""
        return self._source.database

    def use(self, database: Path) -> None:
        """Take the episodes from another database of this run."""
        self._source.close()
        self._source = Source(database)
        self.rows, self.summary, self.more = {}, None, False

    def close(self) -> None:
        """Let go of the database."""
        self._source.close()

    async def restart(self) -> None:
        """Replace the rows by the first page of the present view."""
        view = self.view
        self.looked_at, self.waiting, self._counted = 0, 0, 0.0
        page, seen = await self._source.query(
            lambda reader: (read_page(reader, view, None), reader.env_steps())
        )
        if view == self.view:
            self._seen, self.shown = seen, view
            self.rows = {key_of(row): row for row in page.rows}
            self._take(page)

    async def read_more(self) -> list[Row]:
        """Add the next page; returns what is new."""
        view, cursor = self.shown, self._cursor
        page = await self._source.query(lambda reader: read_page(reader, view, cursor))
        if view != self.shown or cursor != self._cursor:
            return []
        new = {key_of(row): row for row in page.rows if key_of(row) not in self.rows}
        self.rows.update(new)
        self._take(page)
        return list(new.values())

    def _take(self, page: Page) -> None:
        self._cursor, self.more = page.cursor, page.cursor is not None
        self.looked_at += page.looked_at

    async def count(self) -> None:
        """Count anew, unless that was done a moment ago."""
        view = self.view
        if time.monotonic() - self._counted < COUNT_SECONDS:
            return
        summary = await self._source.query(lambda reader: read_summary(reader, view))
        if view == self.view:
            self.summary, self._counted = summary, time.monotonic()

    async def has_news(self) -> bool:
        """Whether the database has grown since the last look."""
        steps = await self._source.query(lambda reader: reader.env_steps())
        grown, self._seen = steps != self._seen, steps
        return grown

    async def read_news(self, follows: Callable[[], bool]) -> bool:
        """Look for newly finished episodes; returns whether the rows changed.

        Args:
            follows: asked at the end whether they may join the rows; otherwise they are counted as waiting.
        """
        view = self.shown
        first = [episode_of(row)[0] for row in list(self.rows.values())[:PAGE]]
        found = await self._source.query(lambda reader: read_news(reader, view, first[-1] if first else 0))
        fresh = [row for row in found if key_of(row) not in self.rows]
        if view != self.shown or not fresh:
            return False
        if self.rows and not follows():
            self.waiting = len(fresh)
            return False
        self._merge([*fresh, *self.rows.values()])
        return True

    def _merge(self, rows: list[Row]) -> None:
        """Newest first; a list that has followed for long forgets its end, which can be read again."""
        ordered = sorted(rows, key=lambda row: -episode_of(row)[0])
        if len(ordered) > MOST_FOLLOWED:
            ordered = ordered[:MOST_FOLLOWED]
            self._cursor, self.more = ordered[-1], True
        self.rows = {key_of(row): row for row in ordered}
        self.waiting = 0

    async def look(self, row: Row) -> Look:
        """The step of a row: the output itself, or the last step of an episode."""
        episode, step = episode_of(row)

        def read(reader: StoreReader) -> Look:
            story = read_story(reader, episode, "", self._pieces, images=False)
            last = len(story.steps) - 1
            at = last if step is None else min(step, last)
            image = None
            with contextlib.suppress(StoreError):
                image = reader.image(story.steps[at].image_sha256)
            return Look(story, at, thought_weight(reader.run()), image)

        return await self._source.query(read)
