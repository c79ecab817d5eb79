import contextlib
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.driving import seen, shown, until
from tests.tui.made_runs import NASTY, make_run
from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.runs.daemon import daemon_session
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.data import log_tail
from vlmagent.tui.data.load import GpuLoad, GpuProbe
from vlmagent.tui.screens import panes
from vlmagent.tui.screens.train import TrainScreen
from vlmagent.tui.widgets import log_pane
from vlmagent.tui.widgets.load_pane import LoadPane, gigabytes
from vlmagent.tui.widgets.log_pane import LogPane

BIG = (120, 40)
SIZES = pytest.mark.parametrize("size", [(80, 24), BIG])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panes, "LOAD_SECONDS", 0.05)
    monkeypatch.setattr(panes, "LOG_SECONDS", 0.05)


@pytest.fixture
def run() -> Run:
    return make_run(paths.runs_dir() / "first", status="running")


def screen(pilot: Pilot[Any]) -> TrainScreen:
    found = pilot.app.screen
    assert isinstance(found, TrainScreen)
    return found


async def begin(pilot: Pilot[Any]) -> TrainScreen:
    await until(pilot, lambda: isinstance(pilot.app.screen, TrainScreen) and screen(pilot).live.view.newest)
    await pilot.pause()
    return screen(pilot)


# The load


class TwoGpus:
    """Stands in for ``nvidia-smi``."""

    is_due = True

    def look(self) -> list[GpuLoad]:
        return [GpuLoad("0", 0.5, 2e9, 80e9), GpuLoad("1", float("nan"), float("nan"), 80e9)]


@SIZES
async def test_the_load_of_a_run(run: Run, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panes, "GpuProbe", TwoGpus)
    with contextlib.ExitStack() as held:
        held.enter_context(daemon_session(run))
        async with VlmAgentApp(run).run_test(size=size) as pilot:
            train = await begin(pilot)
            pane = train.query_one(LoadPane)
            assert not pane.display
            await pilot.press("5")
            await until(pilot, lambda: " % of " in shown(pane) and "GPU 1" in shown(pane))
            text = shown(pane)
            for words in ("resident", "load, ", "GPU 0      50 % 2.0 GB of 80.0 GB", "– – of 80.0 GB"):
                assert words in text
            assert "▅" in text
            # the other panes keep their room
            assert train.query_one("#newest").size.height >= 3
            held.close()
            run.daemon_file.unlink()
            await until(pilot, lambda: "No process trains this run." in shown(pane))
            assert "resident" not in shown(pane)
            await pilot.press("5")
            assert not pane.display


async def test_nothing_is_said_of_gpus_where_there_are_none(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GpuProbe, "is_due", False)
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        train = await begin(pilot)
        await pilot.press("5")
        await until(pilot, lambda: "load, " in shown(train.query_one(LoadPane)))
        assert "GPU" not in shown(train.query_one(LoadPane))


def test_sizes_in_words() -> None:
    assert [gigabytes(size) for size in (1e6, 99e6, 12.34e9, float("nan"))] == [
        "1 MB",
        "99 MB",
        "12.3 GB",
        "–",
    ]


# The log


def write(run: Run, *lines: object) -> None:
    with run.log.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


@SIZES
async def test_the_log_is_followed_until_the_reader_scrolls(run: Run, size: tuple[int, int]) -> None:
    write(run, *range(100))
    async with VlmAgentApp(run).run_test(size=size) as pilot:
        train = await begin(pilot)
        log = train.query_one(LogPane)
        assert not log.display
        await pilot.press("6")
        await until(pilot, lambda: "99" in shown(log))
        assert log.border_title == "log.txt"
        write(run, "newest")
        await until(pilot, lambda: "newest" in shown(log))
        await pilot.press("pageup")
        await until(pilot, lambda: not log.following)
        before = shown(log)
        write(run, "unseen", "unseen")
        await until(pilot, lambda: "2 new" in str(log.border_subtitle))
        assert shown(log) == before
        await pilot.press("f")
        await until(pilot, lambda: "unseen" in shown(log) and log.following)
        assert str(log.border_subtitle) == ""
        await pilot.press("home")
        await until(pilot, lambda: shown(log).startswith("0 "))
        await pilot.press("end")
        await until(pilot, lambda: log.following and "unseen" in shown(log))


