"""What is known of a run while it goes on, gathered from its database by cursor; only what is new is read.

Deliberately knows no screen: the progress display and the dashboard draw it, each in its own way.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.runs import status
from vlmagent.runs.daemon import began_at
from vlmagent.runs.worked import WorkedTime, end_of
from vlmagent.store.reader import StoreReader
from vlmagent.store.rows import EventRow, MetricRow, RunRow, TransitionRow
from vlmagent.types import SFT_STAGES, ImageArray

# updates whose speed is averaged for the estimate of the time left: enough to smooth, few enough to follow
SPEED_UPDATES = 3
# updates whose metrics are kept by name: followers print each once, soon after it ended
KEPT_UPDATES = 50
PHASES = {
    "loading": "loading",
    "sft": "supervised start",
    "rl": "reinforcement learning",
    "saving": "saving",
}


@dataclass(frozen=True, slots=True)
class Goal:
    """What the config promises: numbers to compare progress with; 0 when unknown."""

    sft_samples: int = 0
    env_steps: int = 0
    updates: int = 0

    @classmethod
    def of(cls, config: Mapping[str, Any], done: tuple[int, int] = (0, 0), status: str = "") -> Goal:
        """Read from a resolved config.

        Args:
            done: updates and environment steps of a run so far, to which as many whole updates come as fit: earlier
                ones may have been of another length (see ``config.changes.steps_in_all``).
            status: of the run's row. With ``ppo.stop_when``, one that is ``done`` may have learnt its task before:
                then it is where it was to go.
        """
        # a config of another version, or one that an older program wrote: then only the totals are unknown
        try:
            size = int(config["ppo"]["steps_per_update"])
            # only whole updates are trained, so the target is rounded down
            updates, steps = done
            left = max(0, int(config["ppo"]["env_steps"]) - steps) // size
            if status == "done" and config["ppo"].get("stop_when", {}).get("success"):
                left = 0
            # configs of earlier versions have fewer stages
            sft = config["sft"]
            samples = sum(int(sft.get(stage, 0)) for stage in SFT_STAGES)
            return cls(samples, steps + left * size, updates + left)
        except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError):
            return cls()


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a follower has read: the highest ids it has seen."""

    metric_id: int = 0
    event_id: int = 0
    transition_id: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """What a run wrote after a cursor.

    Attributes:
        newest: the newest step, None when it is the one already known.
        recent: success rate of the last episodes and their number, None when no step is new.
        more: there are more metrics than were asked for.
    """

    row: RunRow | None
    metrics: Sequence[MetricRow]
    events: Sequence[EventRow]
    env_steps: int
    newest: TransitionRow | None
    recent: tuple[float, int] | None
    more: bool


def read_news(reader: StoreReader, cursor: Cursor, limit: int = -1) -> News:
    """What was written after ``cursor``; at most ``limit`` metrics unless it is negative.

    Raises:
        StoreError: the database cannot be read.
    """
    metrics = reader.metrics(cursor.metric_id, limit)
    steps = reader.env_steps()
    # ids of transitions count up from 1, so their number is also the cursor; an idle run costs one look-up
    changed = steps != cursor.transition_id
    return News(
        row=reader.run(),
        metrics=metrics,
        events=reader.events(cursor.event_id),
        env_steps=steps,
        # the text of a step is long and its episode's rate a query: both only when there is a new step
        newest=reader.latest_transition() if changed else None,
        recent=reader.recent_success() if changed else None,
        # exactly `limit` came: probably not all. An exact fit costs one empty read, nothing more
        more=len(metrics) == limit,
    )


