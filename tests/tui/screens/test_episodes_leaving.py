import shutil
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.driving import shown, until
from tests.tui.made_episodes import Host, make_episodes, make_evaluation, make_play, write_episode
from tests.tui.screens.episodes_pilot import COUNT, SIZE, bar, begin, names, press, screen
from vlmagent.paths import Run
from vlmagent.store.browse import Filter, OutputRow, output_page
from vlmagent.store.reader import StoreReader
from vlmagent.store.writer import StoreWriter
from vlmagent.tui.data import episode_list
from vlmagent.tui.screens import episodes as module
from vlmagent.tui.screens.choose import ChooseScreen
from vlmagent.tui.screens.compare import CompareScreen
from vlmagent.tui.screens.episodes import EpisodesScreen
from vlmagent.tui.screens.replay import ReplayScreen


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_episodes(tmp_path / "a-run", COUNT)


def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists that read few rows at a time."""
    monkeypatch.setattr(episode_list, "PAGE", 5)
    monkeypatch.setattr(episode_list.read_page, "__defaults__", (5,))
    monkeypatch.setattr(module, "NEAR_END", 0)


async def replaying(pilot: Pilot[Any]) -> ReplayScreen:
    """Replay the row under the cursor."""
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, ReplayScreen) and pilot.app.screen.row)
    found = pilot.app.screen
    assert isinstance(found, ReplayScreen)
    return found


def ranking(run: Run) -> list[OutputRow]:
    """The illegal outputs, the least probable one first."""
    with StoreReader(run.database) as reader:
        return output_page(reader, Filter(illegal=True), "logprob").rows


async def test_enter_replays_and_comes_back_to_the_same_row(run: Run) -> None:
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ReplayScreen) and pilot.app.screen.row)
        replay = pilot.app.screen
        assert isinstance(replay, ReplayScreen)
        assert (replay.episode_id, replay.playback.at) == (28, 0)
        await pilot.press("n")
        await until(pilot, lambda: replay.episode_id == 27)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen))
        await until(pilot, lambda: screen(pilot).table.current == "e27")


async def test_enter_on_an_output_shows_that_step(run: Run) -> None:
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await press(pilot, "a")
        row = screen(pilot).current
        assert isinstance(row, episode_list.OutputRow)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ReplayScreen) and pilot.app.screen.row)
        replay = pilot.app.screen
        assert isinstance(replay, ReplayScreen)
        assert replay.row is not None
        assert replay.row.id == row.id
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen))
        assert screen(pilot).table.current == f"o{row.id}"


async def test_compare_and_leaving(run: Run) -> None:
    app = Host(EpisodesScreen(run))
    async with app.run_test(size=SIZE) as pilot:
        await begin(pilot)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, EpisodesScreen))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, EpisodesScreen))


async def test_next_goes_on_beyond_the_rows_that_were_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch)
    async with Host(EpisodesScreen(run)).run_test(size=(80, 14)) as pilot:
        await begin(pilot)
        loaded = len(names(pilot))
        assert loaded < COUNT
        replay = await replaying(pilot)
        assert f"(1 of {loaded}+)" in shown(replay.query_one("#replay-title"))
        for wanted in range(COUNT - 1, 0, -1):
            await pilot.press("n")
            await until(pilot, lambda wanted=wanted: replay.episode_id == wanted)  # type: ignore[misc]
        await pilot.press("n")
        await until(pilot, lambda: "the last episode of the list" in str(list(pilot.app._notifications)))
        assert replay.episode_id == 1
        assert f"({COUNT} of {COUNT})" in shown(replay.query_one("#replay-title"))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen))
        await until(pilot, lambda: screen(pilot).table.current == "e1")
        assert len(names(pilot)) == COUNT


async def test_next_goes_through_filtered_rankings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch)
    wanted = [(row.episode_id, row.step) for row in ranking(run)]
    assert len(wanted) == 6
    async with Host(EpisodesScreen(run)).run_test(size=(80, 14)) as pilot:
        await begin(pilot)
        await press(pilot, "i", "l")
        replay = await replaying(pilot)
        seen = [(replay.episode_id, replay.playback.at)]
        for place in wanted[1:]:
            await pilot.press("n")
            await until(pilot, lambda place=place: replay.episode_id == place[0])  # type: ignore[misc]
            seen.append((replay.episode_id, replay.playback.at))
        assert seen == wanted
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen))
        await until(pilot, lambda: screen(pilot).table.current == f"o{ranking(run)[-1].id}")


async def test_previous_goes_on_to_episodes_that_ended_meanwhile(run: Run) -> None:
    with StoreWriter(run.database) as writer:
        async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
            await begin(pilot, COUNT)
            replay = await replaying(pilot)
            await pilot.press("N")
            await until(pilot, lambda: "the first episode of the list" in str(list(pilot.app._notifications)))
            write_episode(writer, 31, 91)
            writer.flush()
            await pilot.press("N")
            await until(pilot, lambda: replay.episode_id == 31)
            assert "(1 of 31)" in shown(replay.query_one("#replay-title"))
            await pilot.press("n")
            await until(pilot, lambda: replay.episode_id == 30)


async def test_next_of_a_list_whose_run_was_deleted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch)
    async with Host(EpisodesScreen(run)).run_test(size=(80, 14)) as pilot:
        await begin(pilot)
        loaded = len(names(pilot))
        replay = await replaying(pilot)
        for wanted in range(COUNT - 1, COUNT - loaded, -1):
            await pilot.press("n")
            await until(pilot, lambda wanted=wanted: replay.episode_id == wanted)  # type: ignore[misc]
        shutil.rmtree(run)
        await pilot.press("n")
        await until(pilot, lambda: "no run database" in shown(replay.query_one("#replay-problem")))
        assert replay.episode_id == COUNT - loaded + 1


# Leaving


async def test_escape_leaves_a_list_that_was_opened_filtered(run: Run) -> None:
    async with Host(EpisodesScreen(run, updates=(2, 2))).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await press(pilot, "f")
        assert len(names(pilot)) == 7
        await press(pilot, "escape")
        assert names(pilot) == [f"e{id_}" for id_ in range(20, 10, -1)]
        await press(pilot, "u")
        screen(pilot).entry.value = "1-2"
        await press(pilot, "enter")
        assert len(names(pilot)) == 20
        await press(pilot, "escape")
        assert len(names(pilot)) == 10
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, EpisodesScreen))


async def test_escape_leaves_once_nothing_is_filtered(run: Run) -> None:
    async with Host(EpisodesScreen(run, updates=(2, 2))).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await press(pilot, "u")
        screen(pilot).entry.value = ""
        await press(pilot, "enter")
        assert len(names(pilot)) == COUNT
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, EpisodesScreen))


async def test_an_empty_list_says_what_escape_does_not(run: Run) -> None:
    async with Host(EpisodesScreen(run, updates=(77, 77))).run_test(size=SIZE) as pilot:
        await until(
            pilot, lambda: "u chooses other updates" in shown(screen(pilot).query_one("#episodes-empty"))
        )


# Evaluations


async def test_the_episodes_of_an_evaluation(run: Run) -> None:
    make_evaluation(run, "step-0", [True, False, True], system="sft")
    path = make_evaluation(run, "step-500", [True, True])
    async with Host(EpisodesScreen(run, updates=(1, 1))).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("down", "enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen) and names(pilot) == ["e2", "e1"]
        )
        assert "data rl step-500" in bar(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ReplayScreen) and pilot.app.screen.row)
        assert pilot.app.screen.feed.database == path  # type: ignore[attr-defined]
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen))
        assert names(pilot) == ["e2", "e1"]
        await pilot.click("#chip-data")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("home", "enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen) and len(names(pilot)) == COUNT
        )


async def test_back_to_training_from_an_evaluation_that_was_deleted(run: Run) -> None:
    path = make_evaluation(run, "step-0", [True])
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen) and names(pilot) == ["e1"])
        path.unlink()
        await pilot.press("f")
        await until(pilot, lambda: "no run database" in shown(screen(pilot).query_one("#episodes-problem")))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen) and len(names(pilot)) == 20)
        assert "data training | outcome success" in bar(pilot)


async def test_the_games_that_were_played(run: Run) -> None:
    make_evaluation(run, "step-500", [True, True])
    first = make_play(run, [False], at=1_750_000_000)
    make_play(run, [True, True, False], model="step-500", at=1_750_090_000)
    (run.plays / "broken.db").write_text("nothing " * 100)
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        choices = pilot.app.screen.choices  # type: ignore[attr-defined]
        assert [name.split()[0] for name, _ in choices] == ["training", "rl", "play", "play", "play"]
        assert [facts for _, facts in choices[3:]] == [
            "step-500 · 3 episodes · success 66.7 %",
            "human · 1 episode · success 0.0 %",
        ]
        assert "not a SQLite database" in choices[2][1]
        await pilot.press("end", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen) and names(pilot) == ["e1"])
        assert screen(pilot).feed.database == first
        assert "data play " in bar(pilot)
        replay = await replaying(pilot)
        assert "play · seed" in shown(replay.query_one("#replay-title"))


async def test_a_run_of_games_only(tmp_path: Path) -> None:
    run = make_episodes(tmp_path / "played", 3, split="play")
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot, 3)
        await until(pilot, lambda: bar(pilot).startswith("data play |"))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        assert pilot.app.screen.choices == [("play", "the games that were played")]  # type: ignore[attr-defined]
