"""The screen of one run under a pilot."""

from typing import Any

from textual.pilot import Pilot

from tests.tui.driving import shown, until
from vlmagent.tui.screens.train import TrainScreen
from vlmagent.tui.widgets.chart import Chart
from vlmagent.tui.widgets.newest import NewestStep

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
