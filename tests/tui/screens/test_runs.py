import math
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.tui.driving import Noting, shown, until
from tests.tui.made_runs import change, freeze, make_run
from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.runs import launch
from vlmagent.runs.daemon import daemon_session
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.data.catalogue import RunSummary
from vlmagent.tui.data.run_rows import age, columns_for
from vlmagent.tui.messages import OpenCompare, OpenEpisodes
from vlmagent.tui.screens.confirm import ConfirmScreen
from vlmagent.tui.screens.runs import RunsScreen
from vlmagent.tui.screens.train import TrainScreen
from vlmagent.tui.settings import save_pin
from vlmagent.tui.widgets.keyed_table import KeyedTable


@pytest.fixture
def three() -> Path:
    """Runs a (oldest, failed), b and c (newest)."""
    root = paths.runs_dir()
    for number, (name, more) in enumerate(
        (
            ("a-run", {"status": "failed", "error": "out of [memory]\nsecond line"}),
            ("b-run", {"updates": 2}),
            ("c-run", {"success": (False,)}),
        )
    ):
        run = make_run(root / name, **more)  # type: ignore[arg-type]
        freeze(run, 1_750_000_000.0 + 100 * number)
    return root


def screen(pilot: Pilot[Any]) -> RunsScreen:
    found = pilot.app.screen
    assert isinstance(found, RunsScreen)
    return found


def names(pilot: Pilot[Any]) -> list[str]:
    return [Path(str(row.key.value)).name for row in screen(pilot).table.ordered_rows]


def current(pilot: Pilot[Any]) -> str:
    run = screen(pilot).current
    return run.name if run else ""


async def begin(pilot: Pilot[Any]) -> None:
    await until(
        pilot,
        lambda: (
            isinstance(pilot.app.screen, RunsScreen) and screen(pilot).runs and screen(pilot).table.row_count
        ),
    )
    await pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_lists_what_matters(three: Path, size: tuple[int, int]) -> None:
    async with VlmAgentApp().run_test(size=size) as pilot:
        await begin(pilot)
        assert names(pilot) == ["c-run", "b-run", "a-run"]
        text = shown(screen(pilot).table)
        for part in ("✗ failed", "✓ done", "12", "100.0 %", "0.0 %"):
            assert part in text, part
        await pilot.press("down", "down")
        assert "out of [memory]" in shown(screen(pilot).query_one("#runs-preview Static"))
        assert "numberline" in shown(screen(pilot).query_one("#runs-preview Static"))
        if size[0] > 80:
            await pilot.press("up")
            assert "100%" in shown(screen(pilot).query_one("#runs-preview Chart"))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_pinned_runs_stand_first(three: Path, size: tuple[int, int]) -> None:
    async with VlmAgentApp().run_test(size=size) as pilot:
        await begin(pilot)
        assert "▲" not in shown(screen(pilot).table)
        await pilot.press("down", "P")
        await until(pilot, lambda: names(pilot) == ["b-run", "c-run", "a-run"])
        assert current(pilot) == "b-run"
        assert shown(screen(pilot).table).splitlines()[1].startswith("  ▲  ✓ done")
        for order in ("success", "env steps", "name", "newest"):
            await pilot.press("s")
            assert screen(pilot).order == order
            await until(pilot, lambda: names(pilot)[0] == "b-run")
        await pilot.press("space")
        await until(pilot, lambda: "▌▲" in shown(screen(pilot).table))
        # of another dashboard
        save_pin(Run(three / "a-run"), True)
        await pilot.press("f5")
        await until(pilot, lambda: names(pilot) == ["b-run", "a-run", "c-run"])
    async with VlmAgentApp().run_test(size=size) as pilot:
        await begin(pilot)
        assert names(pilot) == ["b-run", "a-run", "c-run"]
        await pilot.press("P")
        await until(pilot, lambda: names(pilot) == ["a-run", "c-run", "b-run"])


