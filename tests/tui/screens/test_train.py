import contextlib
import os
import shutil
import sqlite3
import time
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.driving import Noting, said, seen, shown, until
from tests.tui.made_runs import NASTY, STEPS, change, freeze, make_run, write_update
from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.runs import launch
from vlmagent.runs.daemon import daemon_session
from vlmagent.store.writer import StoreWriter
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.data.metrics import RL_KEYS, SFT_KEYS
from vlmagent.tui.messages import OpenCompare, OpenEpisodes, OpenReplay, OpenTrain
from vlmagent.tui.screens.confirm import ConfirmScreen
from vlmagent.tui.screens.pick import PickRunsScreen
from vlmagent.tui.screens.runs import RunsScreen
from vlmagent.tui.screens.train import TrainScreen
from vlmagent.tui.widgets.chart import Chart
from vlmagent.tui.widgets.chart_grid import Grid, best_grid
from vlmagent.tui.widgets.event_log import EventLog
from vlmagent.tui.widgets.newest import NewestStep, StepText
from vlmagent.tui.widgets.run_panels import Progress, RunTitle

BIG = (120, 40)


def screen(pilot: Pilot[Any]) -> TrainScreen:
    found = pilot.app.screen
    assert isinstance(found, TrainScreen)
    return found


def chart(pilot: Pilot[Any], key: str) -> Chart:
    return screen(pilot).grid.charts[key]


def bar(pilot: Pilot[Any]) -> str:
    return shown(screen(pilot).query_one("#chart-bar")).strip()


async def begin(pilot: Pilot[Any], updates: int = 3) -> None:
    """Until everything that is there is on the screen."""
    await until(pilot, lambda: isinstance(pilot.app.screen, TrainScreen))
    if updates:
        await until(pilot, lambda: len(screen(pilot).points.x) >= updates and screen(pilot).grid.shown)
        await until(
            pilot,
            lambda: (
                screen(pilot).query_one(NewestStep).step or not screen(pilot).query_one(NewestStep).display
            ),
        )
    await pilot.pause()


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


async def test_crosshair(run: Run) -> None:
    app = Noting(run)
    async with app.run_test(size=BIG) as pilot:
        await begin(pilot)
        await pilot.press("e", "enter")
        await until(pilot, lambda: len(app.asked) == 2)
        # without a crosshair: all; the newest
        assert app.asked == [OpenEpisodes(run), OpenEpisodes(run, (3, 3))]
        await pilot.press("left")
        assert screen(pilot).update_index == 3
        await pilot.press("left")
        assert screen(pilot).update_index == 2
        assert "update 2" in bar(pilot)
        assert "0.0 %" in str(chart(pilot, "success").border_title)
        assert "0.0200" in str(chart(pilot, "kl").border_title)
        assert "│" in shown(chart(pilot, "kl"))[20:]
        await pilot.press("e", "enter")
        await until(pilot, lambda: len(app.asked) == 4)
        assert app.asked[2:] == [OpenEpisodes(run, (2, 2))] * 2
        for key, update in (
            ("right", 3),
            ("right", 3),
            ("shift+left", 1),
            ("shift+right", 3),
            ("home", 1),
            ("end", 3),
        ):
            await pilot.press(key)
            assert screen(pilot).update_index == update, key
        await pilot.press("escape")
        assert screen(pilot).cursor is None
        assert "100.0 %" in str(chart(pilot, "success").border_title)
        await pilot.press("right")
        assert screen(pilot).update_index == 3


async def test_mouse(run: Run) -> None:
    app = Noting(run)
    async with app.run_test(size=BIG) as pilot:
        await begin(pilot)
        await pilot.hover("#chart-return", offset=(34, 4))
        assert screen(pilot).update_index == 3
        await pilot.hover("#chart-return", offset=(16, 4))
        assert screen(pilot).update_index == 1
        await pilot.click("#chart-return", offset=(24, 4))
        assert screen(pilot).update_index == 2
        assert pilot.app.focused is chart(pilot, "return")
        await pilot.click("#chart-return", offset=(34, 4), times=2)
        await until(pilot, lambda: app.asked == [OpenEpisodes(run, (3, 3))])


