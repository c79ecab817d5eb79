"""Pictures as characters: two pixels to a cell, one above the other. Arrays in, arrays out; draws nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlmagent.types import ImageArray


def half_cells(image: ImageArray, columns: int, rows: int) -> NDArray[np.uint8]:
    """The pixels to draw in ``columns`` x ``rows`` cells, uint8 (2r, c, 3) with c <= columns, r <= rows."""
    c, r = size_in_cells(image.shape[1], image.shape[0], columns, rows)
    # the mean of the pixels below each half cell: thin strokes become paler but do not vanish
    small = Image.fromarray(image).resize((c, 2 * r), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8)


def size_in_cells(width: int, height: int, columns: int, rows: int) -> tuple[int, int]:
    """Columns and rows of the largest picture of this aspect in ``columns`` x ``rows`` cells; at least 1 x 1."""
    # a cell is about twice as high as it is wide, so that half of one is a square
    scale = min(columns / max(width, 1), 2 * rows / max(height, 1))
    c = min(columns, max(1, round(width * scale)))
    r = min(2 * rows, max(2, round(height * scale)))
    return c, (r + 1) // 2
