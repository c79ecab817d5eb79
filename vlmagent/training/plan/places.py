"""What a run takes of the machine beside its device: memory of the host, and room on the disks."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from vlmagent import paths
from vlmagent.config import Config
from vlmagent.training.plan.memory import FLOAT, RESERVE, Held, weight_bytes
from vlmagent.training.plan.share import Share
from vlmagent.training.plan.sizes import Sizes
from vlmagent.training.preflight import needed_bytes


@dataclass(frozen=True, slots=True)
class Host:
    """Bytes that all processes of one machine take of its memory, and how many there are here.

    Attributes:
        loading: while every process opens the checkpoint: all weights, before they go to its device.
        training: later: encoded states that are kept, at most; when a checkpoint is written the first process also has
            the optimiser's moments there.
    """

    loading: float
    training: float
    there: int

    @property
    def needed(self) -> float:
        """At the fuller moment."""
        return max(self.loading, self.training)


def host_memory(config: Config, sizes: Sizes, share: Share, held: Held) -> Host:
    """Of a machine whose devices have memory of their own; on the CPU ``held`` says it all."""
    neighbours = -(-share.processes // share.machines)  # rounded up
    # quantised weights go to their device as they are read
    whole = 0.0 if config.model.quantization != "none" else weight_bytes(config, sizes, held.half)
    # put together whole in the first process when it writes a checkpoint
    moments = 2.0 * FLOAT * sizes.trained
    return Host(
        loading=neighbours * (RESERVE + whole),
        training=neighbours * (RESERVE + held.states) + moments,
        there=psutil.virtual_memory().total,
    )


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that will be written to a folder's disk, and how many are free there.

    Attributes:
        what: is written.
    """

    what: str
    folder: Path
    needed: int
    free: int

    @property
    def enough(self) -> bool:
        """Whether it fits."""
        return self.needed <= self.free


def rooms(config: Config, sizes: Sizes, run: Path | None) -> list[Room]:
    """The run itself, and the supervised start that is kept for later runs.

    Args:
        run: where the run is to lie; None for the usual place.
    """
    saved = FLOAT * (sizes.adapters or sizes.held)  # whole weights learn in float32, and are saved so
    head = FLOAT * sizes.value_head
    needed = needed_bytes(config, saved + head, FLOAT * sizes.trained)
    wanted = [("the run", run or paths.runs_dir(), needed)]
    if config.sft.all_samples:
        wanted.append(("the supervised start, kept", paths.cache_dir(), saved))
    return [
        # a folder that is not there yet lies on the disk of its nearest parent
        Room(what, folder, amount, shutil.disk_usage(paths.existing(folder)).free)
        for what, folder, amount in wanted
    ]
