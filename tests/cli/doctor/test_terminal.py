"""What the terminal can draw, as far as it tells."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from tests.cli.doctor.made import NOTE, OK, only
from vlmagent.cli.doctor import installed, terminal


@pytest.fixture
def fake_terminal(monkeypatch):
    """Standard output seems to be a terminal of 100 x 30 that knows UTF-8."""
    real = sys.__stdout__
    assert real is not None
    fake = SimpleNamespace(
        isatty=lambda: True, fileno=lambda: 1, encoding="utf-8", write=real.write, flush=real.flush
    )
    monkeypatch.setattr(sys, "__stdout__", fake)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((100, 30)))
    for name in ("TMUX", "STY", "SSH_CONNECTION", "SSH_TTY", "NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return fake


def test_not_a_terminal_is_unknown(monkeypatch):
    monkeypatch.setattr(sys, "__stdout__", SimpleNamespace(isatty=lambda: False, encoding="utf-8"))
    found = list(terminal.check_terminal())
    assert [one.name for one in found] == ["Output", "Characters"]
    assert "not known" in found[0].text
    assert list(terminal.check_pictures()) == []
    monkeypatch.setattr(sys, "__stdout__", None)
    assert only(terminal.check_terminal(), "Characters").state is NOTE


def test_what_a_terminal_tells(monkeypatch, fake_terminal):
    monkeypatch.setenv("TMUX", "/tmp/x,1,0")
    monkeypatch.setenv("SSH_TTY", "/dev/pts/0")
    monkeypatch.setenv("COLORTERM", "truecolor")
    found = [(one.state, one.name, one.text) for one in terminal.check_terminal()]
    assert found == [
        (OK, "Output", "a terminal (xterm-256color, inside tmux, over SSH)"),
        (OK, "Size", "100 x 30"),
        (OK, "Colours", "16 million"),
        (OK, "Characters", "Unicode (utf-8)"),
    ]


def test_a_poor_terminal(monkeypatch, fake_terminal):
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((40, 12)))
    fake_terminal.encoding = "ascii"
    found = list(terminal.check_terminal())
    assert only(found, "Size").remedy == "Make it 80 x 24 or larger to see all of the dashboard."
    assert only(found, "Characters").text.startswith("ascii: ")
    assert only(found, "Colours").text == "256 colours, so pictures are coarse"
    monkeypatch.setenv("TERM", "nobody-knows-this")
    assert only(terminal.check_terminal(), "Colours").text.startswith("16 colours")
    monkeypatch.setenv("NO_COLOR", "1")
    assert only(terminal.check_terminal(), "Colours").remedy == "unset NO_COLOR"
    monkeypatch.setenv("TERM", "dumb")
    assert "TERM=dumb" in only(terminal.check_terminal(), "Colours").text
    assert only(terminal.check_pictures(), "Pictures").state is NOTE


@pytest.mark.parametrize(
    ("auto", "notice", "text"),
    [
        ("kitty", "", "kitty's graphics for stills, half cells for what moves"),
        ("sixel", "", "sixel graphics for stills, half cells for what moves"),
        ("half", "", "half cells, two pixels each: the terminal has no graphics"),
        ("half", "Drawn so, not sixel: it could not be asked.", "half cells, two pixels each: it could not be asked."),
    ],
)  # fmt: skip
def test_pictures_are_what_the_dashboard_says(monkeypatch, fake_terminal, auto, notice, text):
    from vlmagent.tui.widgets import picture

    said = {"auto": picture.Graphics(auto), "sixel": picture.Graphics("half", notice)}
    monkeypatch.setattr(picture, "prepare_graphics", said.__getitem__)
    monkeypatch.setattr(terminal, "find_spec", lambda name: object())
    assert only(terminal.check_pictures(), "Pictures").text == text


def test_pictures_without_the_extra(monkeypatch, fake_terminal):
    from vlmagent.tui.widgets import picture

    monkeypatch.setattr(picture, "prepare_graphics", lambda mode: picture.Graphics("half"))
    monkeypatch.setattr(terminal, "find_spec", lambda name: None)
    found = only(terminal.check_pictures(), "Pictures")
    assert (found.state, found.remedy) == (NOTE, installed.install_command("graphics"))
