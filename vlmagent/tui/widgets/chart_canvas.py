"""Cells of a chart: axes, braille dots and text as strips. Knows nothing of widgets or data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from vlmagent.tui.data.raster import Span, short, ticks

# style numbers; from FIRST_LINE on those of the lines, then their faint ones
EMPTY, AXIS, TICK, RULE, CURSOR, FIRST_LINE = range(6)
# the empty braille character: the bits of its dots are added to it
BRAILLE = 0x2800


@dataclass(slots=True)
class Canvas:
    """Characters and their style numbers, (rows, columns) each."""

    characters: NDArray[np.uint32]
    styles: NDArray[np.int64]

    @classmethod
    def blank(cls, columns: int, rows: int) -> Canvas:
        """All spaces, in style 0."""
        return cls(np.full((rows, columns), ord(" "), np.uint32), np.zeros((rows, columns), np.int64))

    def write(self, x: int, y: int, text: str, style: int) -> None:
        """Put ``text`` at column x of row y; what does not fit is cut off."""
        rows, columns = self.characters.shape
        if not 0 <= y < rows or x >= columns:
            return
        # a text that begins left of the canvas loses its beginning
        text = text[max(0, -x) : columns - x]
        start = max(0, x)
        self.characters[y, start : start + len(text)] = [ord(character) for character in text]
        self.styles[y, start : start + len(text)] = style


@dataclass(slots=True)
class Layout:
    """Where things are within a chart of a given size, in characters."""

    columns: int
    rows: int
    gutter: int
    x: Span
    y: Span
    y_ticks: list[tuple[int, str]] = field(default_factory=list)
    x_ticks: list[tuple[int, str]] = field(default_factory=list)


def x_ticks(span: Span, columns: int) -> list[tuple[int, str]]:
    """As many round numbers as fit side by side: where each text begins, and the text."""
    # as many as could stand side by side, then fewer, until none touches the next
    for most in range(max(2, columns // 5), 0, -1):
        # two cells of air between numbers, none needed before the first
        found, end = [], -2
        for value in ticks(span, most):
            text = short(value)
            middle = round(float(span.place(np.array(value))) * (columns - 1))
            start = max(0, min(middle - len(text) // 2, columns - len(text)))
            if start < end + 2:
                break
            found.append((start, text))
            end = start + len(text)
        else:
            return found
    return []


def to_strips(canvas: Canvas, styles: Sequence[Style]) -> list[Strip]:
    """The canvas as lines of segments, one segment per run of equal style."""
    rows, columns = canvas.characters.shape
    strips = []
    for y in range(rows):
        # code points, decoded a row at once rather than one by one
        text = canvas.characters[y].astype("<u4").tobytes().decode("utf-32-le")
        # neighbours of one style share a segment, because the terminal is written to by segments
        segments, start = [], 0
        for style, group in groupby(canvas.styles[y].tolist()):
            end = start + len(list(group))
            segments.append(Segment(text[start:end], styles[style]))
            start = end
        strips.append(Strip(segments, columns))
    return strips
