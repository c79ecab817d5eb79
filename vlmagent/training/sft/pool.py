"""A limited number of supervised samples, made once and shown again: for environments that are slow to play.

Knows nothing of tasks and training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np

from vlmagent.seeding import derive
from vlmagent.store.codec import decode_image, encode_image
from vlmagent.types import SftSample


class SamplePool:
    """The first ``size`` samples of a stream; pictures are kept as PNG.

    Args:
        samples: where they come from; asked for no more than is needed.
    """

    def __init__(self, samples: Iterator[SftSample], size: int) -> None:
        self.size = size
        self._source = samples
        self._kept: list[tuple[SftSample, bytes | None]] = []

    def stream(self, seed: int) -> Iterator[SftSample]:
        """Endless samples: as they were made the first time round, in a new order each further time."""
        for turn in count():
            rng = np.random.default_rng(derive(seed, "pool", turn))
            # the first time round in order: nothing is made before it is needed
            order = rng.permutation(self.size).tolist() if turn else range(self.size)
            for index in order:
                yield self._sample(index)

    def _sample(self, index: int) -> SftSample:
        while len(self._kept) <= index:
            sample = next(self._source)
            # a picture of 300 x 300 takes 270 kB as it is
            picture = None if sample.image is None else encode_image(sample.image)
            self._kept.append((replace(sample, image=None), picture))
        sample, picture = self._kept[index]
        return sample if picture is None else replace(sample, image=decode_image(picture))
