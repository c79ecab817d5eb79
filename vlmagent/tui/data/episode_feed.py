"""The rows of the list of episodes: read page by page, renewed while the run goes on.

Deliberately knows no widget; every method that reads may raise ``StoreError`` and leaves the rows as they were.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.store.browse import Seen, look_at_episodes
from vlmagent.store.reader import NotReadyError, StoreReader
from vlmagent.tui.data.episode_list import (
    EVERYTHING,
    MOST_NEWS,
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
from vlmagent.tui.data.pieces import PieceReader
from vlmagent.tui.data.recordings import NAMES, Recording, read_recordings
from vlmagent.tui.data.source import Source, Worker
from vlmagent.tui.data.step_text import thought_weight
from vlmagent.tui.data.story import Story, read_story
from vlmagent.tui.data.trail import Place
from vlmagent.types import ImageArray

# between two counts: each goes through all episodes of the run
COUNT_SECONDS = 5.0
MOST_FOLLOWED = 200
"""Rows that a list keeps while it follows: taking old ones out of a table costs time for each."""


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
        home: the view that clearing all filters goes back to.
        label: the name of the evaluation or game whose episodes these are; "" for the run's own.
        loading: whether a page is being read.
        problem: why the last page could not be read, one sentence; "" when it could.
    """

    def __init__(self, run: Run, view: View) -> None:
        self.run = run
        self.view = view
        self.home = view
        self.label = ""
        self.loading = False
        self.problem = ""
        self.shown = view
        self.rows: dict[str, Row] = {}
        self.more = False
        self.waiting = 0
        self.looked_at = 0
        self.summary: Summary | None = None
        self._source = Source(run.database)
        self._recordings = Worker("recordings")
        self._pieces = PieceReader(run)
        # how many readings were begun: the number tells the newest one, whose end alone ends `loading`
        self._reads = 0
        # where the next page begins; None where nothing can follow
        self._cursor: Any = None
        # environment steps at the last look; -1 makes the first look find news
        self._steps = -1
        # which episodes may have ended since they were last among the rows, or were counted as such
        self._seen = Seen()
        # on the monotonic clock; 0 has the next `count` do it
        self._counted = 0.0

    @property
    def database(self) -> Path:
        """Where the episodes come from."""
        return self._source.database

    async def recordings(self) -> list[Recording]:
        """What episodes there are of this run: its own first, then evaluations and games."""
        return await self._recordings.call(lambda: read_recordings(self.run))

    def use(self, recording: Recording) -> None:
        """Take the episodes from another database of this run; no update of the training limits them."""
        self._source.close()
        self._source = Source(recording.database)
        self.label = "" if recording.database == self.run.database else recording.name
        # at once, not with the first page: what is shown must not be taken for episodes of the new database
        self.rows, self.summary, self.more = {}, None, False
        self.home = View()
        self.view = self.view.with_filter(updates=None)

    @property
    def data_name(self) -> str:
        """What the episodes are of, in a word or a few."""
        return self.label or NAMES[self.summary.split if self.summary else "train"]

    def close(self) -> None:
        """Let go of the databases."""
        self._source.close()
        self._recordings.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """While a page is read: ``loading`` says so, and what goes wrong becomes ``problem``."""
        self.loading = True
        self._reads += 1
        this = self._reads
        try:
            yield
        except StoreError as error:
            self.problem = _explained(error)
        finally:
            if this == self._reads:  # otherwise this reading was given up for a later one, which goes on
                self.loading = False

    def undone(self) -> View | None:
        """The view without its search, else without the filters set since ``home``; None when there are none."""
        # the search is undone alone: it was typed last, on top of filters that may be wanted still
        if self.view.text:
            return replace(self.view, text="")
        # at home there may be a range of updates that the list was opened with: leaving it is leaving the screen
        return None if self.view in (self.home, View()) else self.home

    @property
    def counts(self) -> str:
        """How many episodes have ended, and how many of them pass the filters; "" before that is known."""
        summary = self.summary
        if summary is None:
            return ""
        some = f"{summary.passing:,} of " if summary.passing != summary.total else ""
        return f"{some}{summary.total:,} finished"

    def why_empty(self) -> str:
        """What to say where there are no rows."""
        if self.problem:
            return ""  # which says it
        if self.loading:
            return "looking …"
        if self.view.filter != EVERYTHING or self.view.text:
            way = "u chooses other updates" if self.view == self.home else "escape clears them"
            return f"Nothing passes these filters. {way}."
        return "No episode has ended yet. They appear here as they end."

    async def restart(self) -> None:
        """Replace the rows by the first page of the present view."""
        view = self.view
        self.looked_at, self.waiting, self._counted = 0, 0, 0.0
        # in this order: what ends in between is news, and is found again
        seen, page, steps = await self._source.query(
            lambda reader: (look_at_episodes(reader), read_page(reader, view, None), reader.env_steps())
        )
        self.problem = ""
        # otherwise the user chose another view meanwhile, and its own reading is on the way
        if view == self.view:
            self._seen, self._steps, self.shown = seen, steps, view
            self.rows = {key_of(row): row for row in page.rows}
            self._take(page)

    async def read_more(self) -> list[Row]:
        """Add the next page; returns what is new, which may also have come since the end was reached."""
        view, cursor = self.shown, self._cursor
        # an empty list may be read again: its first episode may have ended since
        if cursor is None and self.rows:
            return []
        page = await self._source.query(lambda reader: read_page(reader, view, cursor))
        # the list was begun anew, or another page was added, while this one was read
        if view != self.shown or cursor != self._cursor:
            return []
        # a row whose place in a ranking has changed since may come a second time
        new = {key_of(row): row for row in page.rows if key_of(row) not in self.rows}
        self.rows.update(new)
        self._take(page)
        return list(new.values())

    def _take(self, page: Page) -> None:
        self._cursor, self.more = page.cursor, page.more
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
        grown = steps != self._steps
        self._steps = steps
        return grown

    async def read_news(self, shows: Callable[[], bool]) -> bool:
        """Look for newly finished episodes; returns whether the rows changed.

        Args:
            shows: asked at the end whether they may join the rows; otherwise they are counted as waiting.
        """
        view, seen = self.shown, self._seen
        found, now = await self._source.query(lambda reader: read_news(reader, view, seen))
        # the list was begun anew meanwhile, and its own look is the newer one
        if view != self.shown or seen is not self._seen:
            return False
        fresh = [row for row in found if key_of(row) not in self.rows and row.id > self._end]
        # rows that join at the top would move what a reader who scrolled is looking at
        if fresh and self.rows and not shows():
            self.waiting = len(fresh)
            return False
        # only now: what waits has to be found again
        self._seen = now
        if not fresh:
            return False
        if len(fresh) == MOST_NEWS:  # between them and the rows there may be others
            self._hold(fresh[:PAGE], more=True)
        else:
            # the new ones may lie between those that are there
            rows = sorted([*fresh, *self.rows.values()], key=lambda row: -episode_of(row)[0])
            self._hold(rows, more=self.more, cursor=self._cursor)
        return True

    @property
    def _end(self) -> int:
        """The last episode of the list if more follow it; those come with the next page, in their place."""
        return episode_of(list(self.rows.values())[-1])[0] if self.rows and self.more else 0

    def forget_end(self, least: int) -> None:
        """Let go of all but the newest rows, if they are many; the others can be read again.

        Args:
            least: keep so many in any case, because fewer would be read again at once.
        """
        kept = max(least, MOST_FOLLOWED)
        if len(self.rows) > kept:
            self._hold(list(self.rows.values())[:kept], more=True)

    def _hold(self, rows: Sequence[Row], *, more: bool, cursor: Any = None) -> None:
        self.rows = {key_of(row): row for row in rows}
        # the last row is itself a place to read on from
        self._cursor, self.more, self.waiting = cursor or rows[-1], more, 0

    async def look(self, row: Row) -> Look:
        """The step of a row: the output itself, or the last step of an episode."""
        episode, step = episode_of(row)

        def read(reader: StoreReader) -> Look:
            story = read_story(reader, episode, "", self._pieces, images=False)
            last = len(story.steps) - 1
            at = last if step is None else min(step, last)
            image = None
            # numbers and output are worth showing without the picture
            with contextlib.suppress(StoreError):
                image = reader.image(story.steps[at].image_sha256)
            return Look(story, at, thought_weight(reader.run()), image)

        return await self._source.query(read)


