"""Micro-batches: how many samples go through the network together, and what happens when memory runs out.

Knows nothing of what a sample is beside its number of tokens; all it touches is the device's memory, to give it back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch

T = TypeVar("T")

OUT_OF_MEMORY = re.compile(
    r"out of memory"  # torch, CUDA, ROCm, MPS, NCCL, DeepSpeed and bitsandbytes
    r"|can't allocate memory"  # torch on the CPU: DefaultCPUAllocator
    r"|cannot allocate memory|std::bad_alloc"  # the system and C++ libraries
    r"|(CUBLAS|CUDNN|CUSPARSE|CUSOLVER|CUFFT|MIOPEN|ROCBLAS|HIPBLAS)\w*_ALLOC(ATION)?_FAILED"
    r"|(cuda|hip)ErrorMemoryAllocation|cudaErrorOutOfMemory|ncclSystemError.*memory",
    re.IGNORECASE,
)
"""What libraries say when memory runs out, all of it in a RuntimeError: torch makes only its own allocator's error a
class of its own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, whichever library found no more of it.

    Errors of libraries are often wrapped: those that it came from count too, where it names none itself.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(cause, RuntimeError | OSError) and OUT_OF_MEMORY.search(str(cause)):
            return True
        # __cause__ is set by `raise ... from`: who wrapped the error meant this one
        cause = cause.__cause__
    return False


class Size(NamedTuple):
    """Tokens of one sample: prompt (its picture included) and output."""

    prompt: int
    output: int


class MicroBatcher:
    """Splits a batch into micro-batches; after running out of memory into smaller ones, for good.

    Args:
        max_rows: samples per micro-batch at most.
        max_tokens: if positive, tokens per micro-batch at most, padding included; samples of like length then go
            together. If 0, samples stay in order.
        section: of the config, where both are set.
    """

    def __init__(self, max_rows: int, max_tokens: int = 0, section: str = "ppo") -> None:
        self.max_rows = max_rows
        self.max_tokens = max_tokens
        self.section = section
        self.shrunk = 0
        """How often memory ran out."""

    def split(self, sizes: Sequence[Size]) -> list[list[int]]:
        """Indices of every sample, by micro-batch."""
        if not self.max_tokens:
            every = range(len(sizes))
            return [list(every[start : start + self.max_rows]) for start in every[:: self.max_rows]]
        # longest first: what stands next to each other is of like length, and the largest pass, which memory is most
        # likely to be short for, is the first; the index makes the order the same every time
        order = sorted(range(len(sizes)), key=lambda index: (-sum(sizes[index]), index))
        groups: list[list[int]] = []
        for index in order:
            candidate = [*groups[-1], index] if groups else [index]
            fits = (
                len(candidate) <= self.max_rows and padded([sizes[i] for i in candidate]) <= self.max_tokens
            )
            if groups and fits:
                groups[-1] = candidate
            else:
                groups.append([index])
        return groups

    def shrink(self, sizes: Sequence[Size]) -> bool:
        """Halve what may go together, since a micro-batch of these ``sizes`` ran out of memory.

        Returns:
            False if it cannot be made smaller.
        """
        if len(sizes) < 2:
            return False
        if self.max_tokens:
            # half of what it held, which may be less than what was allowed
            self.max_tokens = min(self.max_tokens, padded(sizes)) // 2
        else:
            self.max_rows = min(self.max_rows, len(sizes)) // 2
        self.shrunk += 1
        return True

    def advice(self, sizes: Sequence[Size]) -> str:
        """What to set when a micro-batch of these ``sizes`` ran out of memory and cannot be tried again."""
        if len(sizes) < 2:
            return "model.activation_checkpointing=true, since it held a single sample"
        if self.max_tokens:
            tokens = padded(sizes)
            return f"{self.section}.max_tokens_per_micro_batch={tokens // 2} (it held {tokens:,} tokens)"
        return f"{self.section}.micro_batch_size={len(sizes) // 2} (it held {len(sizes):,} samples)"

    def describe(self) -> str:
        """What a micro-batch holds at most."""
        tokens = f"{self.max_tokens:,} tokens and " if self.max_tokens else ""
        return f"{tokens}{self.max_rows:,} samples"


def padded(sizes: Sequence[Size]) -> int:
    """Tokens that samples take as one batch: prompts are padded on the left, outputs on the right."""
    width = max(size.prompt for size in sizes) + max(size.output for size in sizes)
    return len(sizes) * width


def free_memory() -> None:
    """Give cached blocks back to the device, so that a smaller batch finds room."""
    # torch keeps freed blocks for sizes like theirs; another size finds no room among them
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def in_micro_batches(
    batcher: MicroBatcher, sizes: Sequence[Size], go: Callable[[Sequence[int]], Sequence[T]]
) -> list[T]:
    """Take all samples through the network without going back, in as many micro-batches as memory needs.

    Args:
        batcher: made smaller, for good, when memory runs out; what was done before that is kept.
        sizes: of the samples.
        go: results of some samples, by index, in the order given.

    Returns:
        One result per sample, in their own order.

    Raises:
        RuntimeError: there is no memory for a single sample (whatever the library raised).
    """
    results: dict[int, T] = {}
    while len(results) < len(sizes):
        # rows that were done before memory ran out stay done
        left = [index for index in range(len(sizes)) if index not in results]
        # of the attempt that fails, should there be one
        group: list[int] = []
        try:
            for places in batcher.split([sizes[index] for index in left]):
                group = [left[place] for place in places]
                results.update(zip(group, go(group), strict=True))
            break
        except (RuntimeError, MemoryError, OSError) as error:
            if not is_out_of_memory(error) or not batcher.shrink([sizes[index] for index in group]):
                raise
        free_memory()  # after the handler: the error's traceback holds the failed attempt's tensors
    return [results[index] for index in range(len(sizes))]
