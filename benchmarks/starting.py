"""The part of ``benchmarks.speed`` that starts programs: what a user waits for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import Spread, of_commands

PROGRAM = [sys.executable, "-m", "vlmagent"]
RUNS = 50
ONE_UPDATE = ("--set", "sft.samples=32", "--set", "ppo.env_steps=128")
PATIENCE = 60.0


def start(rounds: int) -> dict[str, Any]:
    """``--help``, a run of one update from start to end, and the dashboard's first frame with many runs."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        before = os.environ.get("VLMAGENT_RUNS")
        os.environ["VLMAGENT_RUNS"] = str(root / "runs")
        try:
            return _started(root, rounds)
        finally:
            os.environ.pop("VLMAGENT_RUNS")
            if before is not None:
                os.environ["VLMAGENT_RUNS"] = before


def _started(root: Path, rounds: int) -> dict[str, Any]:
    count = iter(range(1000))

    def train() -> list[str]:
        return [
            *PROGRAM,
            "train",
            "numberline",
            *ONE_UPDATE,
            "--run-dir",
            str(root / f"trained-{next(count)}"),
        ]

    times = of_commands({"`--help`": lambda: [*PROGRAM, "--help"]}, 2 * rounds)
    # in the foreground, its daemon's processor time is that of another family of processes: wall time alone counts
    times |= of_commands({"`train`, 32 samples and one update": train}, rounds)
    for number in range(RUNS):
        shutil.copytree(root / "trained-0", root / "runs" / f"run-{number:02d}")
    frames = [_first_frame(f"run-{RUNS - 1:02d}") for _ in range(rounds + 1)][1:]
    found = {
        name: {"wall": asdict(each.wall), "processor": asdict(each.processor)} for name, each in times.items()
    }
    wall, processor = (Spread.of([frame[index] for frame in frames]) for index in (0, 1))
    found[f"`tui`, first frame with {RUNS} runs"] = {"wall": asdict(wall), "processor": asdict(processor)}
    return found


def _first_frame(name: str) -> tuple[float, float]:
    """Wall and processor seconds until the dashboard has drawn a run's name."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
    started = time.perf_counter()
    process = subprocess.Popen(
        [*PROGRAM, "tui"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(terminal)
    drawn = b""
    try:
        while name.encode() not in drawn:
            ready = select.select([controller], [], [], PATIENCE)[0]
            if not ready:
                raise RuntimeError(f"the dashboard drew nothing for {PATIENCE:.0f} s")
            drawn += os.read(controller, 65536)
        seconds = time.perf_counter() - started
        spent = psutil.Process(process.pid).cpu_times()
        return seconds, spent.user + spent.system
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        os.close(controller)
