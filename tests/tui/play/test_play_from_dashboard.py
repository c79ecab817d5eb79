"""``p`` on a run, in a list of episodes and in a replay."""

from pathlib import Path

import pytest

from tests.play.made import EASY, config, plan_play
from tests.tui.driving import shown
from tests.tui.made_episodes import Host
from tests.tui.play.made_play import Brain, begin, brains, happens
from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.play.plan import Continuation, plan_run
from vlmagent.play.session import PlaySession
from vlmagent.runs import folders
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.play.screen import PlayScreen
from vlmagent.tui.screens.choose import ChooseScreen
from vlmagent.tui.screens.episodes import EpisodesScreen
from vlmagent.tui.screens.replay import ReplayScreen
from vlmagent.tui.screens.runs import RunsScreen

__all__ = ["brains"]


@pytest.fixture
def run() -> Run:
    """A run that looks as if it had a checkpoint."""
    made = folders.create_run(config())
    folder = made.checkpoints / "step-8"
    folder.mkdir(parents=True)
    (folder / paths.TRAINER).touch()
    return made


def played(run: Run | None = None) -> Path:
    """The database of a session with one episode of back and forth."""
    plan = plan_run(run, "human") if run else plan_play("numberline", human=True, seed=EASY)
    session = PlaySession(plan)
    state = session.moments[0].state
    there = "+" if state["current"] < state["target"] else "-"
    back = "-" if there == "+" else "+"
    session.choose(back)
    while session.moments[0].end is None:
        session.choose(there)
    session.close()
    return session.database


async def test_from_the_list_of_runs(run: Run, brains: list[Brain]) -> None:
    app = VlmAgentApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await happens(pilot, lambda: isinstance(app.screen, RunsScreen) and app.screen.current is not None)
        await pilot.press("p")
        await happens(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("down", "enter")
        playing = await begin(pilot)
        assert (playing.plan.mode, playing.plan.run) == ("watch", run)
        assert brains[0].whom == (run, None)
        await pilot.press("escape")
        await happens(pilot, lambda: isinstance(app.screen, RunsScreen))
        assert brains[0].closed


async def test_without_a_checkpoint() -> None:
    folders.create_run(config())
    app = VlmAgentApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await happens(pilot, lambda: isinstance(app.screen, RunsScreen) and app.screen.current is not None)
        await pilot.press("p")
        await happens(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("down", "enter")
        await happens(pilot, lambda: "has no checkpoint yet" in str(list(app._notifications)))
        assert isinstance(app.screen, RunsScreen)
        await pilot.press("p")
        await happens(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("escape")
        await happens(pilot, lambda: isinstance(app.screen, RunsScreen))


async def test_from_a_replay(run: Run, brains: list[Brain]) -> None:
    database = played(run)
    app = Host(ReplayScreen(run, 1, database=database, step=1))
    async with app.run_test(size=(100, 30)) as pilot:
        await happens(pilot, lambda: isinstance(app.screen, ReplayScreen) and app.screen.row is not None)
        assert "by human" in shown(app.screen.query_one("#replay-facts"))
        await pilot.press("p")
        await happens(pilot, lambda: isinstance(app.screen, ChooseScreen))
        assert str(app.screen.query_one("#choose-box").border_title) == "play on from step 2 of episode 1"
        await pilot.press("enter")
        playing = await begin(pilot)
        assert playing.you is not None
        assert len(playing.you.steps) == 1
        assert playing.plan.start is not None
        assert playing.plan.start.database == database
        await pilot.press("left")
        await happens(pilot, lambda: playing.you is not None and len(playing.you.steps) == 2)
        await pilot.press("escape")


async def test_on_from_the_end_of_an_episode(run: Run, brains: list[Brain]) -> None:
    finished = Continuation(played(run), episode_id=1, step=99)
    async with Host(PlayScreen(plan_run(run, "human", start=finished))).run_test(size=(80, 24)) as pilot:
        playing = await begin(pilot)
        assert playing.settled
        assert "n: next episode" in shown(pilot.app.screen.query_one("#play-last"))
        await pilot.press("left", "x")
        assert brains[0].thinks == []
        await pilot.press("n")
        await happens(pilot, lambda: playing.you is not None and playing.you.number == 2)
        assert not playing.over


async def test_from_the_episodes_of_a_session_of_its_own(brains: list[Brain]) -> None:
    session = Run(played().parent)
    app = Host(EpisodesScreen(session))
    async with app.run_test(size=(120, 40)) as pilot:
        await happens(
            pilot, lambda: isinstance(app.screen, EpisodesScreen) and app.screen.current is not None
        )
        await happens(pilot, lambda: "by human" in shown(app.screen.query_one("StepFacts")))
        await pilot.press("p")
        await happens(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("enter")
        playing = await begin(pilot)
        assert playing.you is not None
        assert playing.plan.run == session
        assert len(playing.you.steps) >= 2
        assert playing.opponent is None
        assert isinstance(app.screen, PlayScreen)
