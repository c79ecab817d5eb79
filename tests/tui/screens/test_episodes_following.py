import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.tui.driving import seen, shown, until
from tests.tui.made_episodes import Host, make_episodes, write_episode
from tests.tui.made_runs import NASTY, make_run
from tests.tui.screens.episodes_pilot import COUNT, SIZE, bar, begin, episodes, names, press, screen, settled
from vlmagent.paths import Run
from vlmagent.store.writer import StoreWriter
from vlmagent.tui.data import episode_feed, episode_list
from vlmagent.tui.data.episode_feed import EpisodeFeed
from vlmagent.tui.data.episode_list import View
from vlmagent.tui.screens import episodes as module
from vlmagent.tui.screens.choose import ChooseScreen
from vlmagent.tui.screens.episodes import EpisodesScreen
from vlmagent.tui.screens.replay import ReplayScreen
from vlmagent.tui.widgets.tokens import TokenText
from vlmagent.types import EpisodeEnd


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_episodes(tmp_path / "a-run", COUNT)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(episode_feed, "COUNT_SECONDS", 0.0)


async def test_new_episodes_join_the_top(run: Run, quick: None) -> None:
    with StoreWriter(run.database) as writer:
        async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
            await begin(pilot)
            write_episode(writer, 31, 91)
            await until(pilot, lambda: names(pilot)[0] == "e31")
            assert screen(pilot).table.current == "e31"
            assert screen(pilot).feed.waiting == 0
            await until(pilot, lambda: "31 finished" in shown(screen(pilot).query_one("#episodes-title")))


async def test_they_wait_while_the_user_is_elsewhere(run: Run, quick: None) -> None:
    with StoreWriter(run.database) as writer:
        async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
            await begin(pilot)
            await pilot.press("down", "down")
            for number in range(3):
                write_episode(writer, 31 + number, 91 + 3 * number)
            await until(pilot, lambda: "▲ 3 new" in bar(pilot))
            assert names(pilot)[0] == "e30"
            assert screen(pilot).table.current == "e28"
            await pilot.press("r")
            await until(pilot, lambda: names(pilot)[0] == "e33")
            assert screen(pilot).table.current == "e28"
            assert "new" not in bar(pilot).split("|")[-1]
            write_episode(writer, 34, 100)
            await until(pilot, lambda: "▲ 1 new" in bar(pilot))
            await pilot.click("#chip-news")
            await until(pilot, lambda: names(pilot)[0] == "e34")
            write_episode(writer, 35, 103)
            await until(pilot, lambda: "▲ 1 new" in bar(pilot))
            await pilot.press("home")
            write_episode(writer, 36, 106)
            await until(pilot, lambda: names(pilot)[:2] == ["e36", "e35"])


async def test_filters_hold_for_new_episodes(run: Run, quick: None) -> None:
    with StoreWriter(run.database) as writer:
        async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
            await begin(pilot)
            await press(pilot, "f", "f")
            write_episode(writer, 31, 91, success=True)
            write_episode(writer, 32, 94, success=False)
            await until(pilot, lambda: names(pilot)[0] == "e32")
            assert "e31" not in names(pilot)
            await press(pilot, "o")
            write_episode(writer, 33, 97, success=False)
            writer.flush()
            await pilot.pause(0.2)
            assert names(pilot)[0] == "e3"
            await press(pilot, "r")
            await until(pilot, lambda: names(pilot)[-1] == "e33")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode_feed, "MOST_FOLLOWED", 20)
    monkeypatch.setattr(module, "NEAR_END", 5)


async def test_a_list_that_follows_for_long_stays_short(run: Run, quick: None, short: None) -> None:
    with StoreWriter(run.database) as writer:
        async with Host(EpisodesScreen(run)).run_test(size=(80, 14)) as pilot:
            await begin(pilot, COUNT)
            for number in (31, 32):
                write_episode(writer, number, 3 * number - 2)
                await until(pilot, lambda number=number: names(pilot)[0] == f"e{number}")  # type: ignore[misc]
                await settled(pilot)
                assert names(pilot) == [f"e{id_}" for id_ in range(number, number - 20, -1)]
            await press(pilot, "end")
            await until(pilot, lambda: names(pilot) == [f"e{id_}" for id_ in episodes(32)])


async def test_a_reader_at_the_end_keeps_it(run: Run, quick: None, short: None) -> None:
    with StoreWriter(run.database) as writer:
        async with Host(EpisodesScreen(run)).run_test(size=(80, 14)) as pilot:
            await begin(pilot, COUNT)
            await press(pilot, "end")
            write_episode(writer, 31, 91)
            await until(pilot, lambda: "▲ 1 new" in bar(pilot))
            await press(pilot, "r")
            await until(pilot, lambda: names(pilot)[0] == "e31")
            assert names(pilot) == [f"e{id_}" for id_ in episodes(31)]
            assert screen(pilot).table.current == "e1"