async def test_pages_zoom_and_neighbours(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        await pilot.press("down")
        assert pilot.app.focused is chart(pilot, "legal")
        await pilot.press("up", "up")
        assert pilot.app.focused is chart(pilot, "success")
        await pilot.press("tab")
        assert pilot.app.focused is chart(pilot, "return")
        await pilot.press("z")
        assert screen(pilot).grid.shown == ["return"]
        await pilot.press("right_square_bracket")
        assert screen(pilot).grid.shown == ["legal"]
        assert pilot.app.focused is chart(pilot, "legal")
        await pilot.press("z")
        assert len(screen(pilot).grid.shown) == 8
        assert pilot.app.focused is chart(pilot, "legal")
        await pilot.press("]")
        assert screen(pilot).grid.shown == list(RL_KEYS[8:])
        assert "page 2/2" in bar(pilot)
        assert pilot.app.focused is chart(pilot, RL_KEYS[8])
        await pilot.press("pageup")
        assert screen(pilot).grid.page == 0
        await pilot.press("[", "pagedown")
        assert screen(pilot).grid.page == 0
        await pilot.press("z", "escape")
        assert len(screen(pilot).grid.shown) == 8


async def test_settings_of_the_curves(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        seen = []
        for key in ("s", "s", "s", "x", "x", "x", "l", "l", "plus", "equals_sign", "minus", "minus", "minus"):
            await pilot.press(key)
            await pilot.pause()
            seen.append(bar(pilot).removesuffix(" · page 1/2"))
        assert seen == [
            "x env steps · smooth 0.6", "x env steps · smooth 0.9", "x env steps",
            "x updates", "x minutes", "x env steps",
            "x env steps · log", "x env steps",
            "x env steps · last 50 %", "x env steps · last 25 %", "x env steps · last 50 %",
            "x env steps", "x env steps",
        ]  # fmt: skip


async def test_new_metrics_leave_the_crosshair_where_it_is(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        for page in range(2):
            await pilot.press("home")
            assert screen(pilot).grid.page == page
            with StoreWriter(run.database) as writer:
                write_update(writer, 4 + page)
            await until(pilot, lambda page=page: len(screen(pilot).points.x) == 4 + page)  # type: ignore[misc]
            await pilot.pause()
            assert screen(pilot).cursor == 0
            await pilot.press("right_square_bracket")


async def test_logarithmic_scale(run: Run) -> None:
    other = make_run(paths.runs_dir() / "second", updates=4)
    change(run, "UPDATE metrics SET value = 0 WHERE name = 'ppo/kl' AND update_index = 2")
    change(run, "UPDATE metrics SET value = 0 WHERE name = 'ppo/learning_rate'")
    async with VlmAgentApp(run).run_test(size=(200, 60)) as pilot:
        await begin(pilot)
        linear = shown(chart(pilot, "success"))
        assert "hidden" not in str(chart(pilot, "kl").border_title)
        await pilot.press("l")
        await pilot.pause()
        assert "1 ≤ 0 hidden" in str(chart(pilot, "kl").border_title)
        assert "nothing above 0" in shown(chart(pilot, "lr"))
        assert "0.5" in shown(chart(pilot, "value"))
        assert shown(chart(pilot, "success")) == linear  # a rate keeps its whole range
        screen(pilot).overlay([other])
        await until(pilot, lambda: len(chart(pilot, "kl").lines) == 2)
        await pilot.press("home", "right")
        title = str(chart(pilot, "kl").border_title)
        assert "0.00" in title
        assert "0.0200" in title
        assert "1 ≤ 0 hidden" in title
        await pilot.press("s")
        await pilot.pause()
        assert "1 ≤ 0 hidden" in str(chart(pilot, "kl").border_title)
        # the next run has the same scale
        pilot.app.post_message(OpenTrain(other))
        await until(pilot, lambda: screen(pilot).live.run == other and "log" in bar(pilot))
        await pilot.press("l")
        pilot.app.post_message(OpenTrain(run))
        await until(pilot, lambda: screen(pilot).live.run == run and "x env steps" in bar(pilot))
        assert "log" not in bar(pilot)


async def test_hours_without_training_do_not_count(run: Run) -> None:
    change(
        run,
        "UPDATE run SET created_at = 1000, heartbeat_at = 90050, finished_at = 90050",
        "UPDATE metrics SET at = 1000 + update_index",
        "UPDATE events SET at = 1100, text = 'phase: loading'",
        "UPDATE events SET at = 90000 WHERE id = (SELECT max(id) FROM events)",
    )
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        await until(pilot, lambda: "2 min 30 s in all" in shown(screen(pilot).query_one(Progress)))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        await until(
            pilot, lambda: "took 2 min 30 s" in said(pilot.app.screen.query_one("#runs-preview Static"))
        )


async def test_zoom_follows_the_crosshair(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        await pilot.press("home", "plus", "plus", "right")
        await pilot.pause()
        assert "25 %" in bar(pilot)
        assert chart(pilot, "kl").span.low < 8 < chart(pilot, "kl").span.high


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


async def test_overlay(run: Run) -> None:
    other = make_run(paths.runs_dir() / "second", success=(True,), updates=5)
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(pilot.app.screen, PickRunsScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, TrainScreen))
        assert not screen(pilot).overlays
        await pilot.press("o")
        await until(pilot, lambda: isinstance(pilot.app.screen, PickRunsScreen))
        await pilot.press("space", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, TrainScreen))
        await until(pilot, lambda: len(chart(pilot, "kl").lines) == 2)
        assert [line.x[-1] for line in chart(pilot, "kl").lines] == [12, 20]
        assert "━ first  ━ second" in bar(pilot)
        assert "0.0300" in str(chart(pilot, "kl").border_title)
        assert "0.0500" in str(chart(pilot, "kl").border_title)
        shutil.rmtree(other)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(pilot.app.screen, PickRunsScreen))
        await pilot.press("enter")
        await until(pilot, lambda: not screen(pilot).overlays)


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


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_model_output_is_only_text(size: tuple[int, int]) -> None:
    run = make_run(paths.runs_dir() / "r", text=NASTY, status="failed", error=NASTY)
    with StoreWriter(run.database) as writer:
        writer.event("error", NASTY)
    change(run, "UPDATE run SET status = 'failed', finished_at = 1.0")
    async with VlmAgentApp(run).run_test(size=size) as pilot:
        await begin(pilot)
        everything = seen(pilot)
        assert "[red]x[/] ·[31mANSI·[0m" in everything
        assert not any(character in everything for character in "\x1b\x07\u202e\ud800\r")
        assert "[bold" in shown(screen(pilot).query_one("#newest Static"))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        await until(pilot, lambda: "[red]x[/]" in shown(pilot.app.screen.query_one("#runs-preview Static")))


async def test_a_run_deleted_and_made_again(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        shutil.rmtree(run)
        problem = screen(pilot).query_one("#problem")
        await until(pilot, lambda: "no run database" in shown(problem))
        await pilot.press("s", "left", "z")  # the rest goes on
        assert screen(pilot).update_index == 3
        make_run(run.path, updates=1)
        await until(pilot, lambda: not problem.display and len(screen(pilot).points.x) == 1)
        assert screen(pilot).cursor is None


@pytest.mark.parametrize(
    ("damage", "words"),
    [("PRAGMA user_version = 99", "newer vlmagent"), ("DROP TABLE metrics", "could not be read")],
)
async def test_a_database_we_cannot_read(run: Run, damage: str, words: str) -> None:
    change(run, damage)
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot, 0)
        await until(pilot, lambda: words in said(screen(pilot).query_one("#problem")))
        await pilot.press("x", "left", "escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))


async def test_a_truncated_database(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        database = run.database
        os.truncate(database, database.stat().st_size // 3)
        await until(pilot, lambda: screen(pilot).query_one("#problem").display)
        assert len(screen(pilot).points.x) == 3


async def test_a_locked_database(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmagent.store.reader.BUSY_SECONDS", 0.2)
    change(run, "PRAGMA journal_mode = DELETE")
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        locker = sqlite3.connect(run.database, isolation_level=None)
        locker.execute("BEGIN EXCLUSIVE")
        await until(pilot, lambda: "locked" in shown(screen(pilot).query_one("#problem")))
        locker.execute("ROLLBACK")
        locker.close()
        await until(pilot, lambda: not screen(pilot).query_one("#problem").display)


async def test_a_database_of_the_first_schema(run: Run) -> None:
    change(
        run,
        "PRAGMA user_version = 1",
        "DROP INDEX IF EXISTS transitions_advantage",
        "DROP INDEX IF EXISTS transitions_logprob",
    )
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        assert not screen(pilot).query_one("#problem").display


@pytest.mark.parametrize(
    ("count", "width", "height", "grid"),
    [
        (12, 80, 11, Grid(2, 1, 6)),
        (12, 140, 57, Grid(3, 4, 1)),
        (2, 140, 57, Grid(1, 2, 1)),
        (1, 20, 4, Grid(1, 1, 1)),
        (0, 80, 24, Grid(1, 1, 1)),
    ],
)
def test_grids(count: int, width: int, height: int, grid: Grid) -> None:
    assert best_grid(count, width, height) == grid


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
