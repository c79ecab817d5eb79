"""The time a run was trained, in all its sessions."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.tui.made_runs import make_run
from vlmagent.paths import Run
from vlmagent.runs.daemon import daemon_session
from vlmagent.runs.follow import RunView
from vlmagent.runs.worked import WorkedTime
from vlmagent.store.rows import EventRow, MetricRow
from vlmagent.tui.data.catalogue import Catalogue

LOADING = "phase: loading"


def event(at: float, text: str = LOADING, level: str = "phase") -> EventRow:
    return EventRow(int(at), at, level, text)


def metric(at: float) -> MetricRow:
    return MetricRow(int(at), 1, 1, "ppo/kl", 0.0, at)


def test_one_session() -> None:
    worked = WorkedTime(100.0)
    assert worked.seconds(100.0) == 0
    worked.take([event(101)], [metric(110), metric(150)])
    assert worked.seconds(160.0) == 60
    assert worked.seconds(120.0) == 50  # the heartbeat of a killed process may be older than its last word


def test_hours_between_sessions_do_not_count() -> None:
    worked = WorkedTime(100.0)
    # metrics and events of several sessions come in one reading, apart from each other
    worked.take(
        [
            event(101),
            event(160, "training stopped", "info"),
            event(5000),
            event(9000),
            event(9001, LOADING, "info"),
        ],
        [metric(150), metric(5030), metric(9010)],
    )
    assert worked.seconds(9020.0) == 60 + 30 + 20
    worked.take([], [metric(9050)])
    assert worked.seconds(9050.0) == 60 + 30 + 50


def test_a_process_that_has_not_said_anything_yet() -> None:
    worked = WorkedTime(100.0)
    worked.take([event(101)], [metric(150)])
    assert worked.seconds(9010.0, began=9000.0) == 50 + 10


def test_a_clock_that_was_set_back() -> None:
    worked = WorkedTime(1000.0)
    worked.take([event(1001), event(500)], [metric(520), metric(1100)])
    assert worked.seconds(530.0) >= 0


@pytest.fixture
def resumed(tmp_path: Path) -> Run:
    """Trained for 100 s, and a day later for 50."""
    run = make_run(tmp_path / "runs" / "r", updates=2, sft=False)
    with closing(sqlite3.connect(run.database)) as connection, connection:
        connection.execute("UPDATE run SET created_at = 1000, heartbeat_at = 90050, finished_at = 90050")
        connection.execute("DELETE FROM events")
        connection.executemany(
            "INSERT INTO events (at, level, text) VALUES (?, 'phase', ?)",
            [(1001, LOADING), (1100, "phase: rl"), (90_000, LOADING)],
        )
        connection.execute("UPDATE metrics SET at = 1000 + update_index")
    return run


def test_views_and_lists_of_a_resumed_run(resumed: Run) -> None:
    view = RunView(resumed)
    view.refresh()
    view.close()
    assert view.seconds_trained == 150
    assert [run.trained for run in Catalogue(resumed).scan()] == [150]
    with closing(sqlite3.connect(resumed.database)) as connection, connection:
        connection.execute(
            "UPDATE run SET finished_at = NULL, status = 'running', heartbeat_at = ?", (time.time(),)
        )
    with daemon_session(resumed):
        view.refresh()
        view.close()
        assert view.state == "running"
        # not the years since
        assert 100 <= view.seconds_trained < 1000
        [found] = Catalogue(resumed).scan()
        assert 100 <= (found.trained or 0) < 1000
