"""A cache bounded by the memory that its values take, which knows how often it helped.

cachetools does the work; what is added: values too large to be kept are used all the same, and hits are counted, so
that a cache that only turns over is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SizedCache(Generic[K, V]):
    """Values by key; the least recently used go first.

    Args:
        max_bytes: that all values may take together.
        size: bytes that one value takes.

    Attributes:
        hits, misses: of ``find``.
    """

    def __init__(self, max_bytes: int, size: Callable[[V], int]) -> None:
        self._size = size
        self._kept: LRUCache[K, V] = LRUCache(max_bytes, getsizeof=size)
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes that the kept values take."""
        return int(self._kept.currsize)

    def find(self, key: K) -> V | None:
        """The value of a key, or None."""
        value = self._kept.get(key)
        if value is None:
            self.misses += 1
        else:
            self.hits += 1
        return value

    def keep(self, key: K, value: V) -> None:
        """Keep a value, unless it alone is larger than the cache may be."""
        # an entry that is larger than the whole cache would make cachetools raise
        if self._size(value) <= self._kept.maxsize:
            self._kept[key] = value

    def find_or_make(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key; made and kept where there is none."""
        value = self.find(key)
        if value is None:
            value = make()
            self.keep(key, value)
        return value
