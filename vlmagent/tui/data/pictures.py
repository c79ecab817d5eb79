"""Decoded pictures of a run database, the most recently used ones kept.

Deliberately knows no widget.
"""

from __future__ import annotations

from cachetools import LRUCache

from vlmagent.tui.data.source import Source
from vlmagent.types import ImageArray

KEPT_BYTES = 32 * 2**20
"""Some hundred pictures of 300 x 300: an episode, so that stepping back and forth decodes nothing twice."""


class Pictures:
    """Reads pictures through a source.

    Args:
        source: the database; closed by its owner.
        most_bytes: how much is kept. A picture that is larger alone is read each time.
    """

    def __init__(self, source: Source, most_bytes: int = KEPT_BYTES) -> None:
        self._source = source
        self._kept: LRUCache[str, ImageArray] = LRUCache(most_bytes, getsizeof=lambda image: image.nbytes)

    def known(self, sha256: str) -> ImageArray | None:
        """A picture that is kept."""
        return self._kept.get(sha256)

    async def read(self, sha256: str) -> ImageArray:
        """A picture, uint8 (H, W, 3).

        Raises:
            StoreError: there is no such picture, or it cannot be read.
        """
        found = self._kept.get(sha256)
        if found is None:
            read = await self._source.query(lambda reader: reader.image(sha256))
            found = self._kept.get(sha256, read)  # somebody else may have asked for it at the same time
            # the cache raises at a value that is larger than all its room
            if found.nbytes <= self._kept.maxsize:
                self._kept[sha256] = found
        return found
