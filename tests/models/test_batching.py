"""Micro-batches: by count, by tokens, and smaller once memory ran out."""

from vlmagent.models.batching import MicroBatcher, Size, padded


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
