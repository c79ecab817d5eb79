"""Runs the dashboard in the terminal, or without one to take pictures of its screens.

Deliberately knows nothing of how screens work inside.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from pathlib import Path

from vlmagent import paths
from vlmagent.errors import StoreError, UsageError
from vlmagent.store.reader import StoreReader
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.navigate import open_episodes, open_replay, open_train
from vlmagent.tui.widgets.picture import prepare_graphics

SCREENSHOT_SIZE = (132, 40)
_SETTLE_SECONDS = 1.2


def run_dashboard(run: Path | None, images: str = "auto") -> None:
    """Show the dashboard until the user leaves it.

    Args:
        run: the run to open at once; None begins with the list.
        images: ``auto``, ``kitty``, ``sixel``, ``half`` or ``off``.

    Raises:
        UsageError: there is no terminal, or ``images`` is none of these.
    """
    graphics = prepare_graphics(images)
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)  # Textual reads the first and draws on the last
    if not all(stream is not None and stream.isatty() for stream in streams):
        raise UsageError(
            "The dashboard needs a terminal for input, output and errors. Without one: `vlmagent runs show` "
            "prints a run, `vlmagent tui --screenshot DIR` writes pictures of the screens."
        )
    VlmAgentApp(run, graphics.mode, notice=graphics.notice).run()


def take_screenshots(folder: Path, run: Path) -> list[Path]:
    """Write SVG pictures of the screens, drawn without a terminal, into ``folder``.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return asyncio.run(_photograph(folder, run))
    except OSError as error:
        raise UsageError(
            f"The pictures could not be written to {folder}: {error.strerror or error}."
        ) from None


async def _photograph(folder: Path, run: Path) -> list[Path]:
    app = VlmAgentApp(None, "half")
    made: list[Path] = []
    async with app.run_test(size=SCREENSHOT_SIZE) as pilot:

        async def take(name: str, prepare: Callable[[], None], *keys: str) -> None:
            prepare()
            await pilot.pause(_SETTLE_SECONDS)
            await pilot.press(*keys)
            await pilot.pause()
            file = folder / f"{name}.svg"
            file.write_text(app.export_screenshot(title=f"vlmagent tui · {name}"), encoding="utf-8")
            made.append(file)

        await take("runs", lambda: None)
        await take("train", lambda: open_train(app, run), "s")
        await take("episodes", lambda: open_episodes(app, run))
        episode = _telling_episode(run)
        if episode is not None:
            await take("replay", lambda: open_replay(app, run, episode))
    return made


def _telling_episode(run: Path) -> int | None:
    """An episode worth a picture: among the newest, a successful one of some length."""
    try:
        with StoreReader(run / paths.DATABASE) as reader:
            episodes = reader.episodes(limit=200)
    except StoreError:
        return None
    ended = [episode for episode in episodes if episode.ended != "running" and episode.length]
    best = max(
        ended,
        key=lambda e: (bool(e.success), min(e.length or 0, 4), e.episode_return or -math.inf),
        default=None,
    )
    return None if best is None else best.id
