"""The dashboard with a large database, and beside a process that writes at full speed.

    python benchmarks/dashboard.py large [--transitions 1000000] [--images 20000]
    python benchmarks/dashboard.py beside [--pairs 6] [--seconds 10] [--train]

``large`` makes the database once (kept for the next time), then measures from starting the program to the first
screen with data, paging, ranking and searching, and memory, each against its target. ``beside`` lets a process
write (or, with --train, really train) and opens and closes the dashboard in turns: the ratio of its speed with the
dashboard to without, with a 95 % interval over the pairs, and how late the dashboard's event loop was at worst.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from big_run import build

from vlmagent import launch, paths
from vlmagent.config import Config
from vlmagent.store import browse
from vlmagent.store.reader import StoreReader
from vlmagent.tui.source import Source

OPEN_SECONDS, ANSWER_SECONDS, MEMORY_MIB, LATE_SECONDS, SLOWER = 2.0, 0.3, 250.0, 0.1, 0.95
COLUMNS, ROWS = 120, 40
FIRST_DATA = re.compile(rb"\d+\.\d %")
PROBE_SECONDS = 0.02


@dataclass
class Dashboard:
    """The program in a pseudo terminal; its output is read and thrown away."""

    process: subprocess.Popen[bytes]
    report: Path
    began: float
    first_data: float | None = None

    @classmethod
    def open(cls, run: Path, folder: Path) -> Dashboard:
        """Start it on ``run``."""
        report = folder / f"report-{time.monotonic_ns()}.json"
        controller, terminal = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, __file__, "_probe", str(run), str(report)],
            stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(terminal)
        dashboard = cls(process, report, began)
        threading.Thread(target=dashboard._read, args=(controller,), daemon=True).start()
        return dashboard

    def _read(self, controller: int) -> None:
        seen = b""
        with contextlib.suppress(OSError):
            while True:
                if select.select([controller], [], [], 1)[0]:
                    seen = (seen + os.read(controller, 65536))[-100_000:]
                    if self.first_data is None and FIRST_DATA.search(seen):
                        self.first_data = time.monotonic() - self.began

    def close(self) -> dict[str, float]:
        """End it; what its probe measured."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        return dict(json.loads(self.report.read_text()))


def probe(run: Path, report: Path) -> None:
    """Inside the pseudo terminal: the dashboard, and a task that notes how late it is woken."""
    from vlmagent.tui.app import VlmAgentApp

    app = VlmAgentApp(run, "half")
    late: list[float] = []

    begun: list[float] = []

    async def watch() -> None:
        await asyncio.sleep(3)  # starting is measured by itself
        begun[:] = time.monotonic(), time.process_time()
        while True:
            wanted = time.perf_counter() + PROBE_SECONDS
            await asyncio.sleep(PROBE_SECONDS)
            late.append(time.perf_counter() - wanted)

    async def main() -> None:
        watching = asyncio.ensure_future(watch())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, app.exit)
        await app.run_async()
        watching.cancel()
        began, used = begun or (math.nan, math.nan)
        share = (time.process_time() - used) / (time.monotonic() - began)
        late.sort()
        memory = psutil.Process().memory_info().rss / 2**20
        values = {
            "worst": late[-1] if late else math.nan,
            "p99": late[int(0.99 * len(late))] if late else math.nan,
        }
        report.write_text(json.dumps({**values, "memory": memory, "processor": share}))

    asyncio.run(main())


# A large database


def large(transitions: int, images: int, folder: Path) -> bool:
    """Measure and print; whether every target was met."""
    run = folder / f"big-{transitions}-{images}"
    if not run.exists():
        print(f"making {run} ...", flush=True)
        build(run, transitions, images)
    size = (run / paths.DATABASE).stat().st_size / 2**20
    print(f"{transitions:,} transitions, {images:,} pictures, {size:,.0f} MiB")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        dashboard = Dashboard.open(run, Path(scratch))
        while dashboard.first_data is None and time.monotonic() - dashboard.began < 60:
            time.sleep(0.01)
        time.sleep(4)
        seen = dashboard.close()
        rows.append(("first screen with data, s", dashboard.first_data or math.inf, OPEN_SECONDS))
        rows.append(("memory, MiB", seen["memory"], MEMORY_MIB))
    rows += [(f"{name}, s", seconds, ANSWER_SECONDS) for name, seconds in asyncio.run(_answers(run))]
    print(f"{'':<52}{'measured':>10}{'target':>9}{'ratio':>8}")
    for name, value, target in rows:
        print(f"{name:<52}{value:>10.3f}{target:>9g}{value / target:>8.2f}")
    return all(value <= target for _, value, target in rows)


