"""Opens one screen from another, and stops a run after a question: what several screens do alike.

Screens are imported when they are opened, which keeps the first one quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textual.app import App

from vlmagent.errors import VlmAgentError
from vlmagent.paths import Run
from vlmagent.tui.data.source import Worker
from vlmagent.tui.settings import images_of
from vlmagent.tui.text import safe


def open_train(app: App[Any], run: Run, overlays: Sequence[Run] = ()) -> None:
    """The live view of a run."""
    from vlmagent.tui.screens.train import TrainScreen

    app.push_screen(TrainScreen(run, overlays, images_of(app)))


def open_episodes(app: App[Any], run: Run, updates: tuple[int, int] | None = None) -> None:
    """The episodes of a run, or of some of its updates."""
    from vlmagent.tui.screens.episodes import EpisodesScreen

    app.push_screen(EpisodesScreen(run, updates=updates))


def open_replay(app: App[Any], run: Run, episode_id: int, step: int = 0) -> None:
    """One episode, step by step, from this step on."""
    from vlmagent.tui.screens.replay import ReplayScreen

    app.push_screen(ReplayScreen(run, episode_id, step=step))


def open_compare(app: App[Any], left: Run, right: Run) -> None:
    """Two runs, or twice the same for two of its checkpoints, on the same seeds."""
    from vlmagent.tui.screens.compare import CompareScreen, CompareSide

    app.push_screen(CompareScreen(CompareSide(left), CompareSide(right)))


def open_play(app: App[Any], run: Run, start: tuple[Path, int, int] | None = None) -> None:
    """Ask who is to play beside a run, then sit down at the table.

    Args:
        start: database, episode and step to play on from; None begins a new episode.
    """
    app.run_worker(_play(app, run, start), group="play", exclusive=True)


async def _play(app: App[Any], run: Run, start: tuple[Path, int, int] | None) -> None:
    from vlmagent.play.plan import Continuation, Mode, plan_run
    from vlmagent.tui.play.screen import PlayScreen
    from vlmagent.tui.screens.choose import ChooseScreen

    modes: dict[Mode, tuple[str, str]] = {
        "human": ("you play", "the checkpoint gives hints when asked"),
        "watch": ("the checkpoint plays", "you watch, step, or take over"),
        "versus": ("both play", "the same deals, with a score and a review"),
    }
    where = f"play on from step {start[2] + 1} of episode {start[1]}" if start else "who plays?"
    chosen = await app.push_screen_wait(ChooseScreen(where, list(modes.values())))
    if chosen is None:
        return
    worker = Worker("play-plan")
    try:
        continuation = Continuation(*start) if start else None
        plan = await worker.call(lambda: plan_run(run, list(modes)[chosen], start=continuation))
    except VlmAgentError as error:
        app.notify(safe(str(error), 400), severity="error", markup=False, timeout=10)
    else:
        app.push_screen(PlayScreen(plan))
    finally:
        worker.close()
