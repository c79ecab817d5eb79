"""Runs the dashboard in the terminal, or without one to take pictures of its screens.

Deliberately knows nothing of how screens work inside.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
from pathlib import Path

from textual.pilot import Pilot

from vlmagent.errors import StoreError, UsageError
from vlmagent.paths import Run
from vlmagent.runs import folders, status
from vlmagent.store.browse import Filter, episode_page, output_page
from vlmagent.store.reader import StoreReader
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.data.compare_feed import comparable_with
from vlmagent.tui.data.trail import Place
from vlmagent.tui.messages import Open, OpenCompare, OpenEpisodes, OpenReplay, OpenTrain
from vlmagent.tui.widgets.picture import prepare_graphics

# columns and rows: enough for the wide layouts of all screens (110 and 100 columns, 32 rows)
SCREENSHOT_SIZE = (132, 40)
# half a second without a worker counts as settled; after ten seconds a picture is taken as it is
_LOOK_SECONDS, _QUIET_LOOKS, _MOST_LOOKS = 0.1, 5, 100


def run_dashboard(run: Run | None, images: str = "auto") -> None:
    """Show the dashboard until the user leaves it.

    Args:
        run: the run to open at once; None begins with the list.
        images: one of ``IMAGE_MODES``.

    Raises:
        UsageError: there is no terminal, or ``images`` is none of these.
    """
    # before the application: the terminal answers questions through standard input, which Textual reads from then on
    graphics = prepare_graphics(images)
    need_terminal(
        "The dashboard",
        "`vlmagent runs show` prints a run, `vlmagent tui --screenshot DIR` writes pictures of the screens.",
    )
    VlmAgentApp(run, graphics.mode, notice=graphics.notice).run()


def need_terminal(what: str, instead: str) -> None:
    """Refuse to draw where nobody would see it.

    Raises:
        UsageError: standard input, output and errors are not all a terminal.
    """
    if os.environ.get("TEXTUAL_DRIVER"):  # the page of `tui --serve` draws, through pipes
        return
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)  # Textual reads the first and draws on the last
    if not all(stream is not None and stream.isatty() for stream in streams):
        raise UsageError(f"{what} needs a terminal for input, output and errors. Without one: {instead}")


def take_screenshots(folder: Path, run: Run) -> list[Path]:
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


async def _photograph(folder: Path, run: Run) -> list[Path]:
    # an SVG is made of characters: the terminal's own graphics would leave a hole
    app = VlmAgentApp(None, "half")
    made: list[Path] = []
    async with app.run_test(size=SCREENSHOT_SIZE) as pilot:

        async def take(name: str, wish: Open | None, *keys: str) -> None:
            if wish is not None:
                app.post_message(wish)
            await _settle(pilot)
            await pilot.press(*keys)
            await _settle(pilot)
            file = folder / f"{name}.svg"
            file.write_text(app.export_screenshot(title=f"vlmagent tui · {name}"), encoding="utf-8")
            made.append(file)

        await take("runs", None)
        # `s` smooths the curves
        await take("train", OpenTrain(run), "s")
        updates = _telling_updates(run)
        await take("episodes", OpenEpisodes(run, updates))
        place = _telling_place(run, updates)
        if place is not None:
            await take("replay", OpenReplay(run, *place))
        other = comparable_with(run, [run, *_others(run)])
        if other is not None:
            await take("compare", OpenCompare(run, other))
    return made


def _others(run: Run) -> list[Run]:
    """Other runs of the same task, newest first."""
    task = status.show_run(run)["task"]
    found = [one for one in folders.all_runs() if one.resolve() != run.resolve()]
    return [one for one in found if status.show_run(one)["task"] == task]


async def _settle(pilot: Pilot[None]) -> None:
    """Wait until nothing has been read for a while."""
    quiet = 0
    for _ in range(_MOST_LOOKS):
        await pilot.pause(_LOOK_SECONDS)
        # a worker is what reads; a timer may start the next one a moment after the last has ended
        quiet = 0 if any(worker.is_running for worker in pilot.app.workers) else quiet + 1
        if quiet == _QUIET_LOOKS:
            return


def _telling_updates(run: Run) -> tuple[int, int] | None:
    """Updates worth a picture: the one whose successes and failures are nearest to a balance, and its neighbours."""
    try:
        with StoreReader(run.database) as reader:
            # NaN: no episode ended in that update
            known = [row for row in reader.metric_series("rollout/success") if not math.isnan(row.value)]
    except StoreError:
        return None
    best = min(known, key=lambda row: abs(row.value - 0.5), default=None)
    if best is None:
        return None
    # updates count from 1
    return max(1, best.update_index - 1), min(known[-1].update_index, best.update_index + 1)


def _telling_place(run: Run, updates: tuple[int, int] | None) -> Place | None:
    """A place worth a picture: the least probable outputs of successes come first, of those a later step."""
    try:
        with StoreReader(run.database) as reader:
            # from the most telling to anything at all
            for filter in (Filter(success=True, updates=updates), Filter(updates=updates), Filter()):
                # `False` sorts first: later steps before the first one, each in the order of the ranking
                rows = output_page(reader, filter, "logprob", limit=20).rows
                for row in sorted(rows, key=lambda row: row.step == 0):
                    return row.episode_id, row.step
                # outputs without log-probs (an expert's) are in no ranking
                for episode in episode_page(reader, filter, limit=1):
                    return episode.id, 0
    except StoreError:
        pass
    return None
