"""Checks of the terminal: what the dashboard and the progress display can draw in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec

from vlmagent.cli.doctor import installed
from vlmagent.cli.doctor.findings import Finding, State
from vlmagent.text import is_unicode

AREA = "Terminal"
COLUMNS, ROWS = 80, 24
"""What the screens are made for; in less they show less."""
_PROTOCOLS = {
    "kitty": "kitty's graphics for stills, half cells for what moves",
    "sixel": "sixel graphics for stills, half cells for what moves",
    "half": "half cells, two pixels each",
}
_found = partial(Finding, AREA)


def check_terminal() -> Iterator[Finding]:
    """Size, colours, characters; unknown where the output goes elsewhere."""
    # `__stdout__`, the real one: what is asked here is the terminal, not where text goes at the moment
    if sys.__stdout__ is None or not sys.__stdout__.isatty():
        text = "Standard output is not a terminal: its size, colours and pictures are not known."
        yield _found("Output", State.NOTE, text)
        yield _characters(getattr(sys.__stdout__, "encoding", None) or "")
        return
    name = os.environ.get("TERM") or "no $TERM"
    around = _around(os.environ)
    yield _found("Output", State.OK, f"a terminal ({', '.join([name, *around])})")
    yield _size()
    yield _colours(name)
    yield _characters(sys.__stdout__.encoding)


def _around(environment: Mapping[str, str]) -> list[str]:
    """What stands between the program and the real terminal."""
    known = {
        "inside tmux": ("TMUX",),
        "inside screen": ("STY",),
        "over SSH": ("SSH_CONNECTION", "SSH_TTY"),
    }
    return [what for what, names in known.items() if any(environment.get(name) for name in names)]


def _size() -> Finding:
    assert sys.__stdout__ is not None
    columns, rows = os.get_terminal_size(sys.__stdout__.fileno())
    text = f"{columns} x {rows}"
    if columns >= COLUMNS and rows >= ROWS:
        return _found("Size", State.OK, text)
    todo = f"Make it {COLUMNS} x {ROWS} or larger to see all of the dashboard."
    return _found("Size", State.NOTE, text, todo)


def _colours(name: str) -> Finding:
    from rich.console import Console

    if name == "dumb":
        text = "none: with TERM=dumb the dashboard cannot be drawn."
        return _found("Colours", State.NOTE, text, "export TERM=xterm-256color")
    if os.environ.get("NO_COLOR"):
        return _found("Colours", State.NOTE, "none, as NO_COLOR asks", "unset NO_COLOR")
    # Rich works it out from TERM and COLORTERM, as it will when the dashboard draws
    system = Console(file=sys.__stdout__).color_system
    if system == "truecolor":
        return _found("Colours", State.OK, "16 million")
    count = {"256": "256", "standard": "16"}.get(system or "", "no")
    text = f"{count} colours, so pictures are coarse"
    return _found("Colours", State.NOTE, text, "If the terminal has more: export COLORTERM=truecolor")


def _characters(encoding: str) -> Finding:
    if is_unicode(encoding):
        return _found("Characters", State.OK, f"Unicode ({encoding})")
    text = f"{encoding or 'an unknown encoding'}: lines and blocks are drawn with ASCII, or not at all"
    return _found("Characters", State.NOTE, text, "export LANG=C.UTF-8 PYTHONIOENCODING=utf-8")


def check_pictures() -> Iterator[Finding]:
    """How the dashboard would draw pictures here: decided by the dashboard itself."""
    if sys.__stdout__ is None or not sys.__stdout__.isatty():
        return
    from vlmagent.tui.widgets.picture import prepare_graphics

    if os.environ.get("TERM") == "dumb":  # it would print the questions
        yield _found("Pictures", State.NOTE, "Not asked: a terminal with TERM=dumb cannot answer.")
        return
    mode = prepare_graphics("auto").mode
    if mode != "half":
        yield _found("Pictures", State.OK, _PROTOCOLS[mode])
    elif find_spec("textual_image") is None:
        text = f"{_PROTOCOLS[mode]}; whether the terminal has graphics is not known"
        yield _found("Pictures", State.NOTE, text, installed.install_command("graphics"))
    else:
        why = prepare_graphics("sixel").notice.partition(": ")[2]  # "auto" does not say why
        yield _found("Pictures", State.OK, f"{_PROTOCOLS[mode]}: {why or 'the terminal has no graphics'}")
