"""Processes that are watched: they end together, are told to stop, and the one that failed is named."""

import json
import os
import sqlite3
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import SMALL
from vlmagent.config import Config
from vlmagent.errors import RunFailedError
from vlmagent.paths import Run
from vlmagent.runs import folders, supervisor
from vlmagent.runs.supervisor import supervise

RANK = """
import json, os, signal, sys, time
from pathlib import Path
run, script = Path(sys.argv[1]), json.loads(sys.argv[2])
rank = os.environ["RANK"]
folder = run / "ranks"
print("process", rank, "of", os.environ["WORLD_SIZE"], file=(folder / f"rank-{rank}.txt").open("a"))
what = script.get(rank, script.get("other"))
if what == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "wait":
    while not (folder / "stop").exists():
        time.sleep(0.05)
if what == "hang":
    time.sleep(600)
if isinstance(what, dict):
    (folder / f"rank-{rank}.json").write_text(json.dumps(what))
    sys.exit(1)
sys.exit(3 if what == "exit" else 0)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run of three processes that do what a script says."""
    config = Config.model_validate({**SMALL, **_three()})
    folder = folders.create_run(config, tmp_path / "run")
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.5)

    def begin(stop: threading.Event | None = None, **script) -> None:
        command = [sys.executable, "-c", RANK, str(folder), json.dumps(script)]
        monkeypatch.setattr(supervisor, "rank_command", lambda _run: command)
        supervise(folder, config, stop or threading.Event())

    begin.folder = folder  # type: ignore[attr-defined]
    return begin


def _three() -> dict:
    return {
        "distributed": {"processes": 3},
        "rollout": {**SMALL["rollout"], "num_envs": 3},
        "ppo": {**SMALL["ppo"], "env_steps": 90, "steps_per_update": 30, "minibatch_size": 15},
    }


def outcome(folder: Run) -> tuple[str, str]:
    connection = sqlite3.connect(folder.database)
    try:
        return connection.execute("SELECT status, error FROM run").fetchone()
    finally:
        connection.close()


def test_all_end_well(run):
    run()
    logs = [(run.folder.ranks / f"rank-{rank}.txt").read_text() for rank in range(3)]
    assert logs == [f"process {rank} of 3\n" for rank in range(3)]
    assert not run.folder.database.exists()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"1": "kill", "other": "hang"}, "Process 1 of 3 was killed by signal 9 (SIGKILL)."),
        ({"2": "exit", "other": "hang"}, "Process 2 of 3 ended with code 3."),
        (
            {
                "0": {"ended": "lost", "error": "", "at": 1},
                "1": "kill",
                "2": {"ended": "lost", "error": "", "at": 1},
            },
            "Process 1 of 3 was killed by signal 9 (SIGKILL).",
        ),
        (
            {
                "0": {"ended": "lost", "error": "x", "at": 1},
                "2": {"ended": "failed", "error": "It broke.", "at": 2},
            },
            "Process 2 of 3 failed: It broke.",
        ),
    ],
)
def test_the_one_that_began_it_is_named(run, script: dict, said: str):
    """Nobody is left behind, and the log that is named holds what that process wrote."""
    started = time.monotonic()
    with pytest.raises(RunFailedError) as caught:
        run(**script)
    assert time.monotonic() - started < 60
    rank = said.split()[1]
    assert str(caught.value).startswith(said)
    assert str(run.folder.resolve().ranks / f"rank-{rank}.txt") in str(caught.value)
    assert f"process {rank} of 3" in str(caught.value)
    status, error = outcome(run.folder)
    assert status == "failed"
    assert error == str(caught.value)


def test_a_sentence_of_ours_is_not_quoted_again(run):
    """The log holds nothing else of it."""
    with pytest.raises(RunFailedError) as caught:
        run(**{"1": {"ended": "failed", "error": "process 1 of 3", "at": 1}})
    log = run.folder.resolve().ranks / "rank-1.txt"
    assert str(caught.value) == f"Process 1 of 3 failed: process 1 of 3 Its log: {log}"


def test_a_stop_request_reaches_them(run):
    stop = threading.Event()
    stop.set()
    run(stop, other="wait")
    assert (run.folder.ranks / "stop").exists()
    run()  # started again: not at once told to stop
    assert not (run.folder.ranks / "stop").exists()


def test_each_gets_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    config = Config.model_validate({**SMALL, **_three()})
    assert supervisor._environment(config)["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in supervisor._environment(config)


LAUNCHER = """
import json, sys
from pathlib import Path
folder, words, code = Path(sys.argv[1]) / "ranks", json.loads(sys.argv[2]), int(sys.argv[3])
for rank, ended in words.items():
    (folder / f"rank-{rank}.txt").write_text(f"log of {rank}")
    if ended:
        (folder / f"rank-{rank}.json").write_text(json.dumps({"ended": ended, "error": "It broke.", "at": 1}))
sys.exit(code)
"""


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run whose processes a launcher starts elsewhere; this one only leaves what they would leave."""
    (tmp_path / "hosts").write_text("node1 slots=2\nnode2 slots=1\n")
    changes = _three()
    changes["distributed"] = {"processes": 3, "hostfile": str(tmp_path / "hosts")}
    config = Config.model_validate({**SMALL, **changes})
    folder = folders.create_run(config, tmp_path / "run")

    def begin(words: dict, code: int) -> None:
        command = [sys.executable, "-c", LAUNCHER, str(folder), json.dumps(words), str(code)]
        monkeypatch.setattr(supervisor, "launcher_command", lambda _run, _hostfile: command)
        supervise(folder, config, threading.Event())

    return begin


def test_a_launcher_whose_processes_all_end_well(launched):
    launched({"0": "done", "1": "done", "2": "done"}, 0)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ({}, 1, "DeepSpeed's launcher ended before any process began."),
        ({"0": "lost", "1": "", "2": "lost"}, 0, "Process 1 of 3 ended without a word."),
        ({"0": "lost", "1": "lost", "2": "failed"}, 1, "Process 2 of 3 failed: It broke."),
    ],
)
def test_a_launcher_hides_nothing(launched, words: dict, code: int, said: str):
    """It may end with 0 although a process was killed; what the processes left tells."""
    with pytest.raises(RunFailedError) as caught:
        launched(words, code)
    assert str(caught.value).startswith(said)


def test_the_launcher_gets_the_hostfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "free_port", lambda: 4242)
    hosts = tmp_path / "hosts"
    hosts.write_text("node1 slots=2\nnode2 slots=1\n")
    assert supervisor.launcher_command(Run(tmp_path / "run"), hosts)[1:] == [
        *("-m", "deepspeed.launcher.runner", "--hostfile", str(hosts)),
        *("--master_port", "4242", "--no_local_rank", "--module", "vlmagent", "_rank", str(tmp_path / "run")),
    ]
    hosts.write_text("localhost slots=3\n")
    assert "--no_ssh_check" in supervisor.launcher_command(Run(tmp_path / "run"), hosts)
