"""How values look inside the database: text any tool can read, floats exact to the bit, lossless pictures.

Deliberately knows no SQL and no table.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from vlmagent.types import ImageArray

SCHEMA_VERSION = 4
"""Number of migrations of this program; ``PRAGMA user_version`` of a current database."""
OLDEST_READABLE = 1
"""The oldest schema with all tables and columns that the reader asks for. Later ones added indexes (2) and the
tables ``answers`` and ``failures`` (3), which the reader takes for empty where they are not there, and the column
``actor`` of transitions (4), which it then takes for NULL."""
PNG = "image/png"


def clean_text(text: str) -> str:
    """``text`` as valid Unicode: surrogate pairs are joined, lone surrogates become U+FFFD. NUL stays."""
    # nearly all text is valid: encoding it once is the cheapest test
    try:
        text.encode()
    except UnicodeEncodeError:
        # UTF-16 pairs surrogates by its own rules; SQLite stores UTF-8, in which a lone one cannot be written
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def encode_ints(values: NDArray[np.int64]) -> str:
    """A JSON array of integers."""
    return json.dumps(np.asarray(values).tolist(), separators=(",", ":"))


def decode_ints(text: str) -> NDArray[np.int64]:
    """The inverse of ``encode_ints``."""
    return np.array(json.loads(text), dtype=np.int64)


def encode_floats(values: NDArray[np.float32]) -> str:
    """A JSON array of the shortest decimals that give back exactly the same float32 values.

    JSON has no words for the others: infinities are written ``1e999`` and ``-1e999``, which JSON readers and
    SQLite overflow to infinity, and NaN is ``null``.
    """
    array = np.asarray(values, dtype=np.float32)
    # numpy's own `str` of a float32 is its shortest decimal, about half as long as a float64's
    texts = [str(value) for value in array]
    if np.isfinite(array).all():
        # as any reader of JSON will do it: first to float64, then to float32. Rounding twice may hit the neighbour
        read = np.array([float(text) for text in texts], dtype=np.float64).astype(np.float32)
        if not np.array_equal(read, array):  # so near a midpoint that float64 errs
            texts = [repr(float(value)) for value in array]
        return f"[{','.join(texts)}]"
    words = {"nan": "null", "inf": "1e999", "-inf": "-1e999"}
    # beside NaN and infinities the digits of float64: longer, but certain for the finite ones
    exact = [repr(float(value)) for value in array]
    return f"[{','.join(words.get(text, text) for text in exact)}]"


def decode_floats(text: str) -> NDArray[np.float32]:
    """The inverse of ``encode_floats``, bit by bit."""
    wide = [math.nan if value is None else value for value in json.loads(text)]
    return np.array(wide, dtype=np.float64).astype(np.float32)


def number(value: Any) -> float | None:
    """``value`` as SQLite takes it: a Python float, or None (SQLite has no NaN)."""
    if value is None:
        return None
    plain = float(value)
    return None if math.isnan(plain) else plain


def picture_key(image: ImageArray) -> bytes:
    """Equal for equal pictures, of their pixels and size: for caches, in memory.

    No cryptographic digest, which takes thirty times as long (0.2 ms for 300 x 300): an update asks for each of its
    pictures in every epoch, which was a tenth of a small model's update.
    """
    digest = xxhash.xxh3_128(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def image_key(image: ImageArray) -> str:
    """SHA-256 over the shape and the raw bytes of a picture, as hexadecimal text."""
    # the shape first: the same bytes as 2 x 8 and as 4 x 4 are two pictures. Not over the PNG: a picture that is
    # already stored need not be encoded to be found
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def encode_image(image: ImageArray) -> bytes:
    """A picture, uint8 (H, W, 3), as PNG: lossless, compressed for speed."""
    from PIL import Image

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a picture must be uint8 of shape (H, W, 3), not {image.dtype} {image.shape}")
    # level 1 of 9: the fastest that still compresses; encoding stands in the way of every environment step
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_image(data: bytes) -> ImageArray:
    """The inverse of ``encode_image``."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.uint8)
