"""A picture in the terminal: of block characters, two or four pixels a cell, or the terminal's own graphics for stills.

Blocks are fast and work everywhere, so they are the default and what moves: quadrants, or half blocks where the font
has no others. The terminal's graphics (kitty, sixel) come from textual-image, which questions the terminal when it is
imported: that must happen before the application starts (``prepare_graphics``), and whatever goes wrong there means
blocks.
Deliberately knows nothing of runs.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from cachetools import LRUCache, cached
from PIL import Image
from rich.color import Color, ColorType
from rich.color_triplet import ColorTriplet
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from vlmagent.errors import unknown_choice
from vlmagent.tui.data.blocks import GLYPHS, Cells, halves, quadrants
from vlmagent.types import ImageArray

IMAGE_MODES = ("auto", "kitty", "sixel", "quadrant", "half", "off")
CACHED_FRAMES = 256
"""Drawn pictures that are kept, so that replays go round without drawing again."""


@dataclass(frozen=True, slots=True)
class Graphics:
    """What ``prepare_graphics`` found.

    Attributes:
        mode: one of ``IMAGE_MODES`` but ``auto``.
        notice: one sentence for people when what they asked for is not to be had; "" otherwise.
    """

    mode: str
    notice: str = ""


StillWidget = Callable[[Image.Image], Widget]
_still_widgets: dict[str, StillWidget] = {}  # by mode; empty unless ``prepare_graphics`` succeeded
_cell_shape = [1.0, 2.0]  # width and height of a cell, in any unit


def prepare_graphics(mode: str) -> Graphics:
    """Find out how stills can be drawn. Call it before the application takes the terminal over.

    Args:
        mode: one of ``IMAGE_MODES``.

    Raises:
        UsageError: ``mode`` is none of them.
    """
    if mode not in IMAGE_MODES:
        raise unknown_choice("way to draw pictures", mode, IMAGE_MODES)
    if mode in ("quadrant", "half", "off"):
        return Graphics(mode)
    problem = _terminal_problem()
    # only then import it: what it asks would end in a file, or wait in vain for an answer
    if problem is None:
        try:
            found = _load_textual_image()
        except ImportError:
            problem = "textual-image is not installed (pip install 'vlmagent[graphics]')"
        # what a terminal's answer may break in there is not documented; pictures are no reason not to start
        except Exception as error:
            problem = f"textual-image could not question this terminal ({type(error).__name__}: {error})"
        else:
            wanted = found if mode == "auto" else mode
            return Graphics(wanted if wanted in _still_widgets else _blocks())
    # nobody asked for more than what is there
    notice = "" if mode == "auto" else f"Pictures are drawn with block characters, not {mode}: {problem}."
    return Graphics(_blocks(), notice)


def _blocks() -> str:
    """What is drawn with where the terminal has no graphics."""
    # the font of Linux's own console has 256 characters, and no quadrants among them
    return "half" if os.environ.get("TERM") == "linux" else "quadrant"


def _terminal_problem() -> str | None:
    """Why this terminal must not be questioned; None when it may."""
    # the original streams, which the library uses; None where the program has no console
    if not (sys.__stdin__ and sys.__stdout__ and sys.__stdin__.isatty() and sys.__stdout__.isatty()):
        return "standard input and output are not both a terminal"
    try:
        columns, rows = os.get_terminal_size(sys.__stdout__.fileno())
    except OSError as error:
        return f"the terminal does not tell its size ({error})"
    return None if columns and rows else "the terminal says that its size is zero"


def _load_textual_image() -> str:
    """Import textual-image, which asks the terminal; returns what it chose: kitty, sixel or half."""
    logging.getLogger("textual_image").addHandler(logging.NullHandler())  # else it writes over the screen
    from textual_image import renderable
    from textual_image._terminal import get_cell_size
    from textual_image.widget import SixelImage, TGPImage

    # both, because the user may name one that was not found by asking
    _still_widgets.update(kitty=TGPImage, sixel=SixelImage)
    size = get_cell_size()
    # where the terminal says 0, a cell counts as twice as high as wide
    if size.width and size.height:
        _cell_shape[:] = size.width, size.height
    chosen = {renderable.TGPImage: "kitty", renderable.SixelImage: "sixel"}.get(renderable.Image, "half")
    if chosen in _still_widgets:
        _still_widgets["auto"] = _still_widgets[chosen]
    return chosen


class Picture(Widget):
    """Shows one picture as large as fits, its aspect kept, in the middle.

    Args:
        image: uint8 (H, W, 3), or None for an empty frame.
        mode: one of ``IMAGE_MODES``; ``auto``, ``kitty`` and ``sixel`` are blocks unless
            ``prepare_graphics`` found that the terminal can do it.
    """

    DEFAULT_CSS = """
    Picture { width: 1fr; height: 1fr; align: center middle; }
    Picture > * { background: transparent; }
    """

    def __init__(
        self,
        image: ImageArray | None = None,
        mode: str = "half",
        *,
        empty: str = "no picture",
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        if mode not in IMAGE_MODES:
            raise unknown_choice("way to draw pictures", mode, IMAGE_MODES)
        self.mode = mode
        self.empty = empty
        self._image: ImageArray | None = None
        self._key = ""
        # blocks until `show` knows better
        self._moving = True
        self._still: Widget | None = None
        # picture and room that the still was made for
        self._still_of: tuple[str, Size] | None = None
        self.show(image)

    @property
    def image(self) -> ImageArray | None:
        """The picture shown."""
        return self._image

    def show(self, image: ImageArray | None, *, moving: bool = False) -> None:
        """Show another picture, or none.

        Args:
            moving: more will follow soon: draw blocks, whatever the terminal can do.
        """
        # by content: each reading of a step gives an array of its own
        key = "" if image is None else digest(image)
        if key == self._key and moving == self._moving:
            return
        self._image, self._key, self._moving = image, key, moving
        # before that there is no size; `on_mount` does it
        if self.is_mounted:
            self._update_still()
            self.refresh()

    def on_mount(self) -> None:
        """Draw what was given before there was a terminal."""
        self._update_still()

    def on_resize(self) -> None:
        self._update_still()

    def render_line(self, y: int) -> Strip:
        """Line ``y`` of the picture in blocks; blank while a still covers it."""
        width, height = self.content_size
        if self._image is None or self.mode == "off" or self._still is not None:
            return self._words(y, width, height)
        strips = block_lines(self._image, self._key, self.mode, width, height, self.rich_style)
        return strips[y] if y < len(strips) else Strip.blank(width, self.rich_style)

    def _words(self, y: int, width: int, height: int) -> Strip:
        """A line of what is shown instead of a picture."""
        if y != height // 2 or self._still is not None:
            return Strip.blank(width, self.rich_style)
        words = self.empty if self._image is None else "{1} × {0} pixels".format(*self._image.shape)
        return Strip([Segment(words[:width].center(width), self.rich_style)], width)

    def _update_still(self) -> None:
        """Put the terminal's own drawing on top, or take it away."""
        make = self._still_maker()
        # a still costs the terminal more than blocks do: none for pictures that follow each other
        wanted = (self._key, self.content_size) if make and self._key and not self._moving else None
        # nothing to do, also where there is none before and after
        if wanted == self._still_of:
            return
        if self._still is not None:
            self._still.remove()
        self._still, self._still_of = None, wanted
        if wanted is not None and make is not None and self._image is not None:
            width, height = self.content_size
            columns, rows = fit(self._image.shape[1], self._image.shape[0], width, height, _cell_shape)
            self._still = make(Image.fromarray(self._image))
            self._still.styles.width, self._still.styles.height = columns, rows
            self.mount(self._still)

    def _still_maker(self) -> StillWidget | None:
        return _still_widgets.get(self.mode) if self.content_size.area else None