async def test_more_news_than_are_read_at_once_leave_no_gap(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module_ in (episode_feed, episode_list):
        monkeypatch.setattr(module_, "MOST_NEWS", 6)
        monkeypatch.setattr(module_, "PAGE", 4)
    monkeypatch.setattr(episode_list.read_page, "__defaults__", (4,))
    feed = EpisodeFeed(run, View())
    await feed.restart()
    assert list(feed.rows) == ["e30", "e29", "e28", "e27"]
    with StoreWriter(run.database) as writer:
        for number in range(31, 43):
            write_episode(writer, number, 3 * number - 2)
    assert not await feed.read_news(lambda: False)
    assert (feed.waiting, next(iter(feed.rows))) == (6, "e30")
    assert await feed.read_news(lambda: True)
    assert feed.waiting == 0
    while feed.more:
        await feed.read_more()
    assert list(feed.rows) == [f"e{id_}" for id_ in episodes(42)]
    feed.close()


async def test_an_episode_that_began_long_before_the_others_joins_in_its_place(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module_ in (episode_feed, episode_list):
        monkeypatch.setattr(module_, "PAGE", 4)
    monkeypatch.setattr(episode_list.read_page, "__defaults__", (4,))
    with StoreWriter(run.database) as writer:
        write_episode(writer, 31, 91, running=True)
        for number in range(32, 44):
            write_episode(writer, number, 3 * number - 2)
        writer.flush()
        feed = EpisodeFeed(run, View())
        await feed.restart()
        writer.episode_ended(EpisodeEnd(31, 3, 1.0, True, True, "terminated"))
        writer.commit()
        writer.flush()
        assert not await feed.read_news(lambda: True)  # the next page will have it
        await feed.restart()
        while feed.more:
            await feed.read_more()
        assert list(feed.rows) == [f"e{id_}" for id_ in episodes(43)]
        write_episode(writer, 44, 130, running=True)
        writer.flush()
        assert not await feed.read_news(lambda: True)
        for number in range(45, 60):
            write_episode(writer, number, 3 * number - 2)
            writer.flush()
            assert await feed.read_news(lambda: True)
        writer.episode_ended(EpisodeEnd(44, 3, 1.0, True, True, "terminated"))
        writer.commit()
        writer.flush()
        assert not await feed.read_news(lambda: False)
        assert feed.waiting == 1
        assert await feed.read_news(lambda: True)
        assert list(feed.rows) == [f"e{id_}" for id_ in episodes(59)]
        feed.close()


async def test_the_first_episode_of_a_run(tmp_path: Path, quick: None) -> None:
    run = Run(tmp_path / "run")
    run.path.mkdir()
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "no run database" in shown(screen(pilot).query_one("#episodes-problem")))
        with StoreWriter(run.database) as writer:
            writer.start_run("run", "numberline", "tiny", "{}", 0)
            writer.flush()
            await until(
                pilot, lambda: "No episode has ended yet" in shown(screen(pilot).query_one("#episodes-empty"))
            )
            assert not screen(pilot).query_one("#episodes-problem").display
            write_episode(writer, 1, 1)
            await until(pilot, lambda: names(pilot) == ["e1"])
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, ReplayScreen))


# What goes wrong


async def test_a_run_deleted_meanwhile(run: Run, quick: None) -> None:
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        shutil.rmtree(run)
        await until(pilot, lambda: "no run database" in shown(screen(pilot).query_one("#episodes-problem")))
        assert len(names(pilot)) == COUNT
        for key in ("f", "o", "i", "l", "y", "r", "d"):
            await pilot.press(key)
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("escape")
        make_episodes(run.path, 4)
        await until(pilot, lambda: not screen(pilot).query_one("#episodes-problem").display)


@pytest.mark.parametrize("how", ["cut", "text", "newer", "locked"])
async def test_databases_that_cannot_be_read(run: Run, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmagent.store.reader.BUSY_SECONDS", 0.05)
    path = run.database
    holder = sqlite3.connect(path, isolation_level=None)
    if how == "cut":
        holder.close()
        path.write_bytes(path.read_bytes()[:9000])
    elif how == "text":
        holder.close()
        path.write_text("not a database " * 500)
    elif how == "newer":
        holder.execute("PRAGMA user_version = 999")
    else:
        holder.execute("PRAGMA journal_mode = delete")
        holder.execute("BEGIN EXCLUSIVE")
    words = {"cut": "damaged", "text": "not a SQLite database", "newer": "newer vlmagent", "locked": "locked"}
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await until(pilot, lambda: words[how] in shown(screen(pilot).query_one("#episodes-problem")))
        await pilot.press("down", "enter", "f", "y", "slash", "x", "escape")
        if how == "locked":
            holder.execute("ROLLBACK")
            await begin(pilot)
    holder.close()


async def test_an_older_schema_is_listed_too(run: Run) -> None:
    with sqlite3.connect(run.database) as connection:
        connection.execute("DROP INDEX transitions_advantage")
        connection.execute("DROP INDEX transitions_logprob")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await press(pilot, "a")
        assert len(names(pilot)) == 3 * COUNT


@pytest.mark.parametrize("size", [(80, 24), (160, 40)])
async def test_nasty_text(tmp_path: Path, size: tuple[int, int]) -> None:
    run = make_run(tmp_path / "[red]run[b]", updates=2, text=NASTY)
    async with Host(EpisodesScreen(run)).run_test(size=size) as pilot:
        await begin(pilot)
        await press(pilot, "l")
        if size[0] == 80:
            await press(pilot, "v")
        await until(pilot, lambda: "[red]x[/]" in shown(screen(pilot).query_one(TokenText)).replace("\n", ""))
        await pilot.press("slash", *"abc", "enter")
        await settled(pilot)
        everything = seen(pilot)
        assert "\x1b" not in everything
        assert "\u202e" not in everything
        assert "[red]run[b]" in shown(screen(pilot).query_one("#episodes-title"))
        assert "abc" in shown(screen(pilot).table)
