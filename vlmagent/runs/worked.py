"""How long a run has been trained, without the hours in which it lay still between a stop and the next start.

The database says when each process began (it announces that it is loading) and, by its events and metrics, when it last
did something; of a process that was killed, what it did after its last word is not counted. Knows no database.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from vlmagent.store.rows import EventRow, MetricRow, RunRow

_BEGINNING = "phase: loading"


class WorkedTime:
    """The sessions of one run: each from its start to its last sign of life. Times are unix seconds.

    Args:
        created_at: when the run was made, which is when its first session began.
    """

    def __init__(self, created_at: float) -> None:
        self._starts = [created_at]
        self._ends = [created_at]
        # the first announcement is of the session that began with the run
        self._announced = False

    def take(self, events: Iterable[EventRow], metrics: Iterable[MetricRow]) -> None:
        """Count in more of both, in the order in which they were written."""
        signs = [row.at for row in metrics]
        # all starts before any sign: a metric of the second session must not lengthen the first one
        for event in events:
            signs.append(event.at)
            if event.level == "phase" and event.text.startswith(_BEGINNING):
                self._begin(event.at)
        for at in signs:
            place = max(0, bisect.bisect_right(self._starts, at) - 1)
            self._ends[place] = max(self._ends[place], at)

    def _begin(self, at: float) -> None:
        if self._announced:
            place = bisect.bisect(self._starts, at)
            self._starts.insert(place, at)
            self._ends.insert(place, at)
        self._announced = True

    def seconds(self, until: float, began: float = 0.0) -> float:
        """All sessions together; the last one goes on until ``until``, unless it was heard of later.

        Args:
            began: when the present process took the run, which may not have announced itself yet.
        """
        # where the clock was set back a session has no length, rather than a negative one
        whole = sum(max(0.0, end - start) for start, end in zip(self._starts, self._ends, strict=True))
        return whole + max(0.0, until - max(began, self._ends[-1]))


def end_of(row: RunRow, alive: bool, now: float) -> float:
    """Up to when a run was trained: now, or its end; of one whose process is gone, its last heartbeat."""
    return now if alive else row.finished_at or row.heartbeat_at
