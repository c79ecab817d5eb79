"""Playing cards: what one is, how one is dealt, and how one looks.

Cards are drawn once per size at four times the resolution and cached; nothing is read from disk. Ranks and
suits are printed large, as on cards for weak eyes, so that they survive being shrunk to a quarter.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vlmagent_envs.figures import draw_figure
from vlmagent_envs.fonts import font

SUITS = ("S", "H", "D", "C")
"""Spades, hearts, diamonds, clubs."""
RANK_NAMES = ("A", *map(str, range(2, 11)), "J", "Q", "K")

RED, BLACK = (204, 20, 40), (24, 26, 36)
PAPER, EDGE, BACK, BACK_LIGHT = (255, 255, 255), (120, 130, 120), (38, 70, 140), (200, 214, 240)
_SCALE = 4  # drawn larger and shrunk: Pillow draws shapes without smooth edges


class Card(NamedTuple):
    """A card: ``rank`` from 1 (ace) to 13 (king), ``suit`` one of ``SUITS``."""

    rank: int
    suit: str

    @property
    def rank_name(self) -> str:
        """ "A", "2" to "10", "J", "Q" or "K"."""
        return RANK_NAMES[self.rank - 1]

    @property
    def name(self) -> str:
        """Rank and suit, such as "10H"."""
        return self.rank_name + self.suit


def parse_card(name: str) -> Card:
    """The card called ``name``, such as "10H".

    Raises:
        ValueError: no card is called so.
    """
    rank, suit = name[:-1], name[-1:]
    if rank not in RANK_NAMES or suit not in SUITS:
        raise ValueError(f"A card is a rank and a suit (S, H, D or C), like '10H'; received {name!r}.")
    return Card(RANK_NAMES.index(rank) + 1, suit)


def deal(rng: np.random.Generator, count: int) -> list[Card]:
    """``count`` cards from an infinite deck: all ranks and suits equally likely, and independent."""
    drawn = rng.integers(0, 52, count).tolist()
    return [Card(number % 13 + 1, SUITS[number // 13]) for number in drawn]


def card_sprite(card: Card | None, width: int, height: int) -> Image.Image:
    """The picture of ``card`` (None: its back), RGBA of this size in pixels; the corners are transparent."""
    size = (width * _SCALE, height * _SCALE)
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    box = (2, 2, size[0] - 3, size[1] - 3)
    draw.rounded_rectangle(box, size[0] // 9, (*PAPER, 255), (*EDGE, 255), _SCALE)
    if card is None:
        _draw_back(image)
    else:
        _draw_face(image, card)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _draw_face(image: Image.Image, card: Card) -> None:
    """Rank at the top left; below it a large suit, or a figure with a small suit at the top right."""
    width, height = image.size
    # The proportions are fractions of the card, so that one drawing serves all sizes.
    color = RED if card.suit in "HD" else BLACK
    rank = _rank_mask(card.rank_name, int(0.36 * height), int(0.72 * width))
    image.paste(color, (int(0.09 * width), int(0.065 * height)), rank)
    if card.rank > 10:
        small = int(0.30 * width)
        image.paste(color, (int(0.62 * width), int(0.085 * height)), _suit_mask(card.suit, small))
        draw_figure(image, card.rank_name, color, (int(0.12 * width), int(0.475 * height), int(0.88 * width)))
        return
    side = int(0.64 * width)
    place = (int(0.93 * width) - side, int(0.955 * height) - side)
    image.paste(color, place, _suit_mask(card.suit, side))


def _draw_back(image: Image.Image) -> None:
    """A blue field of diamonds inside a white border."""
    width, height = image.size
    margin = width // 11
    field = Image.new("RGB", (width - 2 * margin, height - 2 * margin), BACK)
    draw = ImageDraw.Draw(field)
    pitch = field.width / 5
    for row in range(-1, int(field.height / pitch * 2) + 2):
        for column in range(-1, 7):
            x, y = (column + row % 2 / 2) * pitch, row * pitch / 2
            r = pitch * 0.30
            draw.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], BACK_LIGHT)
    mask = Image.new("L", field.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, field.width - 1, field.height - 1), margin // 2, 255)
    image.paste(field, (margin, margin), mask)


def _rank_mask(text: str, height: int, widest: int) -> Image.Image:
    """``text`` in bold, exactly ``height`` pixels high and at most ``widest`` wide."""
    type_size = height * 2
    bold = height // 16
    left, top, right, bottom = font(type_size).getbbox(text, stroke_width=bold)
    mask = Image.new("L", (int(right - left), int(bottom - top)), 0)
    ImageDraw.Draw(mask).text((-left, -top), text, 255, font(type_size), stroke_width=bold)
    width = min(widest, round(mask.width * height / mask.height))
    return mask.resize((width, height), Image.Resampling.LANCZOS)


@lru_cache(maxsize=32)
def _suit_mask(suit: str, side: int) -> Image.Image:
    """The suit's shape in a square of ``side`` pixels."""
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    if suit == "D":
        draw.polygon([(x * side, y * side) for x, y in _diamond()], 255)
    elif suit == "H":
        draw.polygon([(x * side, y * side) for x, y in _heart()], 255)
    elif suit == "S":
        draw.polygon([(x * side, (0.86 - 0.86 * y) * side) for x, y in _heart()], 255)
        _stem(draw, side)
    else:
        r = 0.235 * side
        for x, y in ((0.5, 0.245), (0.245, 0.60), (0.755, 0.60)):
            draw.ellipse((x * side - r, y * side - r, x * side + r, y * side + r), 255)
        draw.polygon([(x * side, y * side) for x, y in ((0.5, 0.3), (0.3, 0.62), (0.7, 0.62))], 255)
        _stem(draw, side)
    return mask


def _stem(draw: ImageDraw.ImageDraw, side: int) -> None:
    """The foot of spades and clubs: a trumpet shape."""
    turns = np.linspace(0, 1, 12)
    left = [(0.5 - 0.035 - 0.20 * t**2.2, 0.52 + 0.46 * t) for t in turns]
    points = left + [(1 - x, y) for x, y in reversed(left)]
    draw.polygon([(x * side, y * side) for x, y in points], 255)


def _heart() -> list[tuple[float, float]]:
    """Outline of a heart in the unit square: the classic trigonometric curve."""
    t = np.linspace(0, 2 * np.pi, 120)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return _unit(x, -y)


def _diamond() -> list[tuple[float, float]]:
    """Outline of a diamond in the unit square: four slightly hollow sides (an astroid, blunted)."""
    t = np.linspace(0, 2 * np.pi, 81)
    x, y = np.sign(np.cos(t)) * np.abs(np.cos(t)) ** 2.25, np.sign(np.sin(t)) * np.abs(np.sin(t)) ** 2.25
    return [(0.5 + 0.42 * a, 0.5 + 0.5 * b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]


def _unit(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Points moved and scaled to fill the unit square."""
    x, y = (x - x.min()) / np.ptp(x), (y - y.min()) / np.ptp(y)
    return list(zip(x.tolist(), y.tolist(), strict=True))