def _explained(error: StoreError) -> str:
    if isinstance(error, NotReadyError):
        return "The trainer is only just creating this run's database."
    return str(error)


class RowsTrail:
    """The rows of a feed as places to go through; reads more of them when the end is reached.

    Args:
        feed: whose rows.
        changed: called when there are more.
    """

    def __init__(self, feed: EpisodeFeed, changed: Callable[[], object]) -> None:
        self._feed = feed
        self._changed = changed

    @property
    def places(self) -> list[Place]:
        """The episode of each row, at the row's own step where it is an output."""
        found = (episode_of(row) for row in self._feed.rows.values())
        return [(episode, step or 0) for episode, step in found]

    @property
    def more(self) -> bool:
        """Whether more rows follow."""
        return self._feed.more

    async def extend(self, by: int) -> bool:
        """The next page; before the first row, the episodes that ended meanwhile."""
        if by < 0:
            # rankings and searches have no place before the first: a better one is found by reading them anew
            found = self._feed.shown.can_grow and await self._feed.read_news(lambda: True)
        else:
            found = await self._read_on()
        if found:
            self._changed()
        return found

    async def _read_on(self) -> bool:
        while True:
            count = len(self._feed.rows)
            # a page of a ranking ends after a moment, full or not: without a row that passes, go on
            await self._feed.read_more()
            if len(self._feed.rows) > count or not self._feed.more:
                return len(self._feed.rows) > count
