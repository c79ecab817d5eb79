"""How checks are run: side by side, and whatever happens to one, it becomes a line."""

from __future__ import annotations

import threading
import time

import pytest

from tests.cli.doctor.made import NOTE, OK, PROBLEM, finding
from vlmagent.cli.doctor import checks, machine
from vlmagent.cli.doctor.findings import Check, Diagnosis, examine


def test_findings_come_in_the_order_of_their_checks():
    def slow():
        time.sleep(0.05)
        yield finding(name="first")

    found = examine([Check("A", "slow", slow), Check("A", "fast", lambda: [finding(name="second")])])
    assert [one.name for one in found.findings] == ["first", "second"]
    assert found.ready


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3), ImportError("no module")])
def test_a_check_that_raises_becomes_a_line_and_the_others_go_on(error):
    def look():
        yield finding(name="lost with it")
        raise error

    found = examine([Check("A", "broken", look), Check("A", "x", lambda: [finding()])])
    broken, other = found.findings
    assert (broken.name, broken.state, other.state) == ("broken", PROBLEM, OK)
    assert f"{type(error).__name__}: {error}" in broken.text
    assert broken.remedy
    assert found.ready  # it says nothing about training


def test_a_check_that_hangs_is_left_behind():
    never = threading.Event()
    hangs = Check("A", "disk", lambda: never.wait() and [], essential=True, limit=0.05)
    found = examine([hangs])
    never.set()
    assert found.findings[0].text == "There was no answer within 0.05 s."
    assert not found.ready


def test_only_essential_problems_stand_in_the_way():
    optional = Diagnosis((finding(PROBLEM), finding(NOTE, essential=True)))
    assert optional.ready
    assert (optional.count(PROBLEM), optional.count(NOTE), optional.count(OK)) == (1, 1, 0)
    assert not Diagnosis((finding(PROBLEM, essential=True),)).ready


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: f"{check.area}: {check.name}")
def test_every_check_finds_something_here(check, monkeypatch):
    monkeypatch.setattr(machine, "ask_torch", lambda: machine.TorchView("2.13.0", None, None, ()))
    monkeypatch.setattr(machine, "ask_driver", lambda: None)
    monkeypatch.setattr(machine, "ask", lambda _module: {"problem": None, "bytes": 10**6, "seconds": 0.5})
    found = list(check.look())
    assert found or check.name == "Pictures"  # nothing to say where there is no terminal
    for one in found:
        assert one.area == check.area
        assert one.text
        assert one.remedy or one.state is not PROBLEM
