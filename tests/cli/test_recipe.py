"""What a run would fail at only once it is there is said before it is made: exit code 2, one sentence, no folder."""

from __future__ import annotations

import sys

import pytest

from tests.tasks.rgba import NAME, SENTENCE, install
from vlmagent import paths
from vlmagent.cli.main import main


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and standard error of the program with these arguments."""
    monkeypatch.setattr(sys, "argv", ["vlmagent", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().err


@pytest.fixture
def opaque(monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed task whose environment draws RGBA."""
    install(monkeypatch)
    return NAME


@pytest.mark.parametrize(
    "words",
    [
        ("train",),
        ("train", "--detach"),
        ("train", "--agent", "cnn"),
        ("train", "--plan"),
        ("train", "--plan", "--config", "paper/numberline", "--set", f"task={NAME}"),
        ("sft",),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_an_environment_that_draws_rgba_is_refused_before_there_is_a_run(
    opaque: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
):
    named = () if any(opaque in word for word in words) else (opaque,)
    code, text = said(monkeypatch, capsys, *words, *named)
    assert (code, text) == (2, f"Error: {SENTENCE}\n")
    assert not paths.runs_dir().exists()


def test_our_own_environments_are_not_started_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """ALFWorld's takes seconds; the run itself looks at it before anything long begins."""
    monkeypatch.setattr("vlmagent.training.preflight.check_environment", None)
    monkeypatch.setattr(sys, "argv", ["vlmagent", "train", "numberline", "--plan"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("the built-in model tiny (llava) on numberline")
