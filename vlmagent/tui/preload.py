"""Keeps Python's garbage collector from holding up frames.

A full pass walks through every object there is; for the modules, styles and widgets of this program that takes
longer than a frame may. Nearly all of them stay until the end, so they are taken out of the passes once.
"""

from __future__ import annotations

import gc
import threading

AFTER_SECONDS = 2.0
"""After the start, when the first screen has been drawn."""


def spare_what_stays() -> threading.Thread:
    """Load the screens that were not opened yet, then let the collector forget all there is; returns at once."""
    # a daemon: the program may end in the middle of an import
    thread = threading.Thread(target=_load_and_freeze, name="collector", daemon=True)
    thread.start()
    return thread


def _load_and_freeze() -> None:
    # what is imported later would be walked through by every pass, so these come first
    from vlmagent.tui.screens import compare, episodes, help, replay, train  # noqa: F401

    # what is garbage at this moment is kept for good: little, once, and cheaper than a pass before
    gc.freeze()
