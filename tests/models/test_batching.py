"""Micro-batches: by count, by tokens, and smaller once memory ran out."""

import pytest
import torch

from vlmagent.errors import RunFailedError
from vlmagent.models.batching import MicroBatcher, Size, in_micro_batches, is_out_of_memory, padded


def test_by_count_in_order():
    assert MicroBatcher(2).split([Size(9, 9)] * 5) == [[0, 1], [2, 3], [4]]
    assert MicroBatcher(8).split([Size(1, 1)] * 3) == [[0, 1, 2]]


def test_by_tokens_with_like_lengths_together():
    sizes = [Size(10, 2), Size(10, 8), Size(10, 1), Size(10, 8), Size(10, 2)]
    groups = MicroBatcher(64, 36).split(sizes)
    assert groups == [[1, 3], [0, 2, 4]] or groups == [[1, 3], [0, 4, 2]]
    assert all(padded([sizes[index] for index in group]) <= 36 for group in groups)


def test_prompts_and_outputs_are_padded_apart():
    assert padded([Size(10, 1), Size(2, 9)]) == 2 * 19


def test_a_sample_longer_than_the_budget_goes_alone():
    assert MicroBatcher(8, 5).split([Size(10, 1), Size(2, 1)]) == [[0], [1]]


def test_the_count_bounds_the_budget_too():
    assert [len(group) for group in MicroBatcher(3, 10_000).split([Size(1, 1)] * 7)] == [3, 3, 1]


def test_shrinking_halves_what_failed():
    batcher = MicroBatcher(64)
    assert batcher.shrink([Size(0, 0)] * 10)
    assert batcher.max_rows == 5
    tokens = MicroBatcher(64, 1000)
    assert tokens.shrink([Size(5, 5)] * 20)
    assert tokens.max_tokens == 100
    assert tokens.shrunk == 1
    assert tokens.describe() == "100 tokens and 64 samples"


def test_one_sample_cannot_shrink():
    batcher = MicroBatcher(64, 1000)
    assert not batcher.shrink([Size(900, 90)])
    assert batcher.max_tokens == 1000
    assert batcher.shrunk == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("CUDA driver error: cudaErrorMemoryAllocation"),
        RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.1 GB)"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("NCCL error: unhandled cuda error ... Cuda failure 2 'out of memory'"),
        RuntimeError("Error out of memory at line 380 in file /src/csrc/ops.cu"),  # bitsandbytes
        OSError(12, "Cannot allocate memory"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_every_librarys_way_to_say_it(error: BaseException):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"),
        ValueError("out of memory"),  # no library raises it so: it is about something else
        OSError(28, "No space left on device"),
        KeyError("memory"),
    ],
)
def test_other_errors_are_not_taken_for_it(error: BaseException):
    assert not is_out_of_memory(error)


def test_what_an_error_came_from_counts():
    error = RunFailedError("cannot go on")
    assert not is_out_of_memory(error)
    error.__cause__ = RuntimeError("CUDA error: out of memory")
    assert is_out_of_memory(error)


class TestWithoutGoingBack:
    """Scoring in micro-batches that get smaller when memory runs out."""

    SIZES = (Size(4, 1), Size(2, 1), Size(4, 1), Size(2, 1), Size(3, 1))

    def test_results_are_in_their_own_order(self):
        batcher = MicroBatcher(2, max_tokens=100)
        assert in_micro_batches(batcher, self.SIZES, lambda group: [10 * i for i in group]) == [
            0,
            10,
            20,
            30,
            40,
        ]

    def test_what_is_done_is_kept(self):
        batcher, asked = MicroBatcher(4), []

        def go(group):
            asked.append(list(group))
            if len(group) > 2:
                raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")
            return list(group)

        assert in_micro_batches(batcher, self.SIZES, go) == [0, 1, 2, 3, 4]
        assert asked == [[0, 1, 2, 3], [0, 1], [2, 3], [4]]
        assert (batcher.max_rows, batcher.shrunk) == (2, 1)

    def test_a_single_sample_without_room(self):
        def go(group):
            raise MemoryError("no room")

        with pytest.raises(MemoryError, match="no room"):
            in_micro_batches(MicroBatcher(4), self.SIZES, go)

    def test_other_errors_go_on(self):
        def go(group):
            raise RuntimeError("shapes differ")

        batcher = MicroBatcher(4)
        with pytest.raises(RuntimeError, match="shapes differ"):
            in_micro_batches(batcher, self.SIZES, go)
        assert batcher.shrunk == 0
