"""How soon a key is answered on the play screen while a model thinks beside it.

    python benchmarks/play_keys.py [--run RUN] [--keys 60] [--rounds 3] [--columns 120] [--rows 40]

The program runs in a pseudo terminal as ``vlmagent play points24 --human --hints on``. Each key is pressed while the
model is writing; the time ends when the terminal has been sent the number of the step that the key made, which is
in the database by then. In turns with it the same keys are pressed with ``--hints off``, where nothing thinks: the
ratio of the medians tells what thinking costs. Without --run a barely trained tiny model thinks, which writes
nonsense until it may write no more. Wants an otherwise idle machine: it says how busy this one was, and how much
processor time the screen took for a key, with all it drew meanwhile, which other programs hardly prolong.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import random
import re
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

TARGET_SECONDS = 0.05
LONGEST_WAIT = 120.0
KEEP = 100_000
ESCAPES = re.compile(rb"\x1b\[[0-9;?<>=]*[ -/]*[@-~]")
TASK = "points24"
ACTION, NEXT = b"+", b"n"
EPISODE_STEPS = 20
"""After which an episode of ``TASK`` is cut off, whatever the actions."""
BARELY_TRAINED = ("--set", "sft.samples=32", "--set", "ppo.env_steps=0")


class Table:
    """The program in a pseudo terminal, and what it has drawn of late, without the escape sequences."""

    def __init__(self, arguments: list[str], columns: int, rows: int) -> None:
        self._controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vlmagent", "play", *arguments],
            stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(terminal)
        self._drawn = b""

    def until(self, pattern: bytes, seconds: float = LONGEST_WAIT) -> bool:
        """Read until the pattern has been drawn since the last ``press``; False when it was not in time."""
        deadline = time.perf_counter() + seconds
        while not re.search(pattern, ESCAPES.sub(b"", self._drawn)):
            left = deadline - time.perf_counter()
            if left <= 0:
                return False
            if select.select([self._controller], [], [], left)[0]:
                self._drawn = (self._drawn + os.read(self._controller, 65536))[-KEEP:]
        return True

    def press(self, key: bytes) -> float:
        """Forget what was drawn, press a key; returns when."""
        while select.select([self._controller], [], [], 0)[0]:
            os.read(self._controller, 65536)
        self._drawn = b""
        began = time.perf_counter()
        os.write(self._controller, key)
        return began

    def close(self) -> None:
        """Ask it to end; what it still draws is thrown away."""
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):
            while self.process.poll() is None:
                if select.select([self._controller], [], [], 0.1)[0]:
                    os.read(self._controller, 65536)
        os.close(self._controller)


def answers(table: Table, keys: int, thinks: bool) -> Iterator[float]:
    """Press keys one after the other; seconds until each one's step is drawn."""
    for count in range(keys):
        episode, step = divmod(count, EPISODE_STEPS)
        if episode and not step:
            table.press(NEXT)
            table.until(b"step 0 ")
        if thinks and not table.until(b"writing|weighing|%"):
            raise SystemExit("The model does not write.")
        table.until(b"(?!)", random.uniform(0.0, 0.2))  # somewhere in the answer, not at its beginning
        began = table.press(ACTION)
        if not table.until(b"step %d " % (step + 1)):
            raise SystemExit(f"Step {step + 1} was never drawn.")
        yield time.perf_counter() - began


@dataclass
class Sitting:
    """Seconds: from each key to the screen, and of the screen's processor time for all of them together."""

    answered: list[float] = field(default_factory=list)
    processor: float = 0.0


def sit(arguments: list[str], keys: int, columns: int, rows: int, thinks: bool, into: Sitting) -> None:
    """Open the table, press the keys, leave."""
    table = Table(arguments, columns, rows)
    try:
        if not table.until(rb"your turn"):
            raise SystemExit("The table was not opened.")
        if thinks and not table.until(rb"is ready"):
            raise SystemExit("The model was not loaded.")
        time.sleep(1)
        screen = psutil.Process(table.process.pid)
        before = sum(screen.cpu_times()[:2])
        into.answered += answers(table, keys, thinks)
        into.processor += sum(screen.cpu_times()[:2]) - before
    finally:
        table.close()


def barely_trained(folder: Path) -> str:
    """A run whose model writes nonsense."""
    run = folder / "run"
    command = [sys.executable, "-m", "vlmagent", "train", TASK, *BARELY_TRAINED, "--run-dir", str(run)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return str(run)


def report(name: str, sitting: Sitting) -> None:
    """One line."""
    ranked = sorted(sitting.answered)
    count = len(ranked)
    p95 = ranked[int(0.95 * (count - 1))]
    facts = (ranked[0], statistics.median(ranked), p95, ranked[-1], sitting.processor / count)
    late = sum(second > TARGET_SECONDS for second in ranked)
    print(f"{name:<24}" + "".join(f"{1000 * fact:>11.1f}" for fact in facts) + f"{late:>8} of {count}")


def main() -> int:
    """Print the table; 1 when the median missed the target."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", help=f"whose checkpoint thinks; a run of {TASK}")
    parser.add_argument("--keys", type=int, default=60, help="in each sitting")
    parser.add_argument("--rounds", type=int, default=3, help="sittings with and without a model")
    parser.add_argument("--columns", type=int, default=120)
    parser.add_argument("--rows", type=int, default=40)
    chosen = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    thinking, alone = Sitting(), Sitting()
    with tempfile.TemporaryDirectory() as scratch:
        run = chosen.run or barely_trained(Path(scratch))
        for _ in range(chosen.rounds):
            for hints, into in (("on", thinking), ("off", alone)):
                arguments = [TASK, "--human", "--run", run, "--hints", hints, "--images", "half"]
                sit(arguments, chosen.keys, chosen.columns, chosen.rows, hints == "on", into)
    titles = "".join(f"{title:>11}" for title in ("best", "median", "p95", "worst", "processor"))
    print(f"{'key to screen, ms':<24}{titles}  over 50 ms")
    report("while the model thinks", thinking)
    report("nobody thinks", alone)
    median = statistics.median(thinking.answered)
    ratio = median / statistics.median(alone.answered)
    print(f"ratio of the medians: {ratio:.2f}; load average {os.getloadavg()[0]:.1f}")
    return 0 if median <= TARGET_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
