"""What all measurements share: cases measured in turns, medians with their spread, the machine, tables.

Machines are noisy and rarely idle. Cases that are compared therefore run in turns, round after round, and what counts
is the ratio of their medians. Processor time is taken beside wall time: other programs prolong it far less.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds of one case: the median and the quartiles of its rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """The spread of at least one measurement."""
        ordered = sorted(seconds)
        if len(ordered) < 2:
            return cls(ordered[0], ordered[0], ordered[0], 1)
        low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(middle, low, high, len(ordered))

    def words(self, unit: float = 1e-3) -> str:
        """The median with its quartiles, in units of so many seconds."""
        return f"{self.median / unit:.3g} ({self.low / unit:.3g} to {self.high / unit:.3g})"


@dataclass(frozen=True, slots=True)
class Times:
    """One case: wall seconds, and seconds of processor time of this process and all of its threads."""

    wall: Spread
    processor: Spread


def in_turns(cases: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Every case once a round, after one round that is not counted."""
    wall: dict[str, list[float]] = {name: [] for name in cases}
    processor: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            started, begun = time.perf_counter(), time.process_time()
            case()
            if number:
                wall[name].append(time.perf_counter() - started)
                processor[name].append(time.process_time() - begun)
    return {name: Times(Spread.of(wall[name]), Spread.of(processor[name])) for name in cases}


def of_commands(commands: Mapping[str, Callable[[], list[str]]], rounds: int) -> dict[str, Times]:
    """The same of programs: each is started anew, and its children's processor time is counted."""
    wall: dict[str, list[float]] = {name: [] for name in commands}
    processor: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            before, started = os.times(), time.perf_counter()
            subprocess.run(command(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            after = os.times()
            if number:
                wall[name].append(time.perf_counter() - started)
                spent = after.children_user - before.children_user
                processor[name].append(spent + after.children_system - before.children_system)
    return {name: Times(Spread.of(wall[name]), Spread.of(processor[name])) for name in commands}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch
    import transformers

    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": platform.machine(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load": round(os.getloadavg()[0], 2),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
    }


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
