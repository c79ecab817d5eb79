"""The people on the face cards: a bearded king, a queen with long hair, a jack with a feathered cap.

Drawn from a few flat shapes; knows nothing of cards beyond the three names.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

Color = tuple[int, int, int]


def _outline(text: str) -> list[tuple[float, float]]:
    """Points written as "x,y x,y" in hundredths of the figure's width."""
    return [(float(x) / 100, float(y) / 100) for x, y in (point.split(",") for point in text.split())]


_SKIN, _GOLD, _LINE = (250, 214, 178), (246, 190, 40), (52, 38, 32)
_BEARD, _BLOND, _BROWN, _WHITE = (150, 120, 96), (222, 160, 60), (122, 74, 40), (255, 255, 255)
_BEARD_SHAPE = _outline("30,52 38,60 50,57 62,60 70,52 66,78 50,92 34,78")
_CROWN = _outline("24,34 18,6 34,18 50,0 66,18 82,6 76,34")
_TIARA = _outline("28,30 32,14 40,22 50,8 60,22 68,14 72,30")


def draw_figure(image: Image.Image, name: str, color: Color, place: tuple[int, int, int]) -> None:
    """Draw the bust of ``name`` ("J", "Q" or "K").

    Args:
        color: of the clothes.
        place: left, top and right edge in pixels; the bust is as high as it is wide.
    """
    left, top, right = place
    pen = _Pen(ImageDraw.Draw(image), left, top, right - left)
    {"J": _jack, "Q": _queen, "K": _king}[name](pen, color)


class _Pen:
    """Draws shapes given in units of the figure's width, outlined."""

    def __init__(self, draw: ImageDraw.ImageDraw, left: int, top: int, size: int) -> None:
        self.draw, self.left, self.top, self.size = draw, left, top, size
        self.line = max(1, size // 45)

    def _at(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(self.left + x * self.size, self.top + y * self.size) for x, y in points]

    def polygon(self, points: Sequence[tuple[float, float]], color: Color) -> None:
        self.draw.polygon(self._at(points), color, _LINE, self.line)

    def ellipse(self, x: float, y: float, rx: float, ry: float, color: Color, outline: bool = True) -> None:
        box = self._at([(x - rx, y - ry), (x + rx, y + ry)])
        self.draw.ellipse(box, color, _LINE if outline else None, self.line if outline else 0)

    def arc(self, x: float, y: float, rx: float, ry: float, start: int, end: int) -> None:
        self.draw.arc(self._at([(x - rx, y - ry), (x + rx, y + ry)]), start, end, _LINE, self.line)


def _shoulders(pen: _Pen, color: Color) -> None:
    """The clothes: a trapezoid with a golden collar."""
    pen.polygon(_outline("2,100 12,80 38,70 62,70 88,80 98,100"), color)
    pen.polygon(_outline("30,73 50,98 70,73 60,68 40,68"), _GOLD)


def _face(pen: _Pen) -> None:
    """Head, eyes and mouth."""
    pen.ellipse(0.5, 0.50, 0.20, 0.24, _SKIN)
    for x in (0.425, 0.575):
        pen.ellipse(x, 0.47, 0.022, 0.028, _LINE, outline=False)
    pen.arc(0.5, 0.57, 0.07, 0.05, 20, 160)


def _king(pen: _Pen, color: Color) -> None:
    _shoulders(pen, color)
    pen.ellipse(0.5, 0.54, 0.26, 0.30, _BEARD)
    _face(pen)
    pen.polygon(_BEARD_SHAPE, _BEARD)
    pen.arc(0.5, 0.63, 0.06, 0.04, 20, 160)
    pen.polygon(_CROWN, _GOLD)
    for x, y in ((0.18, 0.05), (0.5, 0.0), (0.82, 0.05)):
        pen.ellipse(x, y, 0.045, 0.045, color)


def _queen(pen: _Pen, color: Color) -> None:
    pen.ellipse(0.5, 0.56, 0.34, 0.40, _BLOND)
    _shoulders(pen, color)
    _face(pen)
    pen.polygon(_outline("30,50 34,30 66,30 70,50 50,36"), _BLOND)
    pen.polygon(_TIARA, _GOLD)
    pen.ellipse(0.5, 0.23, 0.04, 0.045, color)
    pen.ellipse(0.5, 0.60, 0.035, 0.02, (190, 40, 60), outline=False)


def _jack(pen: _Pen, color: Color) -> None:
    pen.polygon(_outline("24,36 76,36 80,70 66,74 34,74 20,70"), _BROWN)
    _shoulders(pen, color)
    _face(pen)
    pen.polygon(_outline("28,44 32,32 68,32 72,44 50,38"), _BROWN)
    pen.polygon(_outline("16,34 24,16 50,10 76,16 84,34"), color)
    pen.polygon(_outline("70,30 78,2 98,-6 94,14"), _WHITE)
    pen.polygon(_outline("16,34 18,26 82,26 84,34"), _GOLD)
