"""No character and no closed pipe ends a command, whatever the encoding; JSON stays JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlmagent.config import Config
from vlmagent.paths import Run
from vlmagent.runs import folders
from vlmagent.store.writer import StoreWriter
from vlmagent.text import encodable, plain_characters

pytestmark = pytest.mark.usefixtures("forked_programs")

ENCODINGS = ("latin-1", "ascii", "cp1252", "utf-8")
NAME = "lauf-Ω-ж-€-😀"


@pytest.fixture
def run() -> Run:
    """A failed run whose folder and error few encodings can write."""
    config = Config.model_validate({"task": "numberline"})
    made = folders.create_run(config, folders.paths.runs_dir() / NAME)
    with StoreWriter(made.database) as writer:
        writer.start_run(made.name, "numberline", "modèle-€", config.model_dump_json(), 0)
        writer.event("error", "fünf – Ω – 😀")
        writer.set_status("failed", "fünf – Ω – 😀")
    made.log.write_text("Ω …\n", encoding="utf-8")
    return made


def vlmagent(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "vlmagent", *arguments]
    # wide: a temporary folder's path may be longer than a line
    variables = {"COLUMNS": "300", **variables}
    return subprocess.run(command, capture_output=True, timeout=120, env={**os.environ, **variables})


COMMANDS = {
    "eval": ("eval", "numberline", "--baseline", "expert", "--episodes", "2"),
    "eval --markdown": ("eval", "numberline", "--baseline", "expert", "--episodes", "2", "--markdown"),
    "list": ("runs", "list"),
    "show": ("runs", "show", NAME),
    "logs": ("runs", "logs", NAME),
    "help": ("eval", "--help"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_encoding_can_show_everything(run: Run, encoding: str, name: str):
    found = vlmagent(*COMMANDS[name], PYTHONIOENCODING=encoding)
    assert found.returncode == 0, found.stderr
    assert b"Traceback" not in found.stderr
    text = found.stdout.decode(
        "utf-8" if encoding == "ascii" else encoding
    )  # click takes ASCII for a mistake
    if name == "eval":
        numbers = "34.2–100.0" if encoding in ("cp1252", "utf-8") else "34.2-100.0"
        assert numbers in text
        assert "RL with CoT (published)" in text
    if name in ("list", "show"):
        assert "failed" in text
        assert "lauf-" in text


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_errors_and_json_too(run: Run, encoding: str):
    wrong = vlmagent("runs", "show", "Ω😀", PYTHONIOENCODING=encoding)
    assert wrong.returncode == 2
    assert b"There is no run" in wrong.stderr
    assert b"Traceback" not in wrong.stderr
    listed = vlmagent("runs", "list", "--json", PYTHONIOENCODING=encoding)
    assert json.loads(listed.stdout.decode(encoding))[0]["path"] == str(run)


def test_a_locale_without_any_characters(run: Run):
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    found = vlmagent("runs", "show", str(run), **plain)
    assert found.returncode == 0, found.stderr
    assert b"failed" in found.stdout


@pytest.mark.parametrize("name", ["eval", "list", "show"])
def test_a_closed_standard_output(run: Run, name: str):
    command = f'"{sys.executable}" -m vlmagent {" ".join(COMMANDS[name])} >&-'
    found = subprocess.run(command, shell=True, stderr=subprocess.PIPE, timeout=120)
    assert found.returncode == 0, found.stderr
    assert b"Traceback" not in found.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    "arguments", [("runs", "list"), ("runs", "list", "--json"), ("--help",), COMMANDS["eval"]]
)
def test_a_standard_output_that_takes_nothing(run: Run, arguments: tuple[str, ...]):
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "vlmagent", *arguments]
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=120)
    assert found.returncode == 1
    assert b"Error: standard output could not be written: No space left on device." in found.stderr
    assert b"Traceback" not in found.stderr


def test_a_reader_who_has_gone(run: Run):
    process = subprocess.Popen(
        [sys.executable, "-m", "vlmagent", "runs", "list", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) == 1
    assert b"Traceback" not in said


def test_stand_ins():
    assert plain_characters("1.0–2.0 … λ ±3 →x Ω") == "1.0-2.0 . lambda +/-3 >x ?"
    assert encodable("é–€", "latin-1") == "é-?"
    assert encodable("é–€", "cp1252") == "é–€"
    assert encodable("é–€", None) == "é–€"
