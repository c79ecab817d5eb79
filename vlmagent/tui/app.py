"""The dashboard's application: opens the first screen, knows the themes and the commands every screen has.

Deliberately knows neither SQL nor training; never imports torch.
"""

from __future__ import annotations

from pathlib import Path

from textual.app import App

from vlmagent.errors import unknown_choice

IMAGE_MODES = ("auto", "kitty", "sixel", "half", "off")


class VlmAgentApp(App[None]):
    """The workbench beside a run.

    Args:
        run: the folder of the run to open at once; None begins with the list of runs.
        images: how pictures are drawn, one of ``IMAGE_MODES``.
    """

    TITLE = "vlmagent"

    def __init__(self, run: Path | None = None, images: str = "auto") -> None:
        if images not in IMAGE_MODES:
            raise unknown_choice("way to draw pictures", images, IMAGE_MODES)
        super().__init__()
        self.run_folder = run
        self.images = images
