"""What a shell offers on tab, and the examples below every command's help."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from tests.tui.made_runs import make_run
from vlmagent import paths
from vlmagent.cli import completion
from vlmagent.cli.examples import EXAMPLES
from vlmagent.cli.main import app


def commands(group: Any, prefix: str = "") -> dict[str, Any]:
    """Every command that people see, by its full name."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= commands(command, f"{prefix}{name} ")
        elif not command.hidden:
            found[prefix + name] = command
    return found


COMMANDS = commands(typer.main.get_command(app))


def test_every_command_has_examples():
    assert set(EXAMPLES) == set(COMMANDS)
    for name, command in COMMANDS.items():
        assert command.epilog.startswith("Examples:\nvlmagent "), name


@pytest.mark.parametrize("example", [line for lines in EXAMPLES.values() for line in lines])
def test_examples_are_understood(example: str):
    program, *words = shlex.split(example)
    name = words.pop(0) if words[0] != "runs" else f"{words.pop(0)} {words.pop(0)}"
    assert program == "vlmagent"
    COMMANDS[name].make_context(name, words)  # raises on a word that the command does not know


def context(**params: Any) -> Any:
    return SimpleNamespace(params=params)


def test_what_is_offered():
    assert completion.tasks("n") == ["numberline"]
    assert "paper/numberline" in completion.recipes("paper/")
    assert "numberline-cnn" in completion.recipes("")
    assert completion.recipes("deepspeed") == completion.recipes("baselines") == []
    assert completion.config_keys("ppo.kl") == ["ppo.kl_coef="]
    assert "model.tiny.width=" in completion.config_keys("model.")
    assert {"expert", "random", "gpt4v"} <= set(completion.baselines(""))
    assert "figure7" in completion.artefacts("fig")


def test_runs_and_their_checkpoints():
    assert completion.runs("") == ["runs/latest"]
    assert completion.checkpoints(context(run=None), "") == ["latest", "start"]
    run = make_run(paths.runs_dir() / "first")
    (run.checkpoints / "step-64").mkdir(parents=True)
    (run.checkpoints / "step-128").mkdir()
    assert completion.runs("f") == ["first"]
    assert completion.checkpoints(context(run=["first"]), "s") == ["start", "step-128", "step-64"]


def test_whatever_goes_wrong_offers_nothing(monkeypatch: pytest.MonkeyPatch):
    def broken() -> list[str]:
        raise OSError("the disk is gone")

    monkeypatch.setattr("vlmagent.runs.folders.all_runs", broken)
    assert completion.runs("") == []


def test_the_shell_asks_and_torch_is_not_loaded():
    words = "vlmagent train --config paper/num"
    asked = {"_VLMAGENT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "3"}
    code = (
        "import sys\nfrom vlmagent.cli.main import app\n"
        "try:\n    app(prog_name='vlmagent')\nfinally:\n    assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["paper/numberline"], done.stderr
