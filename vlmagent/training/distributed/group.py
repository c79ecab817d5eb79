"""Several processes over torch.distributed: implements ``ranks.Ranks``.

Messages go through gloo whatever the gradients go through, so that they need no GPU memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T")
WAIT = timedelta(days=7)
"""How long a process may wait for another that is alive; a dead one is noticed at once (see ``lifeline``)."""


@dataclass(frozen=True, slots=True)
class Group:
    """Several processes, over torch.distributed.

    Attributes:
        messages: a gloo group of all of them.
    """

    rank: int
    world: int
    messages: Any

    def table(self, values: Sequence[float]) -> NDArray[np.float64]:
        """Every process's values, (world, n)."""
        # float64 holds counts exactly, and is precise enough for losses
        own = torch.tensor(list(values), dtype=torch.float64)
        rows = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(rows, own, group=self.messages)
        return torch.stack(rows).numpy()

    def gather(self, item: T) -> list[T]:
        """Every process's item, in the first."""
        received: list[Any] | None = [None] * self.world if self.rank == 0 else None
        dist.gather_object(item, received, dst=0, group=self.messages)
        return received or []

    def share(self, item: T) -> T:
        """The first process's item."""
        box = [item]
        dist.broadcast_object_list(box, src=0, group=self.messages)
        return box[0]

    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with the first process's."""
        for tensor in tensors:
            received = tensor.detach().cpu().contiguous()
            # gloo moves contiguous numbers in the host's memory, wherever the tensor is
            dist.broadcast(received, src=0, group=self.messages)
            with torch.no_grad():
                tensor.copy_(received)


def join(device: str) -> Group:
    """Meet the other processes: number, address and count come from the environment, as launchers set them.

    Args:
        device: ``cpu``, or ``cuda`` for one GPU a process.
    """
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device == "cuda":
        # each process on a GPU of its own, before NCCL looks for one
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=WAIT)
    return Group(rank, world, dist.new_group(backend="gloo", timeout=WAIT))


def leave() -> NoReturn:
    """Close the connections and end this process with 0, once all processes are done.

    Gloo's threads may still hold tensors then. Where they let go of them while the interpreter is being torn down, the
    process aborts; so it is not torn down.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    # os._exit writes no buffers
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
