"""Driving the list of episodes in pilot tests."""

from __future__ import annotations

from typing import Any

from textual.pilot import Pilot

from tests.tui.driving import shown, until
from vlmagent.tui.screens.episodes import EpisodesScreen

SIZE = (120, 40)
COUNT = 30
"""Episodes of the run that most tests list."""


def screen(pilot: Pilot[Any]) -> EpisodesScreen:
    """The list, which must be on top."""
    found = pilot.app.screen
    assert isinstance(found, EpisodesScreen)
    return found


def names(pilot: Pilot[Any]) -> list[str]:
    """Keys of its rows."""
    return [str(row.key.value) for row in screen(pilot).table.ordered_rows]


def bar(pilot: Pilot[Any]) -> str:
    """The line of settings."""
    chips = ("data", "outcome", "illegal", "order", "updates", "search", "news")
    return " | ".join(shown(screen(pilot).query_one(f"#chip-{name}")).strip() for name in chips)


async def begin(pilot: Pilot[Any], rows: int = 1) -> EpisodesScreen:
    """Wait for the list and its first rows."""
    await until(
        pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen) and screen(pilot).table.row_count >= rows
    )
    await settled(pilot)
    return screen(pilot)


async def settled(pilot: Pilot[Any]) -> None:
    """Wait until nothing is being read."""
    await until(pilot, lambda: not screen(pilot).feed.loading)
    await pilot.pause()


async def press(pilot: Pilot[Any], *keys: str) -> None:
    """Press keys and wait for what they bring."""
    await pilot.press(*keys)
    await pilot.pause()
    await settled(pilot)


def episodes(count: int = COUNT) -> list[int]:
    """Their ids, newest first."""
    return list(range(count, 0, -1))
