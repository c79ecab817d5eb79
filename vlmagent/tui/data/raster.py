"""Curves as braille dots, and axis ticks: arrays in, arrays and numbers out.

Deliberately knows no widget and no colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Cells = NDArray[np.uint8]

DOTS_X, DOTS_Y = 2, 4
"""Dots of one braille character."""
LARGEST_POWER = 308
"""Of ten, in a float."""
# (DOTS_Y, DOTS_X): the bit of each dot in a braille character. Unicode counts three dots down the left column and three
# down the right one; the fourth row came later and has the two highest bits
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Span:
    """A range of data values; ``low < high``."""

    low: float
    high: float

    def place(self, values: Floats) -> Floats:
        """``values`` as positions in [0, 1] (outside of it where they lie outside)."""
        return (values - self.low) / (self.high - self.low)


def span_of(values: Floats, low: float | None = None, high: float | None = None, pad: float = 0.05) -> Span:
    """A span that holds all finite ``values`` with some air, and ends at ``low`` and ``high`` where given."""
    known = values[np.isfinite(values)]
    # a fixed end wins over the values, which are then drawn at the edge
    bottom = float(known.min()) if known.size else 0.0
    if low is not None:
        bottom = low
    top = float(known.max()) if known.size else bottom + 1.0
    if high is not None:
        top = high
    # all values are equal, or a fixed end lies beyond them: a tenth of the value (0.5 at 0) around it
    if not top > bottom:
        half = abs(bottom) * 0.1 or 0.5
        top = bottom + half
        if low is None:
            bottom -= half
    air = pad * (top - bottom)
    return Span(bottom - (0.0 if low is not None else air), top + (0.0 if high is not None else air))


def curve(x: Floats, y: Floats, span_x: Span, span_y: Span, columns: int, rows: int) -> Cells:
    """One curve as braille bits.

    Where several points share a column of dots their whole range is drawn, so that no spike is lost.

    Args:
        x: (N,) ascending. Points with a NaN are left out.
        y: (N,)
        columns, rows: size in characters.

    Returns:
        uint8 (rows, columns): the low byte of each braille character; 0 where nothing is.
    """
    width, height = columns * DOTS_X, rows * DOTS_Y
    bottom, top = _column_ranges(x, y, span_x, span_y, width, height)
    levels = np.arange(height)[:, None]  # (height, 1)
    dots = (levels >= top[None, :]) & (levels <= bottom[None, :])  # (height, width)
    # (rows, columns, DOTS_Y, DOTS_X): the dots of each character together
    blocks = dots.reshape(rows, DOTS_Y, columns, DOTS_X).transpose(0, 2, 1, 3)
    bits: Cells = np.where(blocks, _BITS, np.uint8(0)).sum(axis=(2, 3)).astype(np.uint8)
    return bits


def _column_ranges(
    x: Floats, y: Floats, span_x: Span, span_y: Span, width: int, height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lowest and highest dot of every column of dots, counted from the top; bottom < top where nothing is."""
    # an empty range, so that columns without a curve have no dot
    bottom, top = np.full(width, -1), np.full(width, height)
    known = np.isfinite(x) & np.isfinite(y)
    # in dots; levels count from the top
    at, level = span_x.place(x[known]) * (width - 1), (1 - span_y.place(y[known])) * (height - 1)
    # points outside are kept for the interpolation: the curve leads in from the edge
    seen = (at > -1) & (at < width)
    if not seen.any():
        return bottom, top
    first, last = max(0, math.ceil(at[0] - 0.5)), min(width - 1, math.floor(at[-1] + 0.5))
    # every column of dots between the first and the last point, where the line between its neighbours passes
    between = np.arange(first, last + 1)
    dots = np.rint(np.clip(np.interp(between, at, level), 0, height - 1)).astype(np.int64)
    before = np.concatenate((dots[:1], dots[:-1]))  # each column reaches to where the one before ended
    bottom[between], top[between] = np.maximum(dots, before), np.minimum(dots, before)
    # then the points themselves, which interpolation passes over where several share a column
    columns = np.clip(np.rint(at[seen]), 0, width - 1).astype(np.int64)
    exact = np.rint(np.clip(level[seen], 0, height - 1)).astype(np.int64)
    # `at`, because a column that occurs several times would keep only its last point with plain indexing
    np.maximum.at(bottom, columns, exact)
    np.minimum.at(top, columns, exact)
    return bottom, top


def smooth(y: Floats, weight: float) -> Floats:
    """Exponential moving average without a bias towards 0 at the start; NaN values are passed over.

    s_t = (1 - w) * sum_i w^(t-i) y_i / (1 - w^n), n the number of known values up to t.
    """
    if not 0 < weight < 1:
        return y
    out = np.full_like(y, np.nan)
    # mass is 1 - w^n, the sum of the weights so far: dividing by it takes the bias away
    total, mass = 0.0, 0.0
    for index, value in enumerate(y.tolist()):
        if math.isfinite(value):
            total = weight * total + (1 - weight) * value
            mass = weight * mass + (1 - weight)
            out[index] = total / mass
    return out


def ticks(span: Span, most: int) -> list[float]:
    """Round numbers (steps of 1, 2 or 5 times a power of ten) within ``span``, ascending.

    At most ``most`` of them; two more where there would otherwise be only one.
    """
    if most < 1:
        return []
    # a power of ten so small that `most` or more of its multiples fit; the steps that follow are coarser
    size = 10.0 ** math.floor(math.log10((span.high - span.low) / most))
    finer: list[float] = []
    for step in (size, 2 * size, 5 * size, 10 * size, 20 * size):
        # the tolerance keeps ticks at the ends, which division may move by a rounding error
        first, last = math.ceil(span.low / step - 1e-9), math.floor(span.high / step + 1e-9)
        # rounded, because 3 * 0.1 is 0.30000000000000004; the addition makes 0 of -0
        found = [round(index * step, 12) + 0.0 for index in range(first, last + 1)]
        if len(found) <= most:
            return finer if len(found) < 2 and len(finer) in range(2, most + 3) else found
        finer = found
    return []


def log_ticks(span: Span, most: int) -> list[float]:
    """Base-10 logarithms of at most ``most`` round numbers within ``span`` (itself in logarithms)."""
    low, high = math.floor(span.low), math.ceil(span.high)
    # (digits within a decade, step from decade to decade), from fine to coarse
    for steps, every in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 5), ((1,), 20)):
        found = [math.log10(step) + power for power in range(low, high, every) for step in steps]
        inside = [value for value in found if span.low <= value <= span.high]
        if 2 <= len(inside) <= most:
            return inside
    # so many decades that none of these is coarse enough: evenly spaced exponents, of which a float has 308
    if span.high - span.low > 1:
        return [value for value in ticks(span, most) if value <= LARGEST_POWER]
    # less than a decade with fewer than two of these in it: round numbers, evenly spaced as values
    found = [math.log10(value) for value in ticks(Span(10.0**span.low, 10.0**span.high), most) if value > 0]
    # values so small that no round number was left
    return found or ticks(span, most)


def short(value: float) -> str:
    """A number for an axis, at most about six characters: ``0.5``, ``12k``, ``1.5e-5``."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.4g}M"
    if size >= 1e4:
        return f"{value / 1e3:.4g}k"
    if size and size < 1e-3:
        # 1.0e-05 becomes 1e-5
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.4g}"
