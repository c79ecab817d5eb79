"""The application's side of ``messages``: opens the screens that other screens ask for.

Each screen is imported when it is opened for the first time, which keeps the first one quick.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from textual import on
from textual.app import App
from textual.screen import Screen

from vlmagent.tui.background import attempt
from vlmagent.tui.messages import LogScale, Open, OpenCompare, OpenEpisodes, OpenPlay, OpenReplay, OpenTrain
from vlmagent.tui.settings import images_of


class OpeningApp(App[None]):
    """An application whose screens may ask for each other."""

    # on the monotonic clock: when the last screen was put on top; 0 lies before every wish
    _opened_at = 0.0
    # of charts, for as long as the program runs
    _log_scale = False

    @on(OpenTrain)
    def open_train(self, wish: OpenTrain) -> None:
        """The live view of a run."""
        from vlmagent.tui.data.curves import Look
        from vlmagent.tui.screens.train import TrainScreen

        look = Look(log=self._log_scale)
        self._put_on_top(wish, lambda: TrainScreen(wish.run, wish.overlays, images_of(self), look))

    @on(LogScale)
    def _remember_scale(self, message: LogScale) -> None:
        self._log_scale = message.on

    @on(OpenEpisodes)
    def open_episodes(self, wish: OpenEpisodes) -> None:
        """The episodes of a run, or of some of its updates."""
        from vlmagent.tui.screens.episodes import EpisodesScreen

        self._put_on_top(wish, lambda: EpisodesScreen(wish.run, updates=wish.updates))

    @on(OpenReplay)
    def open_replay(self, wish: OpenReplay) -> None:
        """One episode, step by step."""
        from vlmagent.tui.screens.replay import ReplayScreen

        self._put_on_top(
            wish,
            lambda: ReplayScreen(
                wish.run, wish.episode_id, database=wish.database, trail=wish.trail, step=wish.step
            ),
            wish.on_return,
        )

    @on(OpenCompare)
    def open_compare(self, wish: OpenCompare) -> None:
        """Two runs on the same seeds."""
        from vlmagent.tui.data.compare_feed import CompareSide
        from vlmagent.tui.screens.compare import CompareScreen

        self._put_on_top(wish, lambda: CompareScreen(CompareSide(wish.left), CompareSide(wish.right)))

    @on(OpenPlay)
    def open_play(self, wish: OpenPlay) -> None:
        """Ask who is to play, then sit down at the table."""
        # only a worker may wait for the answer of a screen
        self.run_worker(self._play(wish), group="play", exclusive=True)

    async def _play(self, wish: OpenPlay) -> None:
        from vlmagent.play.plan import Continuation, Mode, plan_run
        from vlmagent.tui.play.screen import PlayScreen
        from vlmagent.tui.screens.choose import ChooseScreen

        # in the order of the question: the answer is an index into it
        modes: dict[Mode, tuple[str, str]] = {
            "human": ("you play", "the checkpoint gives hints when asked"),
            "watch": ("the checkpoint plays", "you watch, step, or take over"),
            "versus": ("both play", "the same deals, with a score and a review"),
        }
        question, start = "who plays?", None
        if wish.database is not None and wish.place is not None:
            episode, step = wish.place
            question = f"play on from step {step + 1} of episode {episode}"
            start = Continuation(wish.database, episode, step)
        chosen = await self.push_screen_wait(ChooseScreen(question, list(modes.values())))
        if chosen is None:
            return
        # on a thread: the plan reads the run's config and looks for a checkpoint
        plan = await attempt(self, lambda: plan_run(wish.run, list(modes)[chosen], start=start))
        if plan is not None:
            # not through `_put_on_top`: the wish is older than the answer that was just given
            self.push_screen(PlayScreen(plan))

    def _put_on_top(
        self, wish: Open, make: Callable[[], Screen[Any]], on_return: Callable[[Any], None] | None = None
    ) -> None:
        """Open a screen, unless another one came on top after it was asked for."""
        if wish.asked_at >= self._opened_at:
            self.push_screen(make(), on_return)
            # after the import and the making of the screen, which may take a second: keys of that time were for the old
            # one
            self._opened_at = time.monotonic()
