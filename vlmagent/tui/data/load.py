"""How busy a run's processes and their machine are: what the system tells of them, and the last minute of it.

Deliberately knows no widget. Reading takes milliseconds, and of GPUs up to seconds: call it on a worker's thread.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from vlmagent.paths import Run
from vlmagent.runs.daemon import daemon_info, process_of

# seconds that a history keeps
KEPT_SECONDS = 60.0
# nvidia-smi answers within half a second, but a driver in trouble lets it hang
GPU_SECONDS = 4.0
GPU_PAUSE_SECONDS = 30.0
"""Between a question about GPUs that failed and the next one."""
_GPU_FIELDS = "index,utilization.gpu,memory.used,memory.total"


@dataclass(frozen=True, slots=True)
class ProcessLoad:
    """A run's process and all those it started.

    Attributes:
        count: how many they are.
        cpu: cores that they kept busy since the look before; NaN at the first one.
        memory: resident bytes; pages that several share count for each.
    """

    count: int
    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class MachineLoad:
    """This machine.

    Attributes:
        load: processes that ran or waited to, averaged over a minute; NaN where the system does not tell.
        cores: those it has.
        memory, memory_total: bytes in use, and all there are.
    """

    load: float
    cores: int
    memory: int
    memory_total: int


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """One GPU: its share of busy time, and bytes of memory; NaN for what the driver does not tell."""

    index: str
    busy: float
    memory: float
    memory_total: float


class ProcessProbe:
    """Looks at the processes of one run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seconds: dict[psutil.Process, float] = {}
        self._at = math.nan

    def look(self) -> ProcessLoad | str:
        """Their load; a sentence where there is nothing to look at. Never raises."""
        info = daemon_info(self._run)
        if info is None:
            return "No process trains this run."
        if info.host != platform.node():
            return f"This run was last trained on {info.host}, whose load is not seen from here."
        process = process_of(info)
        if process is None:
            return "The process that trained this run is gone."
        return self._sum(_family(process), time.monotonic())

    def _sum(self, processes: Sequence[psutil.Process], now: float) -> ProcessLoad:
        memory, used = 0, 0.0
        seconds: dict[psutil.Process, float] = {}
        for process in processes:
            # it may have ended a moment ago, or belong to somebody else
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                seconds[process] = times.user + times.system
                # what one that is new did before is not known to lie within this look
                used += seconds[process] - self._seconds.get(process, seconds[process])
                memory += process.memory_info().rss
        passed = now - self._at
        self._seconds, self._at = seconds, now
        return ProcessLoad(len(seconds), max(0.0, used) / passed if passed > 0 else math.nan, memory)


def _family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all that it started, and they: ranks and workers of environments."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return [process]


def machine_load() -> MachineLoad:
    """How busy this machine is. Never raises."""
    try:
        load = psutil.getloadavg()[0]
    except (OSError, AttributeError):
        load = math.nan
    memory = psutil.virtual_memory()
    return MachineLoad(load, os.cpu_count() or 1, memory.total - memory.available, memory.total)


class GpuProbe:
    """Asks ``nvidia-smi``, where there is one."""

    def __init__(self) -> None:
        self._program = shutil.which("nvidia-smi")
        # on the monotonic clock: not to be asked before
        self._again = 0.0

    @property
    def is_due(self) -> bool:
        """Whether there is something to ask, and the last failure was a while ago."""
        return self._program is not None and time.monotonic() >= self._again

    def look(self) -> list[GpuLoad]:
        """All GPUs; none where they cannot be asked. Takes up to ``GPU_SECONDS``; never raises."""
        if not self.is_due or self._program is None:
            return []
        words = [self._program, f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=GPU_SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError):
            self._again = time.monotonic() + GPU_PAUSE_SECONDS
            return []
        return parse_gpus(done.stdout.decode("utf-8", "replace"))


def parse_gpus(text: str) -> list[GpuLoad]:
    """What ``nvidia-smi`` wrote, a line a GPU; lines of another form are passed over."""
    found = []
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == len(_GPU_FIELDS.split(",")) and words[0].isdigit():
            busy, used, total = (_number(word) for word in words[1:])
            # percent, and MiB
            found.append(GpuLoad(words[0], busy / 100, used * 2**20, total * 2**20))
    return found


def _number(word: str) -> float:
    """A number that is not negative; NaN for words such as ``[N/A]``, which stand where a driver knows nothing."""
    try:
        value = float(word)
    except ValueError:
        return math.nan
    return value if 0 <= value < math.inf else math.nan


class History:
    """The values of the last minute."""

    def __init__(self) -> None:
        self._values: deque[tuple[float, float]] = deque()

    def add(self, value: float, now: float) -> None:
        """Add a value, measured at ``now`` on the monotonic clock, and forget the oldest."""
        self._values.append((now, value))
        while self._values[0][0] <= now - KEPT_SECONDS:
            self._values.popleft()

    def spread(self, parts: int) -> list[float]:
        """Means of ``parts`` equal parts of the minute before the newest value; NaN where nothing was measured."""
        groups: list[list[float]] = [[] for _ in range(parts)]
        for at, value in self._values:
            # the newest value belongs to the last part
            place = parts - 1 - int((self._values[-1][0] - at) / KEPT_SECONDS * parts)
            if not math.isnan(value):
                groups[max(0, place)].append(value)
        return [sum(group) / len(group) if group else math.nan for group in groups]
