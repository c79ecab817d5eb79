"""The card table: where cards, names and the formula stand in a picture of 300 x 300 pixels.

Knows how things look, and nothing of rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vlmagent_envs.base import SIZE, Picture
from vlmagent_envs.cards import Card, card_sprite
from vlmagent_envs.fonts import font

GREEN, DARK, WHITE = (53, 101, 77), (36, 74, 55), (255, 255, 255)
_PANEL = (8, 206, 292, 292)
_TEXT_TOP, _TEXT_HEIGHT, _TEXT_WIDTH = 234, 54, 268
_TYPE_SIZES = (44, 38, 32, 26, 21, 16)
_DEALER, _PLAYER = (4, 26), (4, 172)
_GAP, _ROW = 4, 7
_ROWS = {1: ((70, 106), 0), 2: ((58, 88), 38), 3: ((44, 66), 30)}
"""Rows of cards -> size of a card, and how much lower the next row lies. 21 aces are the longest hand."""


def deal_picture(cards: Sequence[Card]) -> Picture:
    """The table with ``cards`` (2 to 4) in a row above an empty formula line, shape (300, 300, 3)."""
    width, height = (118, 174) if len(cards) == 2 else (69, 106)
    # what is left over, in equal parts between and beside the cards
    gap = (SIZE - len(cards) * width) // (len(cards) + 1)
    left = (SIZE - len(cards) * width - (len(cards) - 1) * gap) // 2
    picture = _formula_table().copy()
    for index, card in enumerate(cards):
        _put(picture, card, left + index * (width + gap), (_PANEL[1] - height) // 2, width, height)
    return picture


def write_formula(picture: Picture, tokens: Sequence[str]) -> None:
    """Write ``tokens`` into the formula line of ``picture``, as large as fits; if nothing does, its end."""
    # from large to small; below the smallest size only the end of the formula is shown
    for size in _TYPE_SIZES:
        sprites = [_token_sprite(token, size) for token in tokens]
        width = sum(sprite.shape[1] for sprite in sprites)
        if width <= _TEXT_WIDTH:
            break
    # negative where the text is too wide: its beginning is then left of the panel
    left = (SIZE - _TEXT_WIDTH) // 2 + min(0, _TEXT_WIDTH - width)
    for sprite in sprites:
        right = left + sprite.shape[1]
        if left >= _PANEL[0]:
            picture[_TEXT_TOP : _TEXT_TOP + _TEXT_HEIGHT, left:right] = sprite
        left = right


def blackjack_picture(dealer: Sequence[Card | None], player: Sequence[Card]) -> Picture:
    """The dealer's cards (None: face down) above the player's, all of them, shape (300, 300, 3)."""
    picture = _blackjack_table().copy()
    _lay(picture, dealer, *_DEALER)
    _lay(picture, player, *_PLAYER)
    return picture


def _lay(picture: Picture, cards: Sequence[Card | None], left: int, top: int) -> None:
    """Cards from left to right, overlapping if they must, from eight on in rows: all ranks show."""
    # rounded up, as below
    rows = min(3, -(-len(cards) // _ROW))
    (width, height), drop = _ROWS[rows]
    longest = -(-len(cards) // rows)
    # as far apart as they would lie in a full row, closer if they must
    step = min(width + _GAP, (SIZE - 2 * left - width) // max(1, longest - 1))
    for index, card in enumerate(cards):
        row, column = divmod(index, longest)
        _put(picture, card, left + column * step, top + row * drop, width, height)


def _put(picture: Picture, card: Card | None, left: int, top: int, width: int, height: int) -> None:
    """Lay one card into ``picture``; its corners leave what lies below."""
    pixels, inside = _card(card, width, height)
    place = picture[top : top + height, left : left + width]
    band = width // 8
    place[band:-band] = pixels[band:-band]
    for rows in (slice(band), slice(-band, None)):  # only here are corners
        np.copyto(place[rows], pixels[rows], where=inside[rows])


@lru_cache(maxsize=256)
def _card(card: Card | None, width: int, height: int) -> tuple[Picture, NDArray[np.bool_]]:
    """A card on the table's green, shape (height, width, 3), and where it is, shape (height, width, 1)."""
    sprite = card_sprite(card, width, height)
    ground = Image.new("RGBA", sprite.size, (*GREEN, 255))
    pixels = np.asarray(Image.alpha_composite(ground, sprite).convert("RGB"))
    # half transparent counts as outside
    return pixels, np.asarray(sprite.getchannel("A"))[:, :, None] > 127


@lru_cache(maxsize=1)
def _formula_table() -> Picture:
    """An empty table with the formula's panel and label, shape (300, 300, 3)."""
    image = Image.new("RGB", (SIZE, SIZE), GREEN)
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle(_PANEL, 10, DARK)
    draw.text((16, 222), "Formula:", (205, 222, 212), font(18), anchor="lm")
    return np.asarray(image)


@lru_cache(maxsize=1)
def _blackjack_table() -> Picture:
    """An empty table with both names, shape (300, 300, 3)."""
    image = Image.new("RGB", (SIZE, SIZE), GREEN)
    draw = ImageDraw.Draw(image)
    for text, (left, top) in (("Dealer", _DEALER), ("Player", _PLAYER)):
        draw.text((left + 2, top - 13), text, WHITE, font(20), anchor="lm")
    return np.asarray(image)


@lru_cache(maxsize=512)
def _token_sprite(token: str, size: int) -> Picture:
    """One token of the formula on the panel's colour, shape (54, w, 3)."""
    # the plus has the width that a minus should have
    shape = "+" if token == "-" else token  # the font has only a short hyphen
    width = round(font(size).getlength(shape)) + max(2, size // 12)
    image = Image.new("RGB", (width, _TEXT_HEIGHT), DARK)
    draw, x, y = ImageDraw.Draw(image), width / 2, _TEXT_HEIGHT / 2
    if token == "-":
        half, thick = round(0.24 * size), round(size / 20)
        draw.rectangle((x - half, y - thick, x + half, y + thick), WHITE)
    else:
        draw.text((x, y), token, WHITE, font(size), anchor="mm", stroke_width=size // 30)
    return np.asarray(image)