async def _answers(run: Path) -> list[tuple[str, float]]:
    """Seconds of every kind of question, asked as the screens do; the slowest of three, the first is cold."""
    source = Source(run / paths.DATABASE)
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


def write_for_ever(run: Path) -> None:
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
    with launch.daemon_session(run) as stop, StoreWriter(run / paths.DATABASE) as writer:
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


def beside(pairs: int, seconds: float, train: bool) -> bool:
    """Measure and print; whether every target was met."""
    with tempfile.TemporaryDirectory() as scratch, _writing(Path(scratch), train) as run:
        folder = Path(scratch)
        ratios, seen = [], []
        for pair in range(pairs):
            speeds = {}
            for watched in (pair % 2 == 0, pair % 2 == 1):
                dashboard = Dashboard.open(run, folder) if watched else None
                time.sleep(3)  # not its start, but its presence is measured
                speeds[watched] = _speed(run, seconds)
                if dashboard is not None:
                    seen.append(dashboard.close())
            ratios.append(speeds[True] / speeds[False])
            print(
                f"pair {pair + 1}: {speeds[True]:9.1f} steps/s with, {speeds[False]:9.1f} without: {ratios[-1]:.3f}",
                flush=True,
            )
    mean, low, high = _geometric(ratios)
    worst, p99 = max(report["worst"] for report in seen), max(report["p99"] for report in seen)
    share = statistics.mean(report["processor"] for report in seen)
    print(f"speed with / without   {mean:.3f}   95 % interval {low:.3f} to {high:.3f}   target >= {SLOWER}")
    print(
        f"latest frame           {1000 * worst:.0f} ms (99 %: {1000 * p99:.0f} ms)   "
        f"target <= {1000 * LATE_SECONDS:.0f} ms"
    )
    print(f"processor              {100 * share:.1f} % of one core")
    return mean >= SLOWER and worst <= LATE_SECONDS


@contextlib.contextmanager
def _writing(folder: Path, train: bool) -> Iterator[Path]:
    """A run that a process writes to while the block runs."""
    ppo = {"env_steps": 512 * 10_000}
    run = launch.create_run(Config.model_validate({"task": "numberline", "ppo": ppo}), folder / "run")
    command = None if train else [sys.executable, __file__, "_write", str(run)]
    launch.start_daemon(run, command)
    try:
        while not _count(run):
            time.sleep(0.2)
        yield run
    finally:
        launch.stop_run(run, 120)


def _count(run: Path) -> int:
    try:
        with StoreReader(run / paths.DATABASE) as reader:
            return reader.env_steps()
    except Exception:
        return 0


def _speed(run: Path, seconds: float) -> float:
    """Steps per second that reach the database, from one change to another at least ``seconds`` later."""

    def change() -> tuple[float, int]:
        before = _count(run)
        while (now := _count(run)) == before:
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
    live.add_argument("--train", action="store_true", help="a real training run instead of a bare writer")
    for name in ("_probe", "_write"):
        verbs.add_parser(name).add_argument("paths", type=Path, nargs="+")
    chosen = parser.parse_args()
    if chosen.verb == "_probe":
        probe(*chosen.paths)
        return 0
    if chosen.verb == "_write":
        write_for_ever(*chosen.paths)
        return 0
    if chosen.verb == "large":
        return 0 if large(chosen.transitions, chosen.images, chosen.folder) else 1
    return 0 if beside(chosen.pairs, chosen.seconds, chosen.train) else 1


if __name__ == "__main__":
    sys.exit(main())
