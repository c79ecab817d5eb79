"""Our own colours, dark and light; Textual's other themes are there too."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="vlmagent-dark",
    primary="#58a6ff",
    secondary="#8b9bb4",
    accent="#d2a8ff",
    success="#56d364",
    warning="#e3b341",
    error="#ff7b72",
    foreground="#d7dde5",
    background="#0d1117",
    surface="#12181f",
    panel="#1b232d",
    dark=True,
    variables={
        "footer-background": "#12181f",
        "block-cursor-background": "#264466",
        "block-cursor-foreground": "#ffffff",
    },
)
LIGHT = Theme(
    name="vlmagent-light",
    primary="#0a63c2",
    secondary="#5b6675",
    accent="#7a3fd0",
    success="#1a7f37",
    warning="#9a6700",
    error="#c9252d",
    foreground="#1f2328",
    background="#fcfcfa",
    surface="#f3f3f0",
    panel="#e7e7e2",
    dark=False,
    variables={
        "footer-background": "#f3f3f0",
        "block-cursor-background": "#bcd8f7",
        "block-cursor-foreground": "#0b1d30",
    },
)
THEMES = (DARK, LIGHT)
DEFAULT = DARK.name