def fit(
    image_width: int, image_height: int, columns: int, rows: int, cell: list[float] | tuple[float, float]
) -> tuple[int, int]:
    """Columns and rows of the largest picture of this aspect inside ``columns`` x ``rows``; at least 1 x 1.

    Args:
        cell: width and height of a cell.
    """
    # in the unit of the cell's sides, so that pixels are square on any font
    scale = min(columns * cell[0] / max(image_width, 1), rows * cell[1] / max(image_height, 1))
    fitted = image_width * scale / cell[0], image_height * scale / cell[1]
    # rounding may add a cell, and a thin picture lose its only one
    return min(columns, max(1, round(fitted[0]))), min(rows, max(1, round(fitted[1])))


@cached(
    LRUCache(CACHED_FRAMES),
    key=lambda image, key, mode, columns, rows, base: (key, mode, columns, rows, str(base)),
)
def block_lines(image: ImageArray, key: str, mode: str, columns: int, rows: int, base: Style) -> list[Strip]:
    """All lines of a picture in the middle of ``columns`` x ``rows`` cells, kept by content and size.

    Args:
        key: ``digest`` of the picture.
        mode: ``half``, or quadrants for any other.
        base: the style around it.
    """
    # a widget that was not laid out yet has no cells
    if not (columns and rows):
        return []
    return _draw((halves if mode == "half" else quadrants)(image, columns, rows), columns, rows, base)


def _draw(cells: Cells, columns: int, rows: int, base: Style) -> list[Strip]:
    """Lines of ``columns`` cells; equal neighbours share one segment."""
    # a cell as one number, so that a single comparison finds equal neighbours: 4 bits, 24 and 24
    packed = cells.glyph << 48 | cells.front << 24 | cells.back
    r, c = packed.shape
    left, top = (columns - c) // 2, (rows - r) // 2
    blank = Strip.blank(columns, base)
    before, after = Segment(" " * left, base), Segment(" " * (columns - left - c), base)
    strips = [blank] * top
    for row in packed:
        # where a run of equal cells begins, and the end of the last one
        starts = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), c]
        segments = [
            _segment(cell, end - start)
            for cell, start, end in zip(row[starts[:-1]].tolist(), starts[:-1], starts[1:], strict=True)
        ]
        strips.append(Strip([part for part in (before, *segments, after) if part.text], columns))
    return strips + [blank] * (rows - r - top)


@lru_cache(maxsize=32_768)
def _segment(cell: int, count: int) -> Segment:
    """``count`` cells: the character from bit 48 on, its colour in bits 24-47, that of the rest in bits 0-23."""
    glyph, front, back = cell >> 48, cell >> 24 & 0xFFFFFF, cell & 0xFFFFFF
    return Segment(GLYPHS[glyph] * count, Style.from_color(_color(front), _color(back)))


@lru_cache(maxsize=32_768)
def _color(packed: int) -> Color:
    triplet = ColorTriplet(packed >> 16, packed >> 8 & 255, packed & 255)
    return Color("", ColorType.TRUECOLOR, None, triplet)


def digest(image: ImageArray) -> str:
    """Tells pictures apart by size and content."""
    # the shape is in the key, which may have 64 bytes: equal bytes make other pictures in other shapes
    return hashlib.blake2b(
        np.ascontiguousarray(image).data, digest_size=16, key=str(image.shape).encode()[:64]
    ).hexdigest()
