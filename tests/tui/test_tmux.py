"""The dashboard in a real terminal beside a real training run."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import SMALL
from vlmagent.config import Config
from vlmagent.paths import Run
from vlmagent.runs import folders, launch, status

pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
    pytest.mark.usefixtures("forked_programs"),
]
SECONDS = 90.0


class Terminal:
    """One tmux session of its own server."""

    def __init__(self, socket: Path, columns: int, rows: int, command: list[str]) -> None:
        self._base = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        for size_of_another in ("COLUMNS", "LINES"):  # a test runner may export its own
            environment.pop(size_of_another, None)
        size = ["-x", str(columns), "-y", str(rows)]
        subprocess.run([*self._base, "-u", "new-session", "-d", *size, *command], check=True, env=environment)

    def keys(self, *names: str) -> None:
        subprocess.run([*self._base, "send-keys", *names], check=True)

    @property
    def text(self) -> str:
        done = subprocess.run([*self._base, "capture-pane", "-p"], capture_output=True, text=True)
        return done.stdout

    @property
    def alive(self) -> bool:
        return subprocess.run([*self._base, "has-session"], capture_output=True).returncode == 0

    def wait(self, condition: Callable[[str], bool]) -> str:
        deadline = time.monotonic() + SECONDS
        while not condition(text := self.text):
            assert time.monotonic() < deadline, text
            time.sleep(0.1)
        return text

    def close(self) -> None:
        subprocess.run([*self._base, "kill-server"], capture_output=True)


@pytest.fixture
def training() -> Iterator[Run]:
    """A real run that trains for a while."""
    more = {**SMALL, "ppo": {**SMALL["ppo"], "env_steps": 32 * 400}}  # type: ignore[dict-item]
    run = folders.create_run(Config.model_validate(more))
    launch.start_daemon(run)
    yield run
    if status.is_alive(run):
        launch.stop_run(run, 60)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str, columns: int = 120, rows: int = 40) -> Terminal:
        opened.append(
            Terminal(
                tmp_path / f"tmux{len(opened)}",
                columns,
                rows,
                [sys.executable, "-m", "vlmagent", "tui", *arguments],
            )
        )
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_beside_a_training_run(training: Run, terminal: Callable[..., Terminal]) -> None:
    tui = terminal()
    tui.wait(lambda text: training.name in text and "● running" in text)
    tui.keys("Enter")
    tui.wait(lambda text: "newest step" in text and "RL update" in text)
    text = tui.wait(lambda text: "steps/s" in text and "episode" in text and "page 1/2" in text)
    for title in ("success", "return", "legal outputs", "KL", "value loss", "thought log-prob", "phase: rl"):
        assert title in text
    assert any(0x2800 < ord(character) < 0x2900 for character in text)
    tui.keys("Left")
    tui.wait(lambda text: "┃ update" in text)
    tui.keys("e")
    tui.wait(lambda text: " finished" in text and "Replay" in text)
    tui.keys("Enter")
    tui.wait(lambda text: "Worst" in text and "reward" in text)
    tui.keys("Escape")
    tui.wait(lambda text: " finished" in text and "Worst" not in text)
    tui.keys("Escape")  # back to where the list was opened from, though it is filtered
    tui.wait(lambda text: "newest step" in text and "┃ update" in text)
    tui.keys("S")
    tui.wait(lambda text: "Stop the run" in text)
    tui.keys("y")
    tui.wait(lambda text: "■ stopped" in text)
    assert status.run_state(training) == "stopped"
    tui.keys("Escape")
    tui.wait(lambda text: "┃ update" not in text)
    tui.keys("Escape")
    tui.wait(lambda text: "by newest" in text)
    tui.wait(lambda text: "■ stopped" in text)
    began = time.monotonic()
    tui.keys("q")
    while tui.alive:
        assert time.monotonic() - began < 10
        time.sleep(0.02)


def test_in_a_small_terminal(training: Run, terminal: Callable[..., Terminal]) -> None:
    tui = terminal(training.name, "--images", "off", columns=80, rows=24)
    tui.wait(lambda text: "page 1/6" in text and "success" in text)
    tui.keys("?")
    tui.wait(lambda text: "train: keys" in text)
    tui.keys("Escape")
    tui.wait(lambda text: "train: keys" not in text)
    tui.keys("C-q")
    deadline = time.monotonic() + 10
    while tui.alive:
        assert time.monotonic() < deadline
        time.sleep(0.02)
