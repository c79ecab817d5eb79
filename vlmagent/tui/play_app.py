"""``vlmagent play``: the dashboard's application with nothing but the table in it.

Deliberately knows nothing of how the table works.
"""

from __future__ import annotations

import asyncio
import signal

from vlmagent.play.plan import Plan
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.run import need_terminal
from vlmagent.tui.screens.play import PlayScreen
from vlmagent.tui.widgets.picture import prepare_graphics


class PlayApp(VlmAgentApp):
    """Opens the table and ends when it is left.

    Args:
        plan: what is played.
        images: how pictures are drawn, one of ``IMAGE_MODES``.
        notice: a sentence to show at the beginning.
    """

    def __init__(self, plan: Plan, images: str = "half", *, notice: str = "") -> None:
        super().__init__(None, images, notice=notice)
        self._plan = plan

    def open_first(self) -> None:
        """The table instead of the list of runs; asked to terminate, the log is completed first."""
        self.push_screen(PlayScreen(self._plan), lambda _: self.exit())
        if not self.is_headless:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit)


def run_play(plan: Plan, images: str = "auto") -> None:
    """Play until the person leaves.

    Raises:
        UsageError: there is no terminal, or ``images`` is not valid.
    """
    graphics = prepare_graphics(images)
    need_terminal("Playing", "`vlmagent eval` lets a checkpoint or the expert play, and logs the episodes.")
    PlayApp(plan, graphics.mode, notice=graphics.notice).run()
