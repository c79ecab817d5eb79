"""The replay screen under a pilot."""

from typing import Any

from textual.pilot import Pilot

from tests.tui.driving import shown, until
from tests.tui.made_episodes import Host
from vlmagent.paths import Run
from vlmagent.tui.screens.replay import ReplayScreen
from vlmagent.tui.widgets.picture import Picture

SIZE = (120, 40)


def host(run: Run, episode: int = 5, **more: Any) -> Host:
    return Host(ReplayScreen(run, episode, **more))


def screen(pilot: Pilot[Any]) -> ReplayScreen:
    found = pilot.app.screen
    assert isinstance(found, ReplayScreen)
    return found


def words(pilot: Pilot[Any], selector: str) -> str:
    return shown(pilot.app.screen.query_one(selector))


async def begin(pilot: Pilot[Any]) -> ReplayScreen:
    await until(pilot, lambda: isinstance(pilot.app.screen, ReplayScreen) and screen(pilot).row)
    await until(pilot, lambda: screen(pilot).query_one(Picture).image is not None)
    return screen(pilot)
