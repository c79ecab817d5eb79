"""The charts of a run: crosshair, pages, zoom, scales, curves of other runs."""

import shutil

import pytest

from tests.tui.driving import Noting, said, shown, until
from tests.tui.made_runs import change, make_run, write_update
from tests.tui.screens.train_pilot import BIG, bar, begin, chart, screen
from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.store.writer import StoreWriter
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.data.metrics import RL_KEYS
from vlmagent.tui.messages import OpenEpisodes, OpenTrain
from vlmagent.tui.screens.pick import PickRunsScreen
from vlmagent.tui.screens.runs import RunsScreen
from vlmagent.tui.screens.train import TrainScreen
from vlmagent.tui.widgets.chart_grid import Grid, best_grid
from vlmagent.tui.widgets.run_panels import Progress


@pytest.fixture
def run() -> Run:
    return make_run(paths.runs_dir() / "first")


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
