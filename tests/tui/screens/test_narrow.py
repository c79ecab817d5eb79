"""Screens in narrow terminals: long names and texts leave numbers and states on the line."""

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.driving import seen, shown, until
from tests.tui.made_episodes import Host, make_episodes, make_evaluation
from tests.tui.made_runs import make_run
from vlmagent.store.writer import StoreWriter
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.screens.compare import CompareScreen, CompareSide
from vlmagent.tui.screens.episodes import EpisodesScreen
from vlmagent.tui.screens.replay import ReplayScreen
from vlmagent.tui.screens.runs import RunsScreen
from vlmagent.tui.screens.train import TrainScreen
from vlmagent.tui.widgets.event_log import EventLog
from vlmagent.tui.widgets.run_panels import RunTitle

LONG = "a-run-with-a-name-" + "that-goes-on-and-on-" * 3 + "end"
NARROW = pytest.mark.parametrize("size", [(60, 24), (80, 24)])


def events_of(pilot: Pilot[Any]) -> str:
    """What the pane of events shows, in one line."""
    log = pilot.app.screen.query_one(EventLog)
    region = log.scrollable_content_region
    lines = seen(pilot).split("\n")[region.y : region.bottom]
    return " ".join(" ".join(line[region.x : region.right] for line in lines).split())


@NARROW
async def test_the_list_of_runs(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLMAGENT_RUNS", str(tmp_path))
    make_run(tmp_path / LONG, status="failed", error="CUDA out of memory. " * 30)
    make_run(tmp_path / "short", updates=2)
    app = VlmAgentApp()
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunsScreen) and app.screen.table.row_count == 2)
        await pilot.pause()
        lines = seen(pilot).split("\n")
        failed = next(line for line in lines if "✗ failed" in line)
        done = next(line for line in lines if "✓ done" in line)
        assert "a-run-" in failed
        assert " 12 " in failed
        assert "0.0 %" in failed
        assert "short" in done
        assert " 8 " in done
        assert "0.0 %" in done


@NARROW
async def test_the_title_of_a_run(size: tuple[int, int], tmp_path: Path) -> None:
    run = make_run(tmp_path / LONG)
    with StoreWriter(run.database) as writer:
        writer.event("warning", "something happened " * 100)
    app = Host(TrainScreen(run))
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: "seed 7" in shown(app.screen.query_one(RunTitle)))
        title = shown(app.screen.query_one(RunTitle))
        assert title.startswith("a-run-with")
        assert "✓ done" in title
        await until(pilot, lambda: len(app.screen.query_one(EventLog).events) == 3)
        # a long event does not push out the one before it
        await until(pilot, lambda: "▸ phase: rl" in events_of(pilot) and events_of(pilot).endswith("…"))
        assert "! something happened" in events_of(pilot)


@NARROW
async def test_the_title_of_a_replay(size: tuple[int, int], tmp_path: Path) -> None:
    run = make_episodes(tmp_path / LONG, 3)
    database = make_evaluation(run, "step-123456", [True, False], system="a-system-" * 6)
    for shows in (None, database):
        app = Host(ReplayScreen(run, 2, database=shows))
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda app=app: app.screen.row)  # type: ignore[misc]
            await pilot.pause()
            title = shown(app.screen.query_one("#replay-title"))
            assert "a-run" in title
            assert "episode 2" in title
            assert "return +1.00" in title or "return -1.50" in title


@NARROW
async def test_the_title_of_the_episodes(size: tuple[int, int], tmp_path: Path) -> None:
    run = make_episodes(tmp_path / LONG, 3)
    app = Host(EpisodesScreen(run))
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: "3 finished" in shown(app.screen.query_one("#episodes-title")))
        assert "a-run-with" in shown(app.screen.query_one("#episodes-title"))


@NARROW
async def test_the_title_of_a_comparison(size: tuple[int, int], tmp_path: Path) -> None:
    one, two = make_episodes(tmp_path / LONG, 1), make_episodes(tmp_path / f"{LONG}-2", 1)
    for run in (one, two):
        make_evaluation(run, "step-0", [True, False], system="sft")
        make_evaluation(run, "step-500", [True, True])
    for other, wanted in ((one, ["sft step-0", "rl step-500"]), (two, ["rl step-500", "rl step-500"])):
        app = Host(CompareScreen(CompareSide(one), CompareSide(other)))
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda app=app: "step-500" in shown(app.screen.query_one("#compare-title")))  # type: ignore[misc]
            left, _, right = shown(app.screen.query_one("#compare-title")).partition("↔")
            assert wanted[0] in left
            assert wanted[1] in right
            assert "a-run" in left