async def test_earlier_lines_come_when_the_top_is_reached(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_tail, "BLOCK", 4000)
    write(run, *(f"line {number:06}" for number in range(2000)))
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        train = await begin(pilot)
        log = train.query_one(LogPane)
        await pilot.press("6")
        await until(pilot, lambda: "line 001999" in shown(log))
        count = len(log.lines)
        assert count < 400
        await pilot.press("home")
        await until(pilot, lambda: len(log.lines) > count)
        await pilot.pause()
        # what the reader looked at stays
        assert f"line {2000 - count:06}" in shown(log).splitlines()[0]
        for _ in range(8):
            count = len(log.lines)
            await pilot.press("home")
            await until(pilot, lambda count=count: len(log.lines) > count or len(log.lines) == 2000)  # type: ignore[misc]
        await pilot.press("home")
        await until(pilot, lambda: "line 000000" in shown(log))


async def test_a_long_log_forgets_its_beginning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_pane, "FOLLOWED", 50)
    monkeypatch.setattr(log_pane, "MOST_LINES", 60)
    write(run, *range(100))
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        train = await begin(pilot)
        log = train.query_one(LogPane)
        await pilot.press("6")
        await until(pilot, lambda: "99" in shown(log))
        assert log.lines[0] == "50"
        await pilot.press("up", "up")
        await until(pilot, lambda: not log.following)
        before = shown(log)
        write(run, *range(100, 120))
        await until(pilot, lambda: "119" in log.lines)
        await pilot.pause()
        assert len(log.lines) == 60
        assert shown(log) == before


async def test_a_log_that_is_not_there_is_emptied_or_nasty(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        train = await begin(pilot)
        log = train.query_one(LogPane)
        await pilot.press("6")
        await until(pilot, lambda: "log.txt is not there." in shown(log))
        run.log.write_text(NASTY.encode("utf-8", "replace").decode() + "\n", encoding="utf-8")
        await until(pilot, lambda: "[red]x[/] ANSI" in shown(log))
        assert not any(character in seen(pilot) for character in "\x1b\x07\u202e\r")
        await pilot.press("right", "end", "home")
        run.log.write_text("anew\n")
        await until(pilot, lambda: "anew" in shown(log))
        assert "ANSI" not in shown(log)
        run.log.write_text("")
        await until(pilot, lambda: "nothing was written yet" in shown(log))


async def test_logs_of_ranks_in_turn(run: Run) -> None:
    write(run, "of the supervisor")
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        train = await begin(pilot)
        log = train.query_one(LogPane)
        await pilot.press("L")
        await until(pilot, lambda: any("One process" in toast.message for toast in pilot.app._notifications))
        assert not log.display
        run.ranks.mkdir()
        for rank in range(2):
            (run.ranks / paths.rank_log(rank)).write_text(f"of rank {rank}\n")
        for title, words in (
            ("ranks/rank-0.txt", "of rank 0"),
            ("ranks/rank-1.txt", "of rank 1"),
            ("log.txt", "of the supervisor"),
        ):
            await pilot.press("L")
            await until(pilot, lambda words=words: words in shown(log))  # type: ignore[misc]
            assert log.border_title == title


@SIZES
async def test_every_pane_may_stand_alone(run: Run, size: tuple[int, int]) -> None:
    write(run, "something")
    async with VlmAgentApp(run).run_test(size=size) as pilot:
        train = await begin(pilot)
        await pilot.press("5", "6")
        assert all(train.query_one(f"#{one}").display for one in panes.PANES)
        await pilot.press(*"23456")
        for number, name in enumerate(panes.PANES, start=1):
            if number > 1:  # the next one beside the one before, which goes
                await pilot.press(str(number), str(number - 1))
            await pilot.pause()
            assert [one for one in panes.PANES if train.query_one(f"#{one}").display] == [name]
            pane = train.query_one(f"#{name}")
            assert pane.display
            assert pane.size.height >= 1
            assert pane.size.width > size[0] // 3
            await pilot.press(str(number))  # the last one stays
            assert pane.display
        await pilot.press(*"12345")
        assert all(train.query_one(f"#{one}").display for one in panes.PANES)
