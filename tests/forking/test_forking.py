"""A forked program is a process of its own, in all that a program can ask about itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.forking import popen

pytestmark = [
    pytest.mark.usefixtures("forked_programs"),
    pytest.mark.skipif(sys.platform != "linux", reason="programs are forked on Linux alone"),
]
PROGRAM = [sys.executable, "-m", "tests.forking.program"]


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    options = {"cwd": popen.ROOT, "capture_output": True, "text": True, "timeout": 60, **options}
    return subprocess.run([*PROGRAM, *arguments], **options)


def about(*arguments: str, **options) -> dict:
    done = run(*arguments, "about", **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_what_it_was_asked_to_be(tmp_path: Path):
    environment = {**os.environ, "OWN": "ä", "PYTHONPATH": str(popen.ROOT)}
    before = os.umask(0o027)
    try:
        found = about(cwd=tmp_path, env=environment)
    finally:
        os.umask(before)
    assert found["parent"] == os.getpid()
    assert found["session"] == os.getsid(0)
    assert found["cwd"] == found["first path"] == str(tmp_path)
    assert found["arguments"][1:] == ["about"]
    assert Path(found["arguments"][0]).name == "program.py"
    assert found["environment"] == environment
    assert found["umask"] == 0o027
    assert found["interrupted by"]
    assert found["terminated by"]
    assert found["threads"] == 1
    assert found["sum"] == 4e6


def test_no_two_are_the_same():
    one, two = about(), about(start_new_session=True)
    assert one["pid"] != two["pid"]
    assert two["session"] == two["pid"]
    assert not set(one["drawn"]) & set(two["drawn"])
    assert one["torch"] != two["torch"]


@pytest.mark.usefixtures("real_programs")
def test_it_is_like_one_that_was_not_forked(forked_programs, monkeypatch: pytest.MonkeyPatch):
    real = about()
    monkeypatch.setattr("subprocess.Popen", popen.ForkedPopen)
    forked = about()
    # set by readline, in whichever process imports it; what it starts inherits them, as do the workers of pytest-xdist
    for size in ("COLUMNS", "LINES"):
        for one in (real, forked):
            one["environment"].pop(size, None)
    assert forked["environment"] == real["environment"]
    differing = {name for name in real if real[name] != forked[name]}
    # one file more: the socket to its helper
    assert differing == {"pid", "drawn", "torch", "files"}
    assert len(forked["files"]) == len(real["files"]) + 1


def test_streams():
    done = run("streams", input="here")
    assert (done.stdout, done.stderr) == ("ä here\n", "ö\n")
    latin = run("streams", input=b"here", env={**os.environ, "PYTHONIOENCODING": "latin-1"}, text=False)
    assert latin.stdout == "ä here\n".encode("latin-1")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["exit", "0"], 0, ""),
        (["exit", "7"], 7, ""),
        (["exit", "in words"], 1, "in words"),
        (["raise", "this"], 1, "ValueError: this"),
    ],
)
def test_its_end_is_that_of_an_interpreter(arguments, code, said):
    done = run(*arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stdout == ("left\n" if "exit" in arguments else "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals(number: int):
    with subprocess.Popen([*PROGRAM, "wait"], cwd=popen.ROOT, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline() == "waiting\n"
        seen = psutil.Process(process.pid)
        assert seen.cmdline()[:4] == [*PROGRAM, "wait"]
        assert seen.environ()["VLMAGENT_RUNS"] == os.environ["VLMAGENT_RUNS"]
        process.send_signal(number)
        assert process.wait(60) == -number


def test_a_passed_file_keeps_its_number():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = run("pass", str(theirs.fileno()), pass_fds=[theirs.fileno()])
        assert done.returncode == 0, done.stderr
        assert ours.recv(20) == b"through it"


def test_what_it_starts_is_its_own_child():
    found = about("start")
    assert found["session"] == found["pid"]
    assert found["parent"] != os.getpid()
    assert found["sum"] == 4e6
    assert run("start", "exit", "5").returncode == 5


def test_from_a_shell(fork_server):
    stub = (
        f"{sys.executable} -I -S {popen.ROOT}/tests/forking/client.py {fork_server[1]} tests.forking.program"
    )
    script = f"{stub} exit 3 || echo $?; echo here | OWN=2 {stub} streams; {stub} about; {stub} wait; exit $?"
    with subprocess.Popen(["bash", "-c", script], stdout=-1, text=True, cwd=popen.ROOT) as shell:
        said = [shell.stdout.readline() for _ in range(5)]
        assert said[:3] == ["left\n", "3\n", "ä here\n"]
        assert json.loads(said[3])["environment"]["PWD"] == str(popen.ROOT)
        assert said[4] == "waiting\n"
        (waiting,) = (one for one in psutil.Process(shell.pid).children())
        waiting.terminate()
        assert shell.wait(60) == 128 + signal.SIGTERM


def test_what_cannot_be_repeated_is_not_forked(monkeypatch: pytest.MonkeyPatch):
    """A variable that counts when Python starts, and another program."""
    dyed = {**os.environ, "PYTHONHASHSEED": "1"}
    server = (
        popen.ForkedPopen
    )  # where they end up is seen by the parent of the process: a forked one has a helper
    assert subprocess.Popen is server
    assert len(about()["files"]) == len(about(env=dyed)["files"]) + 1
    done = subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, text=True)
    assert done.stdout == "1\n"
