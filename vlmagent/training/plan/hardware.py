"""What this machine can compute: its GPUs by their makers' numbers, its CPU by a short measurement.

Knows nothing of models. Imports torch only when asked to look.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil

GIB = 2**30
TERA = 10**12


@dataclass(frozen=True, slots=True)
class Hardware:
    """One device.

    Attributes:
        kind: ``cuda`` or ``cpu``.
        count: how many of it there are.
        memory: bytes of one.
        flops: peak operations per second of one (a multiply-add is two): dense bfloat16 on a GPU, float32 on a CPU.
        bandwidth: bytes per second between its memory and its cores.
        here: whether it is in this machine.
    """

    name: str
    kind: str
    count: int
    memory: int
    flops: float
    bandwidth: float
    here: bool


_GPUS = (
    ("B200", 2250, 8.0),
    ("H200", 989, 4.8),
    ("H100 PCIe", 756, 2.0),
    ("H100", 989, 3.35),
    ("A100", 312, 2.0),
    ("L40S", 362, 0.864),
    ("L40", 181, 0.864),
    ("A40", 150, 0.696),
    ("A10", 125, 0.6),
    ("L4", 121, 0.3),
    ("RTX 5090", 209, 1.79),
    ("RTX 4090", 165, 1.01),
    ("RTX 3090", 71, 0.936),
)
"""Part of a GPU's name, peak dense bfloat16 in TFLOP/s, memory bandwidth in TB/s, from the makers' data sheets."""

REFERENCES = (
    Hardware("H200", "cuda", 1, 141 * 10**9, 989e12, 4.8e12, here=False),
    Hardware("A100 80 GB", "cuda", 1, 80 * 10**9, 312e12, 2.0e12, here=False),
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that torch can use.

    Attributes:
        memory: bytes.
        bf16: whether it computes in bfloat16 itself.
    """

    name: str
    memory: int
    bf16: bool


def find_hardware() -> Hardware:
    """The device that ``model.device = auto`` would use."""
    gpus = find_gpus()
    if gpus:
        # all are taken to be like the first one
        first = gpus[0]
        flops, bandwidth = peak(first.name)
        return Hardware(first.name, "cuda", len(gpus), first.memory, flops, bandwidth, here=True)
    flops, bandwidth = _measure_cpu()
    total = psutil.virtual_memory().total
    return Hardware(f"{usable_cores()} CPU cores", "cpu", 1, total, flops, bandwidth, here=True)


def find_gpus() -> list[Gpu]:
    """The GPUs that torch can use. Only asks for their properties: nothing is started on them."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    # hip: a build of torch for ROCm, which calls AMD GPUs cuda too
    amd = torch.version.hip is not None  # every one of those that torch supports has it
    # compute capability 8.0 (Ampere) is the first with bfloat16
    return [Gpu(one.name, int(one.total_memory), amd or one.major >= 8) for one in found]


def usable_cores() -> int:
    """CPU cores that this process may run on."""
    # fewer than the machine has under a container's or taskset's limit; other systems than Linux do not tell
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak(name: str) -> tuple[float, float]:
    """Peak operations per second and bandwidth of a GPU by name; one that is not known counts as an A100."""
    # in the order of the table: "H100 PCIe" before "H100", "L40S" before "L40", both before "L4"
    for part, tera, terabytes in _GPUS:
        if part.lower() in name.lower():
            return tera * TERA, terabytes * TERA
    return 312 * TERA, 2.0 * TERA


def _measure_cpu(side: int = 768, seconds: float = 0.3) -> tuple[float, float]:
    """Operations per second of a float32 matrix product, and bytes per second of reading a large vector."""
    import torch

    left, right = torch.rand(side, side), torch.rand(side, side)
    flops = _rate(lambda: torch.mm(left, right), 2 * side**3, seconds)
    vector = torch.rand(8_000_000)
    return flops, _rate(vector.sum, vector.nbytes, seconds)


def _rate(work: object, amount: float, seconds: float) -> float:
    """``amount`` per second, over about ``seconds``."""
    assert callable(work)
    # the first call allocates and starts threads: it is not measured
    work()
    started, rounds = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < seconds or not rounds:
        work()
        rounds += 1
    return amount * rounds / passed
