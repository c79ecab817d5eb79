"""A run on the screen: what it shows, how it follows, panes, and the ways out."""

import contextlib
import time
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.driving import Noting, shown, until
from tests.tui.made_runs import STEPS, freeze, make_run, write_update
from tests.tui.screens.train_pilot import BIG, bar, begin, chart, screen
from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.runs import launch
from vlmagent.runs.daemon import daemon_session
from vlmagent.store.writer import StoreWriter
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.data.metrics import RL_KEYS, SFT_KEYS
from vlmagent.tui.messages import OpenCompare, OpenReplay
from vlmagent.tui.screens.confirm import ConfirmScreen
from vlmagent.tui.screens.runs import RunsScreen
from vlmagent.tui.widgets.event_log import EventLog
from vlmagent.tui.widgets.newest import NewestStep, StepText
from vlmagent.tui.widgets.run_panels import Progress, RunTitle


@pytest.fixture
def run() -> Run:
    return make_run(paths.runs_dir() / "first")


@pytest.mark.parametrize(("size", "charts"), [((80, 24), 2), ((120, 40), 8), ((200, 60), 12)])
async def test_shows_the_run(run: Run, size: tuple[int, int], charts: int) -> None:
    async with VlmAgentApp(run).run_test(size=size) as pilot:
        await begin(pilot)
        assert "✓ done" in shown(screen(pilot).query_one(RunTitle))
        assert "12/512" in shown(screen(pilot).query_one(Progress))
        assert "success 66.7 %" in shown(screen(pilot).query_one(Progress))
        assert "3 is less than 5" in shown(screen(pilot).query_one("#newest Static"))
        assert "phase: rl" in shown(screen(pilot).query_one("#events Static"))
        assert screen(pilot).query_one(NewestStep).picture.image is not None
        assert screen(pilot).grid.shown == list(RL_KEYS[:charts])
        assert "100.0 %" in str(chart(pilot, "success").border_title)
        text = shown(chart(pilot, "success"))
        assert "100%" in text
        assert any(0x2800 < ord(character) < 0x2900 for character in text)
        assert pilot.app.focused is chart(pilot, "success")


