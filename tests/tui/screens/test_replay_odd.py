"""Replays of what is not as it should be: growing, nasty, missing, deleted or damaged."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.tui.driving import said, seen, until
from tests.tui.made_episodes import make_episodes, write_episode
from tests.tui.made_runs import NASTY, make_run
from tests.tui.screens.replay_pilot import SIZE, begin, host, screen, words
from vlmagent.paths import Run
from vlmagent.store.writer import StoreWriter
from vlmagent.tui.screens import replay as module
from vlmagent.tui.widgets.picture import Picture


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_episodes(tmp_path / "a-run", 8)


async def test_a_running_episode_grows(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIVE_SECONDS", 0.05)
    with StoreWriter(run.database) as writer:
        write_episode(writer, 9, 25, steps=2, running=True)
        writer.flush()
        async with host(run, 9).run_test(size=SIZE) as pilot:
            replay = await begin(pilot)
            assert "unfinished, 2 steps so far" in words(pilot, "#replay-title")
            await pilot.press("end")
            from tests.tui.made_episodes import transition

            writer.transition(transition(27, 9, 2))
            writer.flush()
            await until(pilot, lambda: replay.playback.count == 3)
            assert replay.playback.at == 2
            await pilot.press("home")
            from vlmagent.types import EpisodeEnd

            writer.episode_ended(EpisodeEnd(9, 3, 1.0, True, True, "terminated"))
            writer.flush()
            await until(pilot, lambda: "success" in words(pilot, "#replay-title"))
            assert replay.playback.at == 0
            assert replay._live is not None
            assert not replay._live._active.is_set()


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_nasty_text(tmp_path: Path, size: tuple[int, int]) -> None:
    run = make_run(tmp_path / "[red]run[b]", updates=2, text=NASTY)
    async with host(run, 1).run_test(size=size) as pilot:
        await begin(pilot)
        await pilot.press("i", "t", "t", "w", "y", "right")
        await until(pilot, lambda: "[red]x[/]" in words(pilot, "TokenText"))
        everything = seen(pilot)
        assert "\x1b" not in everything
        assert "\u202e" not in everything
        assert "[red]run[b]" in words(pilot, "#replay-title")


async def test_no_such_episode_and_no_such_run(run: Run, tmp_path: Path) -> None:
    for target, text in (
        (run, "Episode 99 has no step"),
        (Run(tmp_path / "gone"), "There is no run database"),
    ):
        async with host(target, 99).run_test(size=SIZE) as pilot:
            await until(pilot, lambda text=text: text in words(pilot, "#replay-problem"))  # type: ignore[misc]
            for key in (
                "space",
                "right",
                "end",
                "n",
                "full_stop",
                "w",
                "i",
                "t",
                "y",
                "g",
                "x",
                "5",
                "plus",
                "down",
                "pagedown",
            ):
                await pilot.press(key)
            await pilot.pause()


async def test_a_run_deleted_meanwhile(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        replay = await begin(pilot)
        shutil.rmtree(run)
        await pilot.press("n")
        await until(pilot, lambda: "no run database" in words(pilot, "#replay-problem"))
        await pilot.press("right")
        assert replay.playback.at == 1
        await pilot.press("g")
        await until(pilot, lambda: "no run database" in words(pilot, "#replay-note"))
        assert not run.exists()


async def test_a_damaged_database(run: Run) -> None:
    run.database.write_bytes(run.database.read_bytes()[:9000])
    async with host(run).run_test(size=SIZE) as pilot:
        await until(
            pilot, lambda: "damaged or cut short" in said(pilot.app.screen.query_one("#replay-problem"))
        )


async def test_a_missing_picture(run: Run) -> None:
    with sqlite3.connect(run.database) as connection:
        connection.execute("DELETE FROM images")
    connection.close()
    async with host(run).run_test(size=SIZE) as pilot:
        await until(pilot, lambda: screen(pilot).row)
        await pilot.press("right", "right")
        await until(pilot, lambda: "no picture" in words(pilot, "#replay-picture"))


async def test_pictures_off(run: Run) -> None:
    app = host(run)
    app.images = "off"
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: screen(pilot).row)
        assert not screen(pilot).query_one(Picture).display
