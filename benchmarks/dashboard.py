"""The dashboard with a large database, and beside a process that writes at full speed.

    python benchmarks/dashboard.py large [--transitions 1000000] [--images 20000]
    python benchmarks/dashboard.py beside [--pairs 6] [--seconds 10] [--screen train|episodes|runs] [--train]

``large`` makes the database once (kept for the next time), then measures the seconds from starting the program to
the first screen with data, of paging, ranking and searching, from the key to the screen and of the queries alone,
and the memory at its peak, each against its target. ``beside`` lets a process write (or, with --train, really
train) and opens and closes the dashboard in turns: the ratio of its speed with the dashboard to without, pair by
pair in one run, and how late the dashboard's event loop was at worst; in the halves without a dashboard an idle
event loop is watched in its place, which tells what the machine itself is late. Both want an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import pty
import re
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from big_run import build

from vlmagent.config import find_config, load_config
from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.runs import folders, launch
from vlmagent.runs.daemon import daemon_session
from vlmagent.store import browse
from vlmagent.store.reader import StoreReader
from vlmagent.tui.data.source import Source

OPEN_SECONDS, ANSWER_SECONDS, MEMORY_MIB, LATE_SECONDS, SLOWER = 2.0, 0.3, 250.0, 0.1, 0.95
COLUMNS, ROWS = 120, 40
FIRST_DATA = re.compile(rb"\d+\.\d %")
OPENINGS = 5
PROBE = Path(__file__).with_name("dashboard_probe.py")
QUIET_LOAD = 0.5
CLOSE_SECONDS = 120.0


@dataclass
class Terminal:
    """A program in a pseudo terminal; what it draws is read and thrown away."""

    process: subprocess.Popen[bytes]
    began: float
    first_data: float | None = None

    @classmethod
    def open(cls, *arguments: str | os.PathLike[str]) -> Terminal:
        """Start Python with these arguments."""
        controller, terminal = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(terminal)
        opened = cls(process, began)
        threading.Thread(target=opened._read, args=(controller,), daemon=True).start()
        return opened

    def _read(self, controller: int) -> None:
        seen = b""
        with contextlib.suppress(OSError):
            while True:
                if select.select([controller], [], [], 1)[0]:
                    seen = (seen + os.read(controller, 65536))[-100_000:]
                    if self.first_data is None and FIRST_DATA.search(seen):
                        self.first_data = time.monotonic() - self.began

    def close(self) -> None:
        """Ask it to end, and wait."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(CLOSE_SECONDS)


@contextlib.contextmanager
def _watched(folder: Path, run: Run | None, screen: str, seen: list[dict[str, float]]) -> Iterator[None]:
    """The dashboard on ``run``, or an idle event loop, while the block runs; adds what was measured to ``seen``."""
    report = folder / f"report-{time.monotonic_ns()}.json"
    terminal = Terminal.open(PROBE, "watch", report, *([run, "--screen", screen] if run else []))
    try:
        while not report.exists():  # empty at first: not its start, but its presence is measured
            if terminal.process.poll() is not None:
                raise SystemExit("The dashboard ended by itself.")
            time.sleep(0.05)
        yield
    finally:
        terminal.close()
    seen.append(json.loads(report.read_text()))


# A large database


def large(transitions: int, images: int, folder: Path) -> bool:
    """Measure and print; whether every target was met."""
    _say_load()
    run = Run(folder / f"big-{transitions}-{images}" / "run")
    if not run.exists():
        print(f"making {run} ...", flush=True)
        build(run.path, transitions, images)
    size = run.database.stat().st_size / 2**20
    print(f"{transitions:,} transitions, {images:,} pictures, {size:,.0f} MiB")
    rows = [*_openings("one run, live", run), *_openings("the list of runs", None, run.path.parent)]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "tour.json"
        terminal = Terminal.open(PROBE, "tour", report, run)
        terminal.process.wait(300)
        seen = json.loads(report.read_text())
    rows.append(("memory at its peak, MiB", seen.pop("memory"), MEMORY_MIB))
    rows += [(f"{name}, s", seconds, ANSWER_SECONDS) for name, seconds in seen.items()]
    rows += [(f"query: {name}, s", seconds, ANSWER_SECONDS) for name, seconds in asyncio.run(_answers(run))]
    print(f"{'':<58}{'measured':>10}{'target':>9}{'ratio':>8}")
    for name, value, target in rows:
        missed = "" if value <= target else "  missed"
        print(f"{name:<58}{value:>10.3f}{target:>9g}{value / target:>8.2f}{missed}")
    return all(value <= target for _, value, target in rows)


def _openings(name: str, run: Run | None, runs: Path | None = None) -> list[tuple[str, float, float]]:
    """Seconds from the command to the first data: at first, and the median of some more times."""
    seconds = []
    for _ in range(OPENINGS):
        with _runs_folder(runs):
            terminal = Terminal.open("-m", "vlmagent", "tui", *([run] if run else []))
        while terminal.first_data is None and time.monotonic() - terminal.began < 60:
            time.sleep(0.005)
        seconds.append(terminal.first_data or math.inf)
        terminal.process.kill()
        terminal.process.wait()
    return [
        (f"open {name}: the first time, s", seconds[0], OPEN_SECONDS),
        (f"open {name}: median of {len(seconds) - 1} more, s", statistics.median(seconds[1:]), OPEN_SECONDS),
    ]


