from pathlib import Path

import pytest
from textual.screen import Screen

from tests.tui.driving import until
from tests.tui.made_episodes import Host, make_two_evaluations
from vlmagent.paths import Run
from vlmagent.tui.messages import Open, OpenCompare, OpenEpisodes, OpenPlay, OpenReplay, OpenTrain
from vlmagent.tui.screens.choose import ChooseScreen
from vlmagent.tui.screens.compare import CompareScreen
from vlmagent.tui.screens.episodes import EpisodesScreen
from vlmagent.tui.screens.replay import ReplayScreen
from vlmagent.tui.screens.train import TrainScreen


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_two_evaluations(tmp_path / "a-run")


async def test_each_wish_opens_its_screen(run: Run) -> None:
    wishes: list[tuple[Open, type[Screen[object]]]] = [
        (OpenTrain(run), TrainScreen),
        (OpenEpisodes(run, (1, 1)), EpisodesScreen),
        (OpenReplay(run, 2, 1), ReplayScreen),
        (OpenCompare(run, run), CompareScreen),
        (OpenPlay(run), ChooseScreen),
    ]
    for wish, kind in wishes:
        app = Host(Screen())
        async with app.run_test() as pilot:
            app.screen.post_message(wish)
            await until(pilot, lambda app=app, kind=kind: isinstance(app.screen, kind))  # type: ignore[misc]


async def test_of_two_wishes_at_once_the_first_counts(run: Run) -> None:
    app = Host(Screen())
    async with app.run_test() as pilot:
        app.screen.post_message(OpenTrain(run))
        app.screen.post_message(OpenEpisodes(run))
        await until(pilot, lambda: isinstance(app.screen, TrainScreen))
        await pilot.pause()
        assert [type(screen) for screen in app.screen_stack[2:]] == [TrainScreen]
        app.screen.post_message(OpenEpisodes(run))
        await until(pilot, lambda: isinstance(app.screen, EpisodesScreen))


async def test_a_replay_tells_where_it_was_left(run: Run) -> None:
    app, left = Host(Screen()), []
    async with app.run_test() as pilot:
        app.screen.post_message(OpenReplay(run, 1, on_return=left.append))
        await until(pilot, lambda: isinstance(app.screen, ReplayScreen) and app.screen.row)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, ReplayScreen) and app.screen.episode_id == 2)
        await pilot.press("escape")
        await until(pilot, lambda: left == [(2, 0)])