async def test_a_pin_that_cannot_be_kept(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VLMAGENT_CACHE", str(tmp_path / "file" / "cache"))
    async with VlmAgentApp().run_test() as pilot:
        await begin(pilot)
        await pilot.press("down", "P")
        await until(
            pilot, lambda: any("could not be kept" in toast.message for toast in pilot.app._notifications)
        )
        assert names(pilot) == ["c-run", "b-run", "a-run"]


async def test_the_selection_stays_with_its_run(three: Path) -> None:
    async with VlmAgentApp().run_test() as pilot:
        await begin(pilot)
        await pilot.press("down")
        assert current(pilot) == "b-run"
        make_run(three / "d-run")
        shutil.rmtree(three / "c-run")
        await pilot.press("f5")
        await until(pilot, lambda: names(pilot) == ["d-run", "b-run", "a-run"])
        assert current(pilot) == "b-run"
        shutil.rmtree(three / "b-run")
        await pilot.press("f5")
        await until(pilot, lambda: len(names(pilot)) == 2)
        assert current(pilot) == "a-run"
        shutil.rmtree(three)
        await pilot.press("f5")
        await until(pilot, lambda: "no runs under" in str(screen(pilot).query_one("#runs-empty").render()))
        await pilot.press("enter", "space", "c", "e", "S")  # nothing to act on, nothing happens
        assert isinstance(pilot.app.screen, RunsScreen)


async def test_filter(three: Path) -> None:
    async with VlmAgentApp().run_test() as pilot:
        await begin(pilot)
        await pilot.press("slash", *"FAIL")
        await until(pilot, lambda: names(pilot) == ["a-run"])
        await pilot.press("enter")
        assert pilot.app.focused is screen(pilot).table
        assert screen(pilot).query_one(Input).display
        await pilot.press("slash", *" zzz", "enter")
        await until(
            pilot,
            lambda: "No run has all these words" in str(screen(pilot).query_one("#runs-empty").render()),
        )
        await pilot.press("escape")
        assert len(names(pilot)) == 3
        assert not screen(pilot).query_one(Input).display
        await pilot.press("slash", *"b-run numb", "escape")
        assert len(names(pilot)) == 3


async def test_sort(three: Path) -> None:
    async with VlmAgentApp().run_test() as pilot:
        await begin(pilot)
        orders = []
        for _ in range(4):
            await pilot.press("s")
            orders.append((screen(pilot).order, names(pilot)))
        assert orders[0] == ("success", ["a-run", "c-run", "b-run"])
        assert orders[1] == ("env steps", ["c-run", "a-run", "b-run"])
        assert orders[2] == ("name", ["a-run", "b-run", "c-run"])
        assert orders[3] == ("newest", ["c-run", "b-run", "a-run"])


async def test_mark_open_and_overlay(three: Path) -> None:
    async with VlmAgentApp().run_test() as pilot:
        await begin(pilot)
        await pilot.press("space", "space")
        assert {Path(path).name for path in screen(pilot).marked} == {"c-run", "b-run"}
        assert current(pilot) == "a-run"
        assert "2 marked" in str(screen(pilot).query_one("#runs-title").render())
        await pilot.press("up", "space", "up", "up", "space")
        assert not screen(pilot).marked
        await pilot.press("space", "up", "up", "u")
        assert not screen(pilot).marked
        await pilot.press("space", "enter")
        opened = pilot.app.screen
        assert isinstance(opened, TrainScreen)
        assert [live.run.name for live in opened.lives] == ["b-run", "c-run"]


async def test_compare_and_episodes(three: Path) -> None:
    b, c = Run(three / "b-run"), Run(three / "c-run")
    app = Noting()
    async with app.run_test() as pilot:
        await begin(pilot)
        await pilot.press("c", "e", "space", "c", "space", "c", "space", "c")
        await until(pilot, lambda: len(app.asked) == 4)
        assert app.asked == [OpenCompare(c, c), OpenEpisodes(c), OpenCompare(c, b), OpenCompare(c, b)]
        await until(
            pilot, lambda: any("Mark two runs" in toast.message for toast in pilot.app._notifications)
        )


async def test_stop_after_a_question(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(three / "live", status="running")
    stopped: list[str] = []
    release = threading.Event()

    def stop(run: Run, timeout: float) -> str:
        release.wait(10)
        stopped.append(run.name)
        return "stopped"

    monkeypatch.setattr(launch, "stop_run", stop)
    with daemon_session(run):
        async with VlmAgentApp().run_test() as pilot:
            await begin(pilot)
            assert current(pilot) == "live"
            assert "● running" in shown(screen(pilot).table)
            for answer in ("n", "escape", "enter"):
                await pilot.press("S")
                await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
                await pilot.press(answer)
                await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
            await pilot.pause(0.1)
            assert not stopped
            await pilot.press("S")
            await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
            await pilot.press("right", "left", "right", "enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
            await pilot.press("down")  # not held up
            release.set()
            await until(pilot, lambda: stopped == ["live"])
            await until(
                pilot, lambda: any("live: stopped" in toast.message for toast in pilot.app._notifications)
            )
            await pilot.press("S")
            await until(
                pilot, lambda: any("not running" in toast.message for toast in pilot.app._notifications)
            )


async def test_a_stop_that_fails_says_why(three: Path) -> None:
    run = make_run(three / "live", status="running")
    with daemon_session(run):
        async with VlmAgentApp().run_test() as pilot:
            await begin(pilot)
            await until(pilot, lambda: current(pilot) == "live")
            await pilot.press("S")
            await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
            run.daemon_file.unlink()
            await pilot.press("y")
            await until(
                pilot,
                lambda: any("does not say which" in toast.message for toast in pilot.app._notifications),
            )


async def test_quit(three: Path) -> None:
    app = VlmAgentApp()
    async with app.run_test() as pilot:
        await begin(pilot)
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)


async def test_the_mouse_opens(three: Path) -> None:
    async with VlmAgentApp().run_test() as pilot:
        await begin(pilot)
        await pilot.click(KeyedTable, offset=(10, 2))
        await pilot.pause()
        if isinstance(pilot.app.screen, RunsScreen):
            assert current(pilot) == "b-run"
            await pilot.click(KeyedTable, offset=(10, 2))
        await until(pilot, lambda: isinstance(pilot.app.screen, TrainScreen))


async def test_a_damaged_run_leaves_the_others(three: Path) -> None:
    Run(three / "b-run").database.write_bytes(b"no database " * 100)
    change(Run(three / "a-run"), "PRAGMA user_version = 99")
    async with VlmAgentApp().run_test(size=(120, 30)) as pilot:
        await begin(pilot)
        text = shown(screen(pilot).table)
        assert text.count("! damaged") == 2
        assert "✓ done" in text


@pytest.mark.parametrize("width", [60, 80, 100, 140, 250])
def test_columns_fit(width: int) -> None:
    columns = columns_for(width, ["20260101-120000-numberline"])
    assert sum(cells + 2 for _, cells in columns) <= width
    titles = [column.title.strip() for column, _ in columns]
    assert titles[:2] == ["", "state"]
    assert {"run", "env steps", "success"} <= set(titles)
    assert ("age" in titles) == (width >= 80)


def test_summaries_and_ages() -> None:
    run = RunSummary(Run(Path("/x/r")), "running", "Task", "Model")
    assert run.searchable == "r task model running"
    assert [age(seconds) for seconds in (3, 130, 7300, 200_000)] == ["3 s", "2 min", "2 h", "2 d"]
    assert math.isnan(float("nan"))


def test_snapshot(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snap_compare: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLMAGENT_RUNS", "runs")
    monkeypatch.setattr("vlmagent.tui.screens.runs.__version__", "1.2.3")
    app = VlmAgentApp()

    async def settle(pilot: Pilot[Any]) -> None:
        await begin(pilot)
        await pilot.press("space")

    monkeypatch.setattr("vlmagent.tui.screens.runs.time", SimpleNamespace(time=lambda: 1_750_009_000.0))
    assert snap_compare(app, terminal_size=(100, 20), run_before=settle)
