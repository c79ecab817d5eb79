"""Pictures as block characters: a character, the colour of its drawn part and that of the rest for each cell.

Half blocks have two pixels in a cell and are in every font; quadrants have four, of which a cell can have two colours:
twice as sharp from left to right, which is what small digits need. Arrays in, arrays out; draws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlmagent.tui.data.half_cells import half_cells, size_in_cells
from vlmagent.types import ImageArray

GLYPHS = " ▀▌▘▝▖▗▚"
# for each of them, which of the four pixels (upper left and right, lower left and right) it draws; the complements are
# the same characters with the colours exchanged
_DRAWN = np.array(
    [
        [0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0],
        [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 1],
    ],
    dtype=np.float32,
)  # fmt: skip
_ROUNDING = 4  # colours are rounded to steps of 4 of 255, which nobody sees, so that styles repeat


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """(rows, columns) each: index into ``GLYPHS``, and colours as 0xRRGGBB."""

    glyph: NDArray[np.int64]
    front: NDArray[np.int64]
    back: NDArray[np.int64]


def halves(image: ImageArray, columns: int, rows: int) -> Cells:
    """The largest picture of this aspect in ``columns`` x ``rows`` cells, of half blocks."""
    pixels = half_cells(image, columns, rows)
    upper, lower = _packed(pixels[0::2]), _packed(pixels[1::2])
    # a cell of one colour is a blank: less to write, and nothing to be seen of the font
    return Cells((upper != lower).astype(np.int64), upper, lower)


def quadrants(image: ImageArray, columns: int, rows: int) -> Cells:
    """The same of quadrants: of all characters and pairs of colours, in each cell those nearest to its four pixels."""
    c, r = size_in_cells(image.shape[1], image.shape[0], columns, rows)
    small = Image.fromarray(image).resize((2 * c, 2 * r), Image.Resampling.BOX)
    # (r, c, 4, 3): the pixels of each cell together
    pixels = (
        np.asarray(small, dtype=np.float32)
        .reshape(r, 2, c, 2, 3)
        .transpose(0, 2, 1, 3, 4)
        .reshape(r, c, 4, 3)
    )
    counts = _DRAWN.sum(1)[:, None]
    # (r, c, 8, 3): the sum over the drawn pixels, for each character; the best colour of a part is its mean
    drawn = np.einsum("gp,rcpk->rcgk", _DRAWN, pixels)
    rest = pixels.sum(2, keepdims=True) - drawn
    front, back = drawn / np.maximum(counts, 1), rest / (4 - counts)
    # the squared error is what the pixels have in common less this; where several are as good the first one is taken
    explained = ((front * drawn) + (back * rest)).sum(3)
    best = np.argmax(np.round(explained), axis=2)
    # (r, c, 3): the colours of the chosen character
    chosen = best[..., None, None]
    colours = [_packed(np.take_along_axis(of, chosen, 2)[:, :, 0]) for of in (front, back)]
    return Cells(np.where(colours[0] == colours[1], 0, best), colours[0], colours[1])


def _packed(colours: NDArray[np.floating] | NDArray[np.uint8]) -> NDArray[np.int64]:
    """Rounded colours (..., 3) as one number each, so that a single comparison finds equal ones."""
    rounded = np.minimum((colours + _ROUNDING / 2) // _ROUNDING * _ROUNDING, 255).astype(np.int64)
    packed: NDArray[np.int64] = rounded[..., 0] << 16 | rounded[..., 1] << 8 | rounded[..., 2]
    return packed
