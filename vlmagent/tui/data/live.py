"""One run as the dashboard follows it: what ``follow.RunView`` knows, and every metric as a series.

Deliberately knows no widget. All reading happens on the run's own thread; what it found is added on the
screen's thread, so nothing is ever half new.
"""

from __future__ import annotations

import bisect
from array import array
from dataclasses import dataclass

import numpy as np

from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.runs import status
from vlmagent.runs.daemon import began_at
from vlmagent.runs.follow import News, RunView, read_news
from vlmagent.store.reader import NotReadyError
from vlmagent.store.rows import MetricRow, RunRow
from vlmagent.tui.data.pictures import Pictures
from vlmagent.tui.data.raster import Floats
from vlmagent.tui.data.source import Source
from vlmagent.tui.data.states import LIVE
from vlmagent.types import ImageArray

# rows a reading: a history of hours comes in parts, between which the screen obeys keys
METRICS_AT_ONCE = 8000
KEPT_IMAGE_BYTES = 2 * 2**20  # only the newest one is shown; steps of an episode often share it
SFT = "sft/"


class Series:
    """One metric over the updates, ascending; a re-done update replaces its value."""

    def __init__(self) -> None:
        # arrays of 64-bit integers and doubles: 8 bytes a value, and numpy copies them as a whole
        self.updates = array("q")
        self._env_steps = array("q")
        self._at = array("d")
        self._values = array("d")

    def __len__(self) -> int:
        return len(self.updates)

    def add(self, row: MetricRow) -> None:
        """Add or replace the value of one update."""
        # nearly always the end; a resumed run does its last updates again, from the checkpoint on
        place = bisect.bisect_left(self.updates, row.update_index)
        if place < len(self.updates) and self.updates[place] == row.update_index:
            self._env_steps[place], self._at[place], self._values[place] = row.env_steps, row.at, row.value
            return
        self.updates.insert(place, row.update_index)
        self._env_steps.insert(place, row.env_steps)
        self._at.insert(place, row.at)
        self._values.insert(place, row.value)

    @property
    def values(self) -> Floats:
        """float64 (N,)."""
        return np.array(self._values)

    def along(self, axis: str) -> Floats:
        """Where the values lie, float64 (N,): ``steps`` (environment steps), ``updates`` or ``time`` (unix)."""
        source = {"steps": self._env_steps, "updates": self.updates, "time": self._at}[axis]
        return np.array(source, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Change:
    """What one reading brought.

    Attributes:
        restarted: another run took the place of the old one: all that was known is gone.
    """

    news: News | None
    state: bool = False
    restarted: bool = False

    @property
    def metrics(self) -> bool:
        """Whether a metric is new."""
        return self.news is not None and bool(self.news.metrics)

    @property
    def more(self) -> bool:
        """Whether there is more to read at once."""
        return self.news is not None and self.news.more

    @property
    def step(self) -> bool:
        """Whether there is a newer step."""
        return self.news is not None and self.news.newest is not None


class LiveRun:
    """Follows the run in one folder.

    Attributes:
        view: what is known, as in the progress display.
        series: every metric by name.
        alive: whether its process exists, as far as that can be told.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.source = Source(run.database)
        self.alive = False
        self._beats = status.Heartbeats()
        self._pictures = Pictures(self.source, KEPT_IMAGE_BYTES)
        self._forget()

    def _forget(self) -> None:
        self.view = RunView(self.run)
        self.series: dict[str, Series] = {}

    def close(self) -> None:
        """Stop following; returns at once."""
        self.source.close()

    async def refresh(self) -> Change:
        """Read what is new. What could not be read becomes ``view.problem``, one sentence."""
        # what the state panes show, to tell whether they must be drawn again
        before = (self.view.state, self.view.problem, self.view.row and self.view.row.status)
        cursor = self.view.cursor
        problem, news = "", None
        try:
            news = await self.source.query(lambda reader: read_news(reader, cursor, METRICS_AT_ONCE))
        # the tables are still to be made: the state "starting" says so
        except NotReadyError:
            problem = ""
        except StoreError as error:
            problem = str(error)
        # reads files and asks for a process: on the source's thread too
        state, began = await self.source.call(lambda: (status.run_state(self.run), began_at(self.run)))
        restarted = news is not None and self._is_other(news)
        # the news are dropped: they were read from the old run's cursor on and lack the beginning. The next look, which
        # follows at once, begins at the first row
        if restarted:
            self._forget()
            return Change(None, state=True, restarted=True)
        if news is not None:
            self._take(news)
        view = self.view
        view.began = began
        view.state = seen_state(state, self.run, view.row, self._beats)
        # before silence is counted in: a process that is taken for lost can still be stopped
        self.alive = state in LIVE
        # while it starts, a database that is not there yet is no problem
        view.problem = "" if view.state == "starting" else problem
        return Change(news, (view.state, view.problem, view.row and view.row.status) != before)

    async def image(self, sha256: str) -> ImageArray | None:
        """A picture, or None when there is no such picture or it cannot be read."""
        try:
            return await self._pictures.read(sha256)
        except StoreError:
            return None

    def sft_series(self, name: str) -> tuple[Floats, Floats]:
        """A metric of the supervised start over the samples seen: x and y, (N,) each."""
        samples, wanted = self.series.get("sft/samples"), self.series.get(name)
        # the metrics of one entry are rows of their own, and a reading may end between them: no pairs until the rest is
        # there
        if samples is None or wanted is None or len(samples) != len(wanted):
            return np.zeros(0), np.zeros(0)
        return samples.values, wanted.values

    def _is_other(self, news: News) -> bool:
        """Whether the folder now holds another run than the one followed so far."""
        old = self.view.row
        # the file was made anew and has no run in it yet
        if news.row is None:
            return old is not None
        # a run of the same name may have been made again: its time tells them apart
        return old is not None and (old.id, old.created_at) != (news.row.id, news.row.created_at)

    def _take(self, news: News) -> None:
        for row in news.metrics:
            self.series.setdefault(row.name, Series()).add(row)
        self.view.take(news)


def seen_state(state: str, run: Run, row: RunRow | None, beats: status.Heartbeats) -> str:
    """``state``, but ``lost`` for a run whose process lives and has not said so for a while."""
    silent = row is not None and beats.is_silent(run, row)
    return "lost" if state == "running" and silent else state
