"""``vlmagent play``: the dashboard's application with nothing but the table in it.

Deliberately knows nothing of how the table works.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from vlmagent.errors import UsageError, VlmAgentError
from vlmagent.play.plan import SessionPlan
from vlmagent.text import command
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.play.game import Game
from vlmagent.tui.play.screen import PlayScreen
from vlmagent.tui.start import SCREENSHOT_SIZE, need_terminal
from vlmagent.tui.widgets.picture import prepare_graphics

# between looks at whether everything is there to be photographed
_LOOK_SECONDS = 0.1


class PlayApp(VlmAgentApp):
    """Opens the table and ends when it is left.

    Args:
        plan: what is played.
        images: how pictures are drawn, one of ``IMAGE_MODES``.
        notice: a sentence to show at the beginning.

    Attributes:
        table: the screen.
    """

    def __init__(self, plan: SessionPlan, images: str = "half", *, notice: str = "") -> None:
        super().__init__(None, images, notice=notice)
        self.table = PlayScreen(plan)

    def open_first(self) -> None:
        """The table instead of the list of runs; asked to terminate, the log is completed first."""
        self.push_screen(self.table, lambda _: self.exit())
        if not self.is_headless:
            # left to itself Python ends at SIGTERM at once: the session would stay "running" in its log
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit)


def run_play(plan: SessionPlan, images: str = "auto") -> None:
    """Play until the person leaves.

    Raises:
        UsageError: there is no terminal, or ``images`` is not valid.
    """
    # before the application: the terminal answers questions through standard input, which Textual reads from then on
    graphics = prepare_graphics(images)
    need_terminal("Playing", "`vlmagent eval` lets a checkpoint or the expert play, and logs the episodes.")
    PlayApp(plan, graphics.mode, notice=graphics.notice).run()


def photograph_play(plan: SessionPlan, folder: Path) -> Path:
    """Write a picture of the first state as ``play.svg``, with what may be seen of the opponent's opinion.

    Drawn without a terminal. Nobody acts at the first table.

    Raises:
        UsageError: the folder cannot be written.
        VlmAgentError: the session cannot begin, or whoever is to think cannot.
    """
    file = folder / "play.svg"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(asyncio.run(_photograph(plan)), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"The picture could not be written to {folder}: {error.strerror or error}."
        ) from None
    return file


async def _photograph(plan: SessionPlan) -> str:
    app = PlayApp(plan)
    # else the opponent has left the first state before its opinion of it is complete
    app.table.playback.playing = False
    async with app.run_test(size=SCREENSHOT_SIZE) as pilot:
        # no limit of time: loading a large model may take minutes, and a process that dies raises in `_complete`
        while not _complete(app.table.game):
            await pilot.pause(_LOOK_SECONDS)
        # "... is ready" would cover a corner of the picture
        app.clear_notifications()
        await pilot.pause(_LOOK_SECONDS)
        return app.export_screenshot(title=command("vlmagent", "play", plan.config.task))


def _complete(game: Game) -> bool:
    """Whether everything that a picture can show is known.

    Raises:
        VlmAgentError: it will never be.
    """
    # a process that died will not come back: nobody presses the key that starts it again
    problem = game.problem or (game.desk.words if game.desk.state == "dead" else "")
    if problem:
        raise VlmAgentError(problem)
    if game.you is None or game.desk.state == "loading":
        return False
    # there is nothing to wait for where nobody thinks, or where the opinion may not be seen
    return game.opponent is None or not game.shows_opinion or (game.opinion is not None and game.opinion.done)
