"""What each of a run's processes holds and does: its part of the work, and of the memory under ZeRO's stages.

    stage   weights   gradients   optimiser's state          (Rajbhandari et al. 2020, figure 1)
    0       1         1           1
    1       1         1           1 / N
    2       1         1 / N       1 / N
    3       1 / N     1 / N       1 / N                      weights whole while outputs are sampled

Knows sizes alone: neither networks nor DeepSpeed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vlmagent.config import Config
from vlmagent.training.distributed.hosts import read_hostfile
from vlmagent.training.distributed.zero_config import read_zero_config
from vlmagent.training.plan.hardware import Hardware

BUCKET = 500_000_000
"""Numbers that DeepSpeed exchanges at once when its configuration does not say."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that one process holds all the time.

    Attributes:
        weights: the network's, adapters and value head.
        optimizer: AdamW's moments, and the copy of the weights that DeepSpeed steps.
        exchange: room for gradients on their way between processes.
        gathered: weights that are there beside ``weights`` while outputs are sampled.
    """

    weights: float
    gradients: float
    optimizer: float
    exchange: float
    gathered: float

    @property
    def total(self) -> float:
        """All of it but ``gathered``."""
        return self.weights + self.gradients + self.optimizer + self.exchange


@dataclass(frozen=True, slots=True)
class Share:
    """How a run is divided.

    Attributes:
        processes: how many there are.
        machines: that they run on; equally many on each.
        stage: of ZeRO; one process alone has none.
        bucket: numbers that are exchanged at once.
    """

    processes: int
    machines: int
    stage: int
    bucket: int

    @classmethod
    def of(cls, config: Config) -> Share:
        """As a config says.

        Raises:
            UsageError: its DeepSpeed configuration or hostfile cannot be read.
        """
        wanted = config.distributed
        if wanted.processes == 1:
            return cls(1, 1, 0, 0)
        machines = 1 if wanted.hostfile is None else len(read_hostfile(Path(wanted.hostfile)))
        zero = read_zero_config(wanted.deepspeed).get("zero_optimization", {})
        # "auto" leaves it to DeepSpeed too
        bucket = zero.get("reduce_bucket_size", BUCKET)
        return cls(
            wanted.processes, machines, int(zero.get("stage", 0)), BUCKET if bucket == "auto" else int(bucket)
        )

    def part(self, total: int) -> int:
        """One process's share of ``total`` samples or environments, at least one."""
        return max(1, total // self.processes)

    def memory(self, weights: float, trained: int) -> Memory:
        """What one process holds.

        Args:
            weights: bytes of all weights.
            trained: parameters that learn, in float32.
        """
        count, stage = self.processes, self.stage
        copied = stage in (1, 2)  # stage 3 steps its parts of the float32 weights themselves
        held = weights / count if stage == 3 else weights
        return Memory(
            weights=held,
            # float32: 4 bytes a number; AdamW has two moments (8), ZeRO's copy of the weights makes it 12
            gradients=4.0 * trained / (count if stage >= 2 else 1),
            optimizer=(12.0 if copied else 8.0) * trained / (count if stage >= 1 else 1),
            # stage 0 exchanges the gradients themselves: no buffer is larger than they are
            exchange=4.0 * (self.bucket if stage else min(self.bucket, trained)),
            gathered=weights if stage == 3 else 0.0,
        )

    def device(self, hardware: Hardware) -> Hardware:
        """What one process has of a device: a GPU of its own, or its part of the machine's cores and memory."""
        # rounded up: the fullest machine
        neighbours = -(-self.processes // self.machines)
        if hardware.kind == "cuda" or neighbours == 1:
            return hardware
        return replace(
            hardware,
            memory=hardware.memory // neighbours,
            flops=hardware.flops / neighbours,
            bandwidth=hardware.bandwidth / neighbours,
        )
