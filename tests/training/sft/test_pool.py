"""A limited number of samples that are shown again and again."""

from itertools import count, islice

import numpy as np

from vlmagent.training.sft.pool import SamplePool
from vlmagent.types import SftSample


def test_samples_come_back_in_other_orders_and_no_more_are_made() -> None:
    made: list[int] = []

    def source():
        for index in count():
            made.append(index)
            yield SftSample(np.full((2, 3, 3), index, np.uint8), f"prompt {index}", f"response {index}")

    pool = SamplePool(source(), 5)
    stream = pool.stream(seed=1)
    assert [s.prompt for s in islice(stream, 2)] == ["prompt 0", "prompt 1"]
    assert made == [0, 1], "nothing is made before it is needed"
    rest = list(islice(stream, 13))
    assert [s.prompt for s in rest[:3]] == ["prompt 2", "prompt 3", "prompt 4"]
    turns = [[int(s.prompt.split()[1]) for s in rest[start : start + 5]] for start in (3, 8)]
    assert [sorted(turn) for turn in turns] == [[0, 1, 2, 3, 4]] * 2
    assert turns[0] != turns[1]
    assert made == [0, 1, 2, 3, 4]
    for sample in rest:
        assert sample.image is not None
        assert sample.image.shape == (2, 3, 3)
        assert (sample.image == int(sample.response.split()[1])).all()


def test_a_second_stream_starts_from_the_same_samples_in_an_order_of_its_own() -> None:
    pool = SamplePool(
        (SftSample(None, str(index), "") for index in range(6)),  # no more than 6 can be asked for
        6,
    )
    one, other = (list(islice(pool.stream(seed), 12)) for seed in (1, 2))
    assert one[:6] == other[:6]
    assert one[6:] != other[6:]
    assert sorted(s.prompt for s in one[6:]) == sorted(s.prompt for s in other[6:])
    assert list(islice(pool.stream(1), 12)) == one