async def test_newer_rows_come_by_themselves(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        with StoreWriter(run.database) as writer:
            write_update(writer, 4, text="now for something else")
            writer.event("warning", "update 4: something")
        await until(pilot, lambda: len(screen(pilot).points.x) == 4)
        await until(
            pilot, lambda: "now for something else" in shown(screen(pilot).query_one("#newest Static"))
        )
        assert "update 4: something" in shown(screen(pilot).query_one("#events Static"))
        assert "16/512" in shown(screen(pilot).query_one(Progress))


async def test_supervised_phase(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        await pilot.press("t")
        await pilot.pause()
        assert screen(pilot).grid.shown == list(SFT_KEYS)
        assert "x samples" in bar(pilot)
        assert "0.50" in str(chart(pilot, "sft-loss").border_title)
        await pilot.press("left")
        await pilot.pause()
        assert "64 samples" in bar(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: any("no episodes" in toast.message for toast in pilot.app._notifications))
        await pilot.press("t")
        await pilot.pause()
        assert screen(pilot).grid.shown == list(RL_KEYS[:8])
        assert screen(pilot).cursor is None


async def test_the_phase_in_progress_comes_first() -> None:
    run = make_run(paths.runs_dir() / "r", updates=0, status="running")
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot, 0)
        await until(pilot, lambda: screen(pilot).grid.shown == list(SFT_KEYS))
        with StoreWriter(run.database) as writer:
            write_update(writer, 1)
        await until(pilot, lambda: screen(pilot).grid.shown == list(RL_KEYS[:8]))


async def test_follow_mode_of_the_newest_step() -> None:
    run = make_run(paths.runs_dir() / "r", text="many words " * 200)
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        newest = screen(pilot).query_one(NewestStep)
        screen(pilot).query_one(StepText).focus()
        await pilot.press("down", "down")
        await until(pilot, lambda: not newest.following)
        with StoreWriter(run.database) as writer:
            write_update(writer, 4, text="brand new")
        await until(pilot, lambda: newest.waiting == STEPS)
        assert "4 newer" in str(newest.border_subtitle)
        assert "many words" in shown(screen(pilot).query_one("#newest Static"))
        await pilot.press("f")
        await until(pilot, lambda: "brand new" in shown(screen(pilot).query_one("#newest Static")))
        assert newest.following
        assert newest.waiting == 0
        assert str(newest.border_subtitle) == ""


async def test_follow_mode_of_the_events(run: Run) -> None:
    with StoreWriter(run.database) as writer:
        for number in range(60):
            writer.event("info", f"event {number}")
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        log = screen(pilot).query_one(EventLog)
        await until(pilot, lambda: log.max_scroll_y > 0 and log.scroll_y == log.max_scroll_y)
        assert (log.following, log.unread) == (True, 0)
        log.focus()
        await pilot.press("home")
        await until(pilot, lambda: not log.following)
        with StoreWriter(run.database) as writer:
            writer.event("warning", "look here")
        await until(pilot, lambda: log.unread == 1)
        assert log.scroll_y == 0
        assert "1 new" in str(log.border_subtitle)
        await pilot.press("f")
        await until(pilot, lambda: log.following and log.unread == 0 and log.scroll_y == log.max_scroll_y)
        await pilot.press("4")
        with StoreWriter(run.database) as writer:
            writer.event("warning", "and here")
        await until(pilot, lambda: "1 new events (4)" in shown(screen(pilot).query_one(RunTitle)))
        await pilot.press("4")
        await until(pilot, lambda: log.unread == 0)
        assert "new events" not in shown(screen(pilot).query_one(RunTitle))


async def test_panes(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        width = screen(pilot).grid.size.width
        for key in "234":
            await pilot.press(key)
        await pilot.pause()
        assert screen(pilot).grid.size.width > width
        assert len(screen(pilot).grid.shown) == 12
        await pilot.press("1")  # the last one stays
        assert screen(pilot).query_one("#charts").display
        await pilot.press("2", "1")
        await pilot.pause()
        assert not screen(pilot).query_one("#charts").display
        assert "12/512" in shown(screen(pilot).query_one(Progress))
        await pilot.press("3")
        await until(pilot, lambda: "3 is less" in shown(screen(pilot).query_one("#newest Static")))


async def test_compare_and_replay(run: Run) -> None:
    second = make_run(paths.runs_dir() / "second")
    app = Noting(run)
    async with app.run_test(size=BIG) as pilot:
        await begin(pilot)
        await pilot.press("c", "r")
        screen(pilot).overlay([second])
        screen(pilot).query_one(StepText).focus()
        await pilot.press("c", "enter")
        await until(pilot, lambda: len(app.asked) == 4)
        replay = OpenReplay(run, 3)
        assert app.asked == [OpenCompare(run, run), replay, OpenCompare(run, second), replay]


async def test_stop_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(paths.runs_dir() / "first", status="running")
    stopped: list[str] = []
    monkeypatch.setattr(launch, "stop_run", lambda run, timeout: stopped.append(run.name) or "stopped")
    with contextlib.ExitStack() as held:
        held.enter_context(daemon_session(run))
        async with VlmAgentApp(run).run_test(size=BIG) as pilot:
            await begin(pilot)
            await pilot.press("S")
            await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
            await pilot.press("y")
            await until(pilot, lambda: stopped == ["first"])
            held.close()  # its process ended without a word
            await until(pilot, lambda: "◌ lost" in shown(screen(pilot).query_one(RunTitle)))
            await until(pilot, lambda: "--resume first" in shown(screen(pilot).query_one(Progress)))
            await pilot.press("S")
            await until(
                pilot, lambda: any("not running" in toast.message for toast in pilot.app._notifications)
            )
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))


async def test_nothing_is_read_while_another_screen_is_on_top(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        train = screen(pilot)
        await pilot.press("question_mark")
        with StoreWriter(run.database) as writer:
            write_update(writer, 4)
        await pilot.pause(1.2)
        assert len(train.live.series["ppo/kl"]) == 3
        await pilot.press("escape")
        await until(pilot, lambda: len(train.live.series["ppo/kl"]) == 4)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
def test_snapshot(monkeypatch: pytest.MonkeyPatch, snap_compare: Any, size: tuple[int, int]) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    run = freeze(make_run(paths.runs_dir() / "first", updates=7, success=(True, False, True)))

    async def settle(pilot: Pilot[Any]) -> None:
        await begin(pilot, 7)
        await pilot.press("left", "left", "s")
        await pilot.pause()

    try:
        assert snap_compare(VlmAgentApp(run), terminal_size=size, run_before=settle)
    finally:
        monkeypatch.undo()
        time.tzset()
