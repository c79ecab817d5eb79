"""Environments and the built-in model are tried as a training tries them, and each failure is its own sentence."""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from types import SimpleNamespace

import pytest

from tests.cli.doctor.made import NOTE, OK, PROBLEM
from tests.tasks.rgba import install
from vlmagent.cli.doctor import installed, machine, training, trial
from vlmagent.tasks import registry
from vlmagent.training import preflight


def test_our_environments_are_reset_and_stepped():
    (found,) = training.check_environments()
    assert (found.state, found.essential) == (OK, False)
    assert found.text.startswith("numberline, ezpoints, points24, blackjack: ")


def test_a_broken_environment_of_ours_stands_in_the_way_where_the_built_in_model_needs_it(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(preflight, "picture_problem", lambda _image: "grey (8 x 8).")
    found = list(training.check_environments())
    assert [one.state for one in found] == [PROBLEM] * 4
    assert [one.essential for one in found] == [True, False, False, False]
    assert found[0].text == "The picture of 'numberline' cannot be used: it is grey (8 x 8)."


def test_tasks_of_other_packages_are_tried_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "entry_points", lambda group: [])
    (found,) = training.check_other_tasks()
    assert (found.state, found.text) == (OK, "none installed")
    absent = metadata.EntryPoint("absent", "no_such_module_at_all:Task", registry.GROUP)
    install(monkeypatch, absent)
    broken, wrong = training.check_other_tasks()
    assert (broken.state, wrong.state, wrong.essential) == (PROBLEM, PROBLEM, False)
    assert "The task 'absent' could not be imported" in broken.text
    assert "it is RGBA (60 x 60 x 4)" in wrong.text


def test_the_built_in_model_is_tried_in_a_process_of_its_own(capsys: pytest.CaptureFixture[str]):
    trial.main()
    told = json.loads(capsys.readouterr().out)
    assert told["problem"] is None
    assert told["bytes"] > 10**6
    assert told["seconds"] > 0


@pytest.mark.parametrize(
    ("told", "state", "text"),
    [
        ({"problem": None, "bytes": 2_500_000, "seconds": 0.84}, OK, "(2.5 MB) and read back: 0.8 s"),
        ({"problem": "This model could be trained, but not saved: why"}, PROBLEM, "but not saved: why"),
        (machine.TorchError("ImportError: libfoo"), PROBLEM, "It cannot be built: ImportError: libfoo"),
        (subprocess.TimeoutExpired("x", 80), NOTE, "Not known: it took over"),
    ],
)
def test_how_that_went(monkeypatch: pytest.MonkeyPatch, told: object, state: object, text: str):
    def ask(module: str) -> object:
        assert module == "vlmagent.cli.doctor.trial"
        if isinstance(told, Exception):
            raise told
        return told

    monkeypatch.setattr(machine, "ask", ask)
    (found,) = training.check_model()
    assert found.state is state
    assert text in found.text
    assert found.essential == (state is PROBLEM)


def test_without_torch_another_line_says_it(monkeypatch: pytest.MonkeyPatch):
    failed = SimpleNamespace(returncode=1, stderr="ModuleNotFoundError: No module named 'torch'", stdout="")
    monkeypatch.setattr(machine.subprocess, "run", lambda *_args, **_options: failed)
    monkeypatch.setattr(installed, "is_absent", lambda name: name == "torch")
    (found,) = training.check_model()
    assert (found.state, found.text) == (NOTE, "Not known without torch.")