@contextlib.contextmanager
def _runs_folder(folder: Path | None) -> Iterator[None]:
    """Let programs started meanwhile look for runs in ``folder``."""
    before = os.environ.get("VLMAGENT_RUNS")
    if folder is not None:
        os.environ["VLMAGENT_RUNS"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("VLMAGENT_RUNS", None)
        if before is not None:
            os.environ["VLMAGENT_RUNS"] = before


async def _answers(run: Run) -> list[tuple[str, float]]:
    """Seconds of every kind of question, asked as the screens do; the slowest of three, the first is cold."""
    source = Source(run.database)
    middle = await source.query(lambda reader: reader.episode(reader.env_steps() // 10))
    measured = []
    for name, question in _questions(middle):
        times = []
        for _ in range(3):
            began = time.perf_counter()
            await source.query(question)
            times.append(time.perf_counter() - began)
        measured.append((name, max(times)))
    source.close()
    return measured


def _questions(middle: Any) -> Iterator[tuple[str, Callable[[StoreReader], object]]]:
    everything, failures = browse.Filter(), browse.Filter(success=False)
    some = browse.Filter(illegal=True, updates=(100, 140))
    for order in browse.EPISODE_ORDERS:
        yield f"episodes, {order}, first page", lambda r, o=order: browse.episode_page(r, everything, o)
        yield (
            f"episodes, {order}, a page from the middle",
            lambda r, o=order: browse.episode_page(r, everything, o, after=middle),
        )
        yield f"failures, {order}", lambda r, o=order: browse.episode_page(r, failures, o)
    yield "episodes, illegal, of some updates", lambda r: browse.episode_page(r, some)
    yield "count of failures", lambda r: browse.count_episodes(r, failures)
    yield "largest advantages", lambda r: browse.output_page(r, everything, "advantage")
    yield "lowest log-probs of failures", lambda r: browse.output_page(r, failures, "logprob")
    yield "largest advantages of some updates", lambda r: browse.output_page(r, some, "advantage")
    for text in ("number", "n12", "variant17", '"equal reached" plus', "v", "nowhere"):
        yield f"search: {text}", lambda r, t=text: browse.output_page(r, everything, "match", text=t)
        yield (
            f"search among failures: {text}",
            lambda r, t=text: browse.output_page(r, failures, "match", text=t),
        )
    yield (
        "an episode with its picture",
        lambda r: [r.image(step.image_sha256) for step in r.transitions(middle.id)],
    )
    yield "what a newcomer reads", lambda r: (r.metrics(0, 8000), r.recent_success(), r.latest_transition())


# Beside a writer


def write_for_ever(run: Run) -> None:
    """A trainer without a model: batches of 64 steps, a metrics row every 8, as fast as the store takes them."""
    import numpy as np

    from vlmagent.store.writer import StoreWriter
    from vlmagent.types import Decision, EpisodeEnd, EpisodeStart, Generation, ParsedAction, Transition

    rng = np.random.default_rng(0)
    output = '{"thoughts": "the current number is smaller than the target", "action": "+"}'
    generation = Generation(output, rng.integers(0, 900, 40), -rng.random(40).astype(np.float32), 30, 0.5)
    decision = Decision(
        "a prompt " * 60,
        output,
        "the current number is smaller",
        ParsedAction("+", True, "+", None),
        -9.0,
        -8.0,
        -1.0,
        generation,
    )
    pictures = [rng.integers(0, 256, (84, 84, 3), dtype=np.uint8) for _ in range(30)]
    id_ = 0
    with daemon_session(run) as stop, StoreWriter(run.database) as writer:
        writer.start_run(run.name, "numberline", "tiny", "{}", 0)
        writer.set_status("running")
        while not stop.is_set():
            batch = id_ // 64
            for env in range(64):
                id_ += 1
                writer.episode_started(EpisodeStart(id_, "train", env, id_))
                writer.transition(
                    Transition(
                        id_, id_, batch // 8 + 1, env, 0, pictures[id_ % 30], decision, 1.0, True, False, 0.5
                    )
                )
                writer.episode_ended(EpisodeEnd(id_, 1, 1.0, id_ % 3 > 0, True, "terminated"))
            writer.commit()
            if batch % 8 == 7:
                names = (
                    "rollout/success",
                    "rollout/return",
                    "ppo/kl",
                    "rollout/env_steps_per_second",
                    "ppo/value_loss",
                )
                writer.metrics(batch // 8 + 1, id_, {name: float(rng.random()) for name in names})


def beside(pairs: int, seconds: float, screen: str, train: bool) -> bool:
    """Measure and print; whether every target was met."""
    _say_load()
    with tempfile.TemporaryDirectory() as scratch, _writing(Path(scratch), train) as run:
        folder = Path(scratch)
        ratios: list[float] = []
        with_: list[dict[str, float]] = []
        without: list[dict[str, float]] = []
        for pair in range(pairs):
            speeds = {}
            for open_ in (pair % 2 == 0, pair % 2 == 1):
                with _watched(folder, run if open_ else None, screen, with_ if open_ else without):
                    speeds[open_] = _speed(run, seconds, train)
            ratios.append(speeds[True] / speeds[False])
            print(
                f"pair {pair + 1}: {speeds[True]:9.1f} steps/s with, {speeds[False]:9.1f} without: {ratios[-1]:.3f};"
                f" latest {_milliseconds(with_[-1:], 'worst')} with, {_milliseconds(without[-1:], 'worst')} without",
                flush=True,
            )
    mean, low, high = _geometric(ratios)
    worst = max(report["worst"] for report in with_)
    print(f"speed with / without    median {statistics.median(ratios):.3f}   target >= {SLOWER}")
    print(f"                        mean {mean:.3f}, 95 % interval {low:.3f} to {high:.3f}")
    print(
        f"latest frame, {screen:<9} {_milliseconds(with_, 'worst')}   target <= {1000 * LATE_SECONDS:.0f} ms"
    )
    print(f"  99 % of them          {_milliseconds(with_, 'p99')}")
    print(f"  an idle event loop    {_milliseconds(without, 'worst')}: what the machine itself was late")
    print(f"  longest callback      {_milliseconds(with_, 'longest')} of processor time,")
    print(
        f"  longest collection    {_milliseconds(with_, 'collecting')}: what the program itself can be blamed for"
    )
    share = statistics.median(report["processor"] for report in with_)
    print(f"processor               {100 * share:.1f} % of one core")
    return statistics.median(ratios) >= SLOWER and worst <= LATE_SECONDS


def _milliseconds(reports: Sequence[dict[str, float]], name: str) -> str:
    return f"{1000 * max(report[name] for report in reports):.0f} ms"


def _say_load() -> None:
    """What the machine is, and whether something else is running on it."""
    load = os.getloadavg()[0]
    print(f"{len(os.sched_getaffinity(0))} cores, load {load:.2f}")
    if load > QUIET_LOAD:
        print("Something else is running on this machine: the figures mean little.")


@contextlib.contextmanager
def _writing(folder: Path, train: bool) -> Iterator[Run]:
    """A run that a process writes to while the block runs."""
    recipe = load_config(find_config("numberline"), {"ppo": {"env_steps": 512 * 10_000}})
    with _runs_folder(folder):  # where "latest" may point to it
        run = folders.create_run(recipe)
        command = None if train else [sys.executable, __file__, "_write", str(run)]
        launch.start_daemon(run, command)
        try:
            while not _count(run, train):
                time.sleep(0.2)
            yield run
        finally:
            launch.stop_run(run, 120)


def _count(run: Run, updates: bool) -> int:
    """Env steps in the database; with ``updates``, those up to the newest finished update."""
    try:
        with StoreReader(run.database) as reader:
            if not updates:
                return reader.env_steps()
            newest = reader.latest_metrics().get("rollout/success")
            return newest.env_steps if newest else 0
    except StoreError:  # not made yet
        return 0


def _speed(run: Run, seconds: float, updates: bool) -> float:
    """Steps per second that reach the database, from one change to another at least ``seconds`` later.

    Args:
        updates: measure from update to update, because training collects and learns in turns.
    """

    def change() -> tuple[float, int]:
        before = _count(run, updates)
        while (now := _count(run, updates)) == before:
            time.sleep(0.02)
        return time.monotonic(), now

    began, first = change()
    time.sleep(seconds)
    ended, last = change()
    return (last - first) / (ended - began)


def _geometric(ratios: list[float]) -> tuple[float, float, float]:
    """Geometric mean and a 95 % interval (Student's t over the logarithms)."""
    from scipy.stats import t

    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.mean(logs)
    if len(logs) < 2:
        return math.exp(mean), math.nan, math.nan
    half = float(t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    big = verbs.add_parser("large", help="opening, paging, searching, memory")
    big.add_argument("--transitions", type=int, default=1_000_000)
    big.add_argument("--images", type=int, default=20_000)
    big.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the database is kept"
    )
    live = verbs.add_parser("beside", help="throughput of a writer with and without, lateness of frames")
    live.add_argument("--pairs", type=int, default=6)
    live.add_argument("--seconds", type=float, default=10.0)
    live.add_argument("--screen", choices=("train", "episodes", "runs"), default="train")
    live.add_argument("--train", action="store_true", help="a real training run instead of a bare writer")
    verbs.add_parser("_write").add_argument("run", type=Path)
    chosen = parser.parse_args()
    if chosen.verb == "_write":
        write_for_ever(Run(chosen.run))
        return 0
    if chosen.verb == "large":
        return 0 if large(chosen.transitions, chosen.images, chosen.folder) else 1
    return 0 if beside(chosen.pairs, chosen.seconds, chosen.screen, chosen.train) else 1


if __name__ == "__main__":
    sys.exit(main())
