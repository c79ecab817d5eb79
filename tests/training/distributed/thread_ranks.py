"""Several processes played by threads: what they say to each other goes through memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


class Meeting:
    """Where the threads leave what they have to say."""

    def __init__(self, world: int) -> None:
        self.barrier = threading.Barrier(world, timeout=60)
        self.said: list[Any] = [None] * world

    def exchange(self, rank: int, item: Any) -> list[Any]:
        self.said[rank] = item
        self.barrier.wait()
        everything = list(self.said)
        self.barrier.wait()
        return everything


@dataclass
class ThreadRanks:
    """Implements ``ranks.Ranks``."""

    rank: int
    world: int
    meeting: Meeting = field(repr=False)

    def table(self, values: Sequence[float]) -> np.ndarray:
        return np.array(self.meeting.exchange(self.rank, list(values)), dtype=np.float64)

    def gather(self, item: Any) -> list[Any]:
        everything = self.meeting.exchange(self.rank, item)
        return everything if self.rank == 0 else []

    def share(self, item: Any) -> Any:
        return self.meeting.exchange(self.rank, item)[0]

    def copy(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            first = self.meeting.exchange(self.rank, tensor.detach().clone())[0]
            with torch.no_grad():
                tensor.copy_(first)


def together(world: int, work: Callable[[ThreadRanks], Any]) -> list[Any]:
    """What ``work`` returns in each of ``world`` processes; raises what one of them raised."""
    meeting = Meeting(world)
    results: list[Any] = [None] * world
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadRanks(rank, world, meeting))
        except BaseException as error:
            errors.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return results