@dataclass
class RunView:
    """What is known of a run; ``refresh`` reads only what is new."""

    run: Run
    state: str = "starting"
    row: RunRow | None = None
    goal: Goal = field(default_factory=Goal)
    phase: str = ""
    env_steps: int = 0
    metrics: dict[str, MetricRow] = field(default_factory=dict)
    updates: dict[int, dict[str, MetricRow]] = field(default_factory=dict)
    success: dict[int, float] = field(default_factory=dict)
    speeds: deque[float] = field(default_factory=lambda: deque(maxlen=SPEED_UPDATES))
    recent: tuple[float, int] = (math.nan, 0)
    newest: TransitionRow | None = None
    events: deque[EventRow] = field(default_factory=lambda: deque(maxlen=50))
    problem: str = ""
    began: float = 0.0
    """When the present process took the run."""
    _reader: StoreReader | None = None
    _config: Mapping[str, Any] = field(default_factory=dict)
    _config_json: str = ""
    _done: tuple[int, int] = (0, 0)
    _metric_id: int = 0
    _event_id: int = 0
    _sft_began: MetricRow | None = None
    _picture: tuple[str, ImageArray] | None = None
    _worked: WorkedTime | None = None

    def refresh(self) -> None:
        """Read what is new. A database that cannot be read right now becomes ``problem``."""
        self.state, self.began = status.run_state(self.run), began_at(self.run)
        try:
            self._read()
            self.problem = ""
        except StoreError as error:
            # while it starts, a database that is not there yet is no problem to be shown
            self.problem = str(error) if self.state != "starting" else ""
            # opened again next time: a file that was replaced or came back cannot be read through the old connection
            self.close()

    def close(self) -> None:
        """Let go of the database."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def metric(self, name: str) -> float:
        """The newest value of a metric, NaN without one."""
        row = self.metrics.get(name)
        return math.nan if row is None else row.value

    def picture(self) -> ImageArray | None:
        """What was seen in the newest step, uint8 (H, W, 3); None where it cannot be read. Kept until it changes."""
        if self.newest is None or self._reader is None:
            return None
        # decoding costs milliseconds, and a picture may stay for many looks
        key = self.newest.image_sha256
        if self._picture is None or self._picture[0] != key:
            try:
                self._picture = key, self._reader.image(key)
            except StoreError:
                return None
        return self._picture[1]

    @property
    def fraction(self) -> float:
        """How much of the present phase is done, in [0, 1]."""
        done, total = self.counts
        return min(1.0, done / total) if total else 0.0

    @property
    def counts(self) -> tuple[int, int]:
        """Done and total of the present phase: SFT samples or environment steps."""
        if self.phase == "sft":
            samples = self.metric("sft/samples")
            return (0 if math.isnan(samples) else int(samples)), self.goal.sft_samples
        return self.env_steps, self.goal.env_steps

    @property
    def seconds_left(self) -> float:
        """Estimate for the present phase from the last updates, NaN when there is nothing to go by."""
        done, total = self.counts
        # the supervised start has no updates: its speed is measured between two of its own metrics
        if self.phase == "sft":
            first, last = self._sft_began, self.metrics.get("sft/samples")
            if first is None or last is None or last.at <= first.at or last.value <= first.value:
                return math.nan
            return (total - done) * (last.at - first.at) / (last.value - first.value)
        # nothing measured yet, or a config without a target: NaN, for which displays show no time
        speed = sum(self.speeds) / len(self.speeds) if self.speeds else 0.0
        return (total - done) / speed if speed > 0 and total else math.nan

    @property
    def seconds_trained(self) -> float:
        """How long the run was trained in all its sessions, up to now if it goes on; NaN before that is known."""
        if self.row is None or self._worked is None:
            return math.nan
        alive = self.state in ("starting", "running")
        began = self.began if alive else 0.0
        return self._worked.seconds(end_of(self.row, alive, time.time()), began)

    @property
    def cursor(self) -> Cursor:
        """Up to where the database was read."""
        return Cursor(self._metric_id, self._event_id, self.env_steps)

    def take(self, news: News) -> None:
        """Add what was read after ``cursor``."""
        self.row = news.row
        if news.row is not None:
            self._worked = self._worked or WorkedTime(news.row.created_at)
            self._worked.take(news.events, news.metrics)
        for row in news.metrics:
            self._take_metric(row)
        if self.row is not None:
            self._take_config(self.row.config_json)
        for event in news.events:
            self._take_event(event)
        self.env_steps = news.env_steps
        # None says "nothing new", not "nothing there"
        self.newest = news.newest or self.newest
        self.recent = news.recent or self.recent

    def _read(self) -> None:
        if self._reader is None:
            # before the daemon has made the database there is nothing to open, and nothing wrong
            if not self.run.database.exists() and self.state == "starting":
                return
            self._reader = StoreReader(self.run.database)
        self.take(read_news(self._reader, self.cursor))

    def _take_config(self, text: str) -> None:
        """What the run is to reach, which may change whenever it goes on."""
        # parsed only when it changed: this is asked several times a second
        if text != self._config_json:
            self._config_json = text
            with contextlib.suppress(ValueError):
                self._config = json.loads(text)
        self.goal = Goal.of(self._config, self._done, "" if self.row is None else self.row.status)

    def _take_event(self, event: EventRow) -> None:
        self._event_id = event.id
        if event.level == "phase":
            # `phase: sft (2000 samples)`: the first word is the phase, the rest is for people
            words = event.text.removeprefix("phase:").split()
            self.phase = words[0] if words else ""
        self.events.append(event)

    def _take_metric(self, row: MetricRow) -> None:
        self._metric_id = row.id
        self.metrics[row.name] = row
        # metrics of the supervised start have its optimiser steps in place of the update, and 0 environment steps
        if not row.name.startswith("sft/"):
            self._done = (row.update_index, row.env_steps)
            self.updates.setdefault(row.update_index, {})[row.name] = row
            # dictionaries keep their order: the first key is the oldest update
            while len(self.updates) > KEPT_UPDATES:
                self.updates.pop(next(iter(self.updates)))
        if row.name == "rollout/success":
            self.success[row.update_index] = row.value
        elif row.name == "rollout/env_steps_per_second" and row.value > 0:
            self.speeds.append(row.value)
        elif row.name == "sft/samples" and self._sft_began is None:
            self._sft_began = row
