"""What people and programs get to see, and the command as typed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.cli.doctor.made import NOTE, OK, PROBLEM, finding
from vlmagent.cli import main
from vlmagent.cli.doctor import checks, view
from vlmagent.cli.doctor.findings import Check, Diagnosis, Finding, examine

pytestmark = pytest.mark.usefixtures("forked_programs")


def shown(diagnosis: Diagnosis, width: int = 80, encoding: str = "utf-8", terminal: bool = True) -> str:
    with tempfile.TemporaryFile("w+", encoding=encoding, newline="") as file:
        console = Console(
            file=file, width=width, force_terminal=terminal, color_system=None, legacy_windows=False
        )
        view.show(diagnosis, console)
        file.seek(0)
        return file.read()


MIXED = Diagnosis(
    (
        Finding("Machine", "GPU", OK, "a fine one with a name that goes on and on"),
        Finding("Places", "Runs folder", PROBLEM, "/naïve/[red]\x1b[2Jway is read-only.", "one way\nanother", True),
        Finding("Places", "Cache folder", NOTE, "little space"),
    )
)  # fmt: skip


def test_lines_under_headings_with_words_and_signs():
    assert [line.rstrip() for line in shown(MIXED).splitlines()] == [
        "Machine",
        "  ✓ ok      GPU: a fine one with a name that goes on and on",
        "Places",
        "  ✗ problem Runs folder: /naïve/[red]·[2Jway is read-only.",
        "            → one way",
        "            → another",
        "  • note    Cache folder: little space",
        "",
        "The built-in model cannot be trained here until this is mended: Runs folder. 1",
        "problem, 1 note.",
    ]


def test_narrow_terminals_break_lines_and_lose_nothing():
    text = shown(MIXED, width=40)
    assert max(len(line) for line in text.splitlines()) <= 40
    assert "that goes on and on" in " ".join(text.split())


def test_ascii_output():
    text = shown(MIXED, encoding="ascii")
    assert text.isascii()
    assert "  problem   Runs folder: /na?ve/" in text
    assert "-> one way" in text


def test_a_line_for_each_finding_where_nobody_looks():
    lines = shown(MIXED, width=20, terminal=False).splitlines()
    assert lines[3] == "  ✗ problem  Runs folder: /naïve/[red]·[2Jway is read-only. → one way → another"


def stand_in(monkeypatch, *findings: Finding) -> None:
    monkeypatch.setattr(checks, "CHECKS", [Check("A", "all", lambda: findings)])


def test_the_document_for_programs(monkeypatch):
    stand_in(monkeypatch, *MIXED.findings)
    result = CliRunner().invoke(main.app, ["doctor", "--json"])
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert list(document) == ["version", "ready", "problems", "notes", "findings"]
    assert (document["ready"], document["problems"], document["notes"]) == (False, 1, 1)
    assert document["findings"][0] == {
        "area": "Machine",
        "name": "GPU",
        "state": "ok",
        "text": "a fine one with a name that goes on and on",
        "remedy": "",
        "essential": False,
    }


def test_the_exit_code_says_whether_training_works(monkeypatch):
    stand_in(monkeypatch, finding(PROBLEM, remedy="mend it"))
    result = CliRunner().invoke(main.app, ["doctor"])
    assert result.exit_code == 0
    assert (
        "The built-in model can be trained here: vlmagent train numberline. 1 problem, 0 notes."
        in result.stdout
    )
    stand_in(monkeypatch, finding(PROBLEM, essential=True))
    assert CliRunner().invoke(main.app, ["doctor"]).exit_code == 1


def test_a_module_that_cannot_be_imported_costs_a_line(monkeypatch):
    real = importlib.import_module

    def without(name, *more):
        if name == "vlmagent.cli.doctor.household":
            raise ModuleNotFoundError("No module named 'gymnasium'")
        return real(name, *more)

    monkeypatch.setattr(importlib, "import_module", without)
    alfworld = [check for check in checks.CHECKS if check.area == "ALFWorld"]
    assert "No module named 'gymnasium'" in examine(alfworld).findings[0].text


def test_the_command_itself(tmp_path):
    """As typed: nothing stubbed, torch loaded beside it, nothing left behind."""
    command = [sys.executable, "-m", "vlmagent", "doctor", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    document = json.loads(result.stdout)
    assert document["ready"]
    areas = list(dict.fromkeys(finding["area"] for finding in document["findings"]))
    wanted = "Program, Extras, Machine, Places, Training, Terminal, ALFWorld, API keys, Runs"
    assert areas == wanted.split(", ")
    assert list(tmp_path.iterdir()) == []
