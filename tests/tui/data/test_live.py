import shutil
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

from tests.tui.made_runs import change, make_run, write_update
from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.runs import status
from vlmagent.runs.daemon import daemon_session
from vlmagent.store.rows import MetricRow
from vlmagent.store.writer import StoreWriter
from vlmagent.tui.data import live as live_module
from vlmagent.tui.data.catalogue import Catalogue
from vlmagent.tui.data.curves import Look, lines_of, points_of, span_x, thin
from vlmagent.tui.data.live import LiveRun, Series
from vlmagent.tui.data.metrics import BY_KEY


def metric(update: int, value: float) -> MetricRow:
    return MetricRow(update, update, 64 * update, "m", value, 100.0 + update)


async def test_a_redone_update_replaces_its_value() -> None:
    series = Series()
    for update, value in ((1, 0.1), (2, 0.2), (4, 0.4), (2, 0.9), (3, 0.3)):
        series.add(metric(update, value))
    assert list(series.updates) == [1, 2, 3, 4]
    assert series.values.tolist() == [0.1, 0.9, 0.3, 0.4]
    assert series.along("steps").tolist() == [64, 128, 192, 256]
    assert series.along("time").tolist() == [101, 102, 103, 104]


async def test_follows_a_run_by_cursor(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", updates=2, status="running")
    live = LiveRun(run)
    first = await live.refresh()
    assert first.metrics
    assert first.step
    assert first.state
    assert list(live.series["ppo/kl"].updates) == [1, 2]
    assert live.view.env_steps == 8
    again = await live.refresh()
    assert (again.metrics, again.step, again.state, again.more) == (False,) * 4
    with StoreWriter(run.database) as writer:
        write_update(writer, 3)
    third = await live.refresh()
    assert third.news is not None
    assert {row.update_index for row in third.news.metrics} == {3}
    assert live.view.newest is not None
    assert live.view.newest.id == 12
    assert (await live.image(live.view.newest.image_sha256)).shape == (12, 14, 3)  # type: ignore[union-attr]
    assert await live.image("00") is None
    live.close()


async def test_a_long_history_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "METRICS_AT_ONCE", 10)
    live = LiveRun(make_run(tmp_path / "r"))
    parts = 1
    while (await live.refresh()).more:
        parts += 1
    assert parts == 5  # 12 of SFT and 36 of RL
    assert len(live.series["ppo/kl"]) == 3
    live.close()


async def test_gone_and_another_run_in_its_place(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", updates=3)
    live = LiveRun(run)
    await live.refresh()
    shutil.rmtree(run)
    gone = await live.refresh()
    assert gone.state
    assert "no run database" in live.view.problem
    assert len(live.series["ppo/kl"]) == 3
    make_run(run.path, updates=1)
    assert (await live.refresh()).restarted
    await live.refresh()
    assert list(live.series["ppo/kl"].updates) == [1]
    assert live.view.problem == ""
    live.close()


async def test_before_there_is_a_database(tmp_path: Path) -> None:
    run = Run(tmp_path / "r")
    run.path.mkdir()
    run.config_file.write_text("task: numberline\n")
    live = LiveRun(run)
    change = await live.refresh()
    assert change.news is None
    assert (live.view.state, live.view.problem) == ("starting", "")
    live.close()


async def test_a_silent_process_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "r", status="running")
    with daemon_session(run):
        live = LiveRun(run)
        await live.refresh()
        change(run, f"UPDATE run SET heartbeat_at = {time.time() - 100_000}")  # the clock was set
        await live.refresh()
        assert live.view.state == "running"
        monkeypatch.setattr(status, "STALE_SECONDS", -1.0)  # looked at for long enough
        assert (await live.refresh()).state
        assert live.view.state == "lost"
        live.close()


