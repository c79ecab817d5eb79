"""How the state of a run looks: a sign and a colour of the theme.

Deliberately knows no widget.
"""

from __future__ import annotations

from textual.content import Content

LIVE = ("starting", "running")
_LOOKS = {
    "starting": ("◐", "success"),
    "running": ("●", "success"),
    "done": ("✓", "primary"),
    "stopped": ("■", "warning"),
    "failed": ("✗", "error"),
    "lost": ("◌", "error"),
    "damaged": ("!", "error"),
}


def state_sign(state: str) -> str:
    """The one character that stands for a state; a question mark for one that is not known."""
    return _LOOKS.get(state, ("?", ""))[0]


def state_colour(state: str) -> str:
    """The name of a theme colour, without the ``$``."""
    return _LOOKS.get(state, ("?", "foreground"))[1]


def state_content(state: str) -> Content:
    """Sign and word, coloured."""
    return Content.styled(f"{state_sign(state)} {state}", f"${state_colour(state)}")
