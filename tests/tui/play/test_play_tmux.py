"""The table in a real terminal, killed in the middle, and played to the end."""

import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.tui.play.made_play import SEED
from tests.tui.test_tmux import Terminal
from vlmagent.paths import Run
from vlmagent.runs import folders, status
from vlmagent.runs.daemon import daemon_info
from vlmagent.seeding import play_episode_seed
from vlmagent.tasks.registry import build_task

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        command = [sys.executable, "-m", "vlmagent", "play", *arguments, "--images", "half"]
        opened.append(Terminal(tmp_path / f"play{len(opened)}", 80, 24, command))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def actions(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute("SELECT action FROM transitions ORDER BY id")]


def screen_process(run: Run) -> psutil.Process:
    info = daemon_info(run)
    assert info is not None
    return psutil.Process(info.pid)


def test_killed_in_the_middle(play: Callable[..., Terminal]) -> None:
    table = play("points24", "--human", "--opponent", "expert", "--hints", "on", "--seed", str(SEED))
    table.wait(lambda text: "your turn" in text)
    table.wait(lambda text: "expert" in text and "action" in text)
    for count, key in enumerate(("1", "+", "("), start=1):
        table.keys(key)
        table.wait(lambda text, count=count: f"step {count} " in text)  # type: ignore[misc]
    (run,) = folders.all_runs()
    process = screen_process(run)
    children = process.children()
    assert len(children) == 1, "whoever thinks has a process of its own"
    os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs([process, *children], timeout=60)
    assert actions(run.database) == ["1", "+", "("]
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def test_played_to_the_end(play: Callable[..., Terminal]) -> None:
    state = build_task("numberline").make_env().reset(seed=play_episode_seed(SEED, 0))[1]
    way, key = ("+", "Right") if state["current"] < state["target"] else ("-", "Left")
    distance = abs(state["current"] - state["target"])
    table = play("numberline", "--human", "--seed", str(SEED))
    table.wait(lambda text: "your turn" in text and "Train one: `vlmagent train" in text)
    for count in range(1, distance + 1):
        table.keys(key)
        table.wait(lambda text, count=count: f"step {count} " in text)  # type: ignore[misc]
    table.wait(lambda text: "✓ success, return +1.00" in text and "you 1/1" in text)
    (run,) = folders.all_runs()
    table.keys("q")
    psutil.wait_procs([screen_process(run)], timeout=60)
    assert actions(run.database) == [way] * distance
    assert status.run_state(run) == "done"


def test_asked_to_terminate(play: Callable[..., Terminal]) -> None:
    table = play("blackjack", "--human", "--opponent", "expert", "--seed", str(SEED))
    table.wait(lambda text: "your turn" in text)
    table.keys("s")
    table.wait(lambda text: "success" in text)
    (run,) = folders.all_runs()
    process = screen_process(run)
    process.terminate()
    psutil.wait_procs([process], timeout=60)
    assert status.run_state(run) == "done"