async def test_catalogue_reads_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = paths.runs_dir()
    done, running = make_run(root / "done"), make_run(root / "running", status="running")
    broken = Run(root / "broken")
    broken.path.mkdir()
    broken.database.write_bytes(b"no database " * 100)
    elsewhere = make_run(tmp_path / "elsewhere", updates=1, status="failed", error="out of memory")
    read: list[str] = []
    real = status.show_run
    monkeypatch.setattr(status, "show_run", lambda run: read.append(run.name) or real(run))
    catalogue = Catalogue(elsewhere)
    with daemon_session(running):
        found = {run.name: run for run in catalogue.scan()}
        assert {name: run.state for name, run in found.items()} == {
            "done": "done", "running": "running", "broken": "damaged", "elsewhere": "failed",
        }  # fmt: skip
        assert found["done"].success == (1.0, 0.0, 1.0)
        assert (found["done"].env_steps, found["done"].goal_steps, found["done"].speed) == (12, 512, 50.0)
        assert found["elsewhere"].error == "out of memory"
        assert "not a SQLite database" in found["broken"].error
        read.clear()
        catalogue.scan()
        assert read == ["running"]
    running.daemon_file.unlink()
    shutil.rmtree(done)
    assert {run.name: run.state for run in catalogue.scan()} == {
        "running": "lost", "broken": "damaged", "elsewhere": "failed",
    }  # fmt: skip


async def test_a_run_that_was_locked_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmagent.store.reader.BUSY_SECONDS", 0.05)
    run = make_run(paths.runs_dir() / "held", updates=1)
    holder = sqlite3.connect(run.database, isolation_level=None)
    holder.execute("PRAGMA journal_mode = delete")
    holder.execute("BEGIN EXCLUSIVE")
    catalogue = Catalogue()
    [found] = catalogue.scan()
    assert (found.state, found.locked) == ("damaged", True)
    holder.execute("ROLLBACK")
    [found] = catalogue.scan()
    assert (found.state, found.locked, found.env_steps) == ("done", False, 4)
    holder.close()


async def test_lines_along_every_axis(tmp_path: Path) -> None:
    live = LiveRun(make_run(tmp_path / "r"))
    await live.refresh()
    kl, success, sft = BY_KEY["kl"], BY_KEY["success"], BY_KEY["sft-loss"]
    (line,) = lines_of(kl, [live], Look())
    assert line.x.tolist() == [4, 8, 12]
    assert line.y.tolist() == pytest.approx([0.01, 0.02, 0.03])
    assert (line.last, line.at(7.0)) == (pytest.approx(0.03), pytest.approx(0.02))
    assert lines_of(kl, [live], Look(axis="updates"))[0].x.tolist() == [1, 2, 3]
    assert 0 <= lines_of(kl, [live], Look(axis="time"))[0].x[0] < 1
    faint, smooth = lines_of(success, [live], Look(smoothing=0.6))
    assert faint.faint
    assert smooth.y[0] == 1.0
    assert lines_of(sft, [live], Look())[0].x.tolist() == [16, 32, 48, 64]
    assert lines_of(sft, [LiveRun(Run(tmp_path / "none"))], Look()) == []
    assert points_of(live, Look(), sft=True).updates is None
    points = points_of(live, Look(), sft=False)
    assert points.nearest(9.0) == 1
    assert list(points.updates or ()) == [1, 2, 3]
    whole, end, around = (
        span_x([live], Look(zoom=z), False, c) for z, c in ((1.0, None), (0.5, None), (0.25, 4.0))
    )
    assert (whole.low, whole.high, end.low, end.high) == (0, 12, 6, 12)
    assert (around.low, around.high) == (2.5, 5.5)
    live.close()


async def test_thinning_takes_means_and_passes_over_gaps() -> None:
    x, y = np.arange(5.0), np.array([1.0, 3.0, np.nan, 5.0, np.nan])
    thin_x, thin_y = thin(x, y, 3)
    assert thin_x.tolist() == [0.5, 2.5, 4.0]
    assert thin_y[:2].tolist() == [2.0, 5.0]
    assert np.isnan(thin_y[2])
    assert thin(x, y, 5)[0] is x
