"""What a command shows while it works, and how it is interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vlmagent.text import harmless, is_unicode

if TYPE_CHECKING:
    from rich.console import Console

BESIDE_TITLE, LEAST_TITLE = 42, 10
"""Cells that the spinner, a short bar, counts and the time left take."""


def progress_bars(console: Console) -> Any:
    """Bars with counts and time left on ``console``; they vanish when the work is done."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Title(TextColumn):
        """The description, cut: what it is about must not push the counts out of sight."""

        def render(self, task: Task) -> Text:
            text = Text(harmless(task.description), no_wrap=True)
            text.truncate(max(LEAST_TITLE, console.width - BESIDE_TITLE), overflow="ellipsis")
            return text

    return Progress(
        # a spinner of dots needs Braille characters
        SpinnerColumn("dots" if is_unicode(console.encoding) else "line"),
        Title(""),
        BarColumn(bar_width=10 if console.width < 100 else 30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


@contextmanager
def interruptible(console: Console) -> Iterator[threading.Event]:
    """The first ctrl-c asks to stop after the step under way, the second one stops at once."""
    asked = threading.Event()

    def interrupt(*_: object) -> None:
        if asked.is_set():  # the step under way may wait for an API, and the reader no longer wants to
            raise KeyboardInterrupt
        asked.set()
        console.print("Stopping after this step; ctrl-c again stops at once.", highlight=False)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield asked
        return
    # put back below: after the block ctrl-c does what it did before
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
