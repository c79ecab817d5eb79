"""Gradients of a batch that is too large to go through the network at once, over one process or several.

Knows neither losses nor what a sample is: it is handed a function that goes forward and back with some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from vlmagent.errors import RunFailedError
from vlmagent.models.batching import MicroBatcher, Size, free_memory, is_out_of_memory
from vlmagent.training.distributed.ranks import Ranks
from vlmagent.training.engines.base import Engine

T = TypeVar("T")


def accumulate(
    engine: Engine,
    ranks: Ranks,
    batcher: MicroBatcher,
    sizes: Sequence[Size],
    go: Callable[[Sequence[int], bool], T],
) -> list[T]:
    """Go forward and back with all samples of this process, in as many micro-batches as memory needs.

    Running out of memory discards everything and begins again with smaller micro-batches. With an engine that averages
    in each pass that cannot be: the other processes are in the middle of going back and need this one.

    Args:
        sizes: of this process's samples, at least one.
        go: takes some of them, by index, through the network and back; its flag says whether they count. Where they do
            not, the gradients must be zero: it is a pass that the other processes wait for.

    Returns:
        What ``go`` returned for each micro-batch that counts.

    Raises:
        RunFailedError: memory ran out where it cannot be tried again; says what to set.
        RuntimeError: there is no memory for a single sample (whatever the library raised).
    """
    together = engine.averages_each_pass and ranks.world > 1
    while True:
        done: list[T] = []
        group: list[int] = []
        try:
            for group in batcher.split(sizes):
                measured = go(group, True)
                done.append(measured)
            # a process with fewer micro-batches than another goes along with passes that weigh nothing, until all
            # have made equally many; any sample will do for them
            if together:
                for _ in range(len(done), int(ranks.table([len(done)]).max())):
                    group = [0]
                    go(group, False)
            return done
        except (RuntimeError, MemoryError, OSError) as error:
            # libraries raise these for much else too: only the text tells
            if not is_out_of_memory(error):
                raise
            failed = [sizes[index] for index in group]
            if together:
                raise _cannot_recover(batcher, failed) from error
            # what earlier micro-batches added is cleared too: the next attempt goes through all samples again
            engine.discard()
            if not batcher.shrink(failed):
                raise
        free_memory()  # only now: the failed attempt has let go of its tensors


def _cannot_recover(batcher: MicroBatcher, sizes: Sequence[Size]) -> RunFailedError:
    return RunFailedError(
        f"Memory ran out with a micro-batch of {len(sizes)} samples, and this stage of ZeRO cannot try again with "
        f"less: resume with --set {batcher.advice(sizes)}, or with --deepspeed zero1, which makes micro-batches "
        "smaller by itself."
    )
