"""The scene card: a picture of 300 x 300 pixels drawn from what is in sight, and from nothing else.

Above: where the agent stands, and its hand. Below: what lies there, or a closed front. In the middle of the room: all
its furniture. Knows how things look, and nothing of games.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from vlmagent_envs.alfworld.icons import FURNITURE, HAND, MARKS, THINGS
from vlmagent_envs.alfworld.scene import Place, Scene, Thing, kind_of
from vlmagent_envs.base import SIZE, Picture
from vlmagent_envs.fonts import fitting_size, font

WALL, FLOOR, LINE, INK = (243, 239, 230), (205, 186, 158), (58, 50, 44), (40, 34, 30)
_PLACE = (8, 6, 124)
_OTHERS = (130, 6, 40)
_HAND = (178, 6, 116)
_TRAY = (6, 132, 294, 294)
_SHUT, _STRIPE = (120, 92, 66), (104, 78, 54)
_OVERSAMPLING = 4  # drawn larger and shrunk: Pillow draws shapes without smooth edges
_CORNER = 12


def scene_picture(scene: Scene, labels: bool = False) -> Picture:
    """The card of a scene.

    Args:
        labels: write each thing's name on it; without them one has to recognise it.

    Returns:
        RGB, shape (300, 300, 3).
    """
    image = Image.new("RGB", (SIZE, SIZE), WALL)
    if scene.places:
        _draw_place(image, scene.places, labels)
    else:
        _draw_room(image, scene.room, labels)
    _draw_hand(image, scene.hand, labels)
    return np.asarray(image)


def _draw_place(image: Image.Image, places: Sequence[Place], labels: bool) -> None:
    """The receptacle in front, others within reach beside it, and what lies in all of them."""
    draw = ImageDraw.Draw(image)
    left, top, size = _PLACE
    _paste(image, _furniture(places[0]), left, top, size)
    if labels:
        _label(draw, places[0].name, left, top + size - 10, size)
    left, top, size = _OTHERS
    for index, place in enumerate(places[1:4]):  # there is room for three
        _paste(image, _furniture(place), left, top + index * (size + 2), size)
        if labels:
            _label(draw, place.name, left, top + index * (size + 2) + size - 8, size)
    things = [thing for place in places for thing in place.things]
    if not things and places[0].open is False:
        _draw_front(draw)
        return
    draw.rounded_rectangle(_TRAY, 10, FLOOR, LINE, 2)
    _draw_grid(image, things, _TRAY, labels)


def _draw_front(draw: ImageDraw.ImageDraw) -> None:
    """A closed front: boards and a handle."""
    left, top, right, bottom = _TRAY
    draw.rounded_rectangle(_TRAY, 10, _SHUT, LINE, 3)
    for x in range(left + 24, right, 24):
        draw.line((x, top + 4, x, bottom - 4), _STRIPE, 3)
    middle = (left + right) // 2
    draw.rounded_rectangle(
        (middle - 30, (top + bottom) // 2 - 8, middle + 30, (top + bottom) // 2 + 8),
        8,
        (210, 200, 180),
        LINE,
        2,
    )


def _draw_room(image: Image.Image, room: Sequence[str], labels: bool) -> None:
    """All the room's furniture, beside the hand and below it; nothing of it tells what is inside."""
    boxes = _cells(len(room), (4, 6, 174, 124), (4, 128, 296, 296))
    draw = ImageDraw.Draw(image)
    for name, (left, top, size) in zip(room, boxes, strict=True):
        _paste(image, FURNITURE.get(kind_of(name), f"? {kind_of(name)}"), left, top, size)
        if labels:
            _label(draw, name, left, top + size - 8, size)


def _cells(count: int, *areas: tuple[int, int, int, int]) -> list[tuple[int, int, int]]:
    """The largest equal squares, ``count`` of them, that fit row by row into the areas: left, top, size."""
    for size in range(84, 6, -2):
        boxes = [
            (left + column * size, top + row * size, size - 2)
            for left, top, right, bottom in areas
            for row in range((bottom - top) // size)
            for column in range((right - left) // size)
        ]
        if len(boxes) >= count:
            return boxes[:count]
    raise ValueError(f"{count} receptacles do not fit into one picture")


def _draw_grid(
    image: Image.Image, things: Sequence[Thing], area: tuple[int, int, int, int], labels: bool
) -> None:
    """Things row by row, as large as fits."""
    left, top, right, bottom = area
    draw = ImageDraw.Draw(image)
    boxes = _cells(len(things), (left + 4, top + 4, right - 2, bottom - 2))
    for thing, (x, y, size) in zip(things, boxes, strict=True):
        _draw_thing(image, thing, x, y, size)
        if labels:
            _label(draw, thing.name, x, y + size - 9, size)


def _draw_thing(image: Image.Image, thing: Thing, left: int, top: int, size: int) -> None:
    """A thing with its marks in the corners: top right, top left, bottom right."""
    mark = max(10, size * 2 // 5)
    if "lit" in thing.marks:
        ImageDraw.Draw(image).ellipse((left, top, left + size, top + size), (255, 240, 150))
    _paste(image, THINGS.get(thing.kind, f"? {thing.kind}"), left, top, size)
    corners = ((left + size - mark, top), (left, top), (left + size - mark, top + size - mark))
    for name, (x, y) in zip(thing.marks, corners, strict=False):
        _paste(image, MARKS[name], x, y, mark)


def _draw_hand(image: Image.Image, held: Thing | None, labels: bool) -> None:
    """The hand in its frame, empty or with what it holds."""
    left, top, size = _HAND
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((left, top, left + size, top + size), _CORNER, (228, 236, 243), LINE, 2)
    if held is None:
        _paste(image, HAND, left + 28, top + 28, 60)
        return
    _paste(image, HAND, left + 6, top + size - 46, 42)
    _draw_thing(image, held, left + 28, top + 8, 82)
    if labels:
        _label(draw, held.name, left + 6, top + size - 14, size - 12)


def _furniture(place: Place) -> str:
    """The drawing of a receptacle, open or closed."""
    opened = FURNITURE.get(f"{place.kind} open") if place.open else None
    return opened or FURNITURE.get(place.kind, f"? {place.kind}")


def _label(draw: ImageDraw.ImageDraw, name: str, left: int, top: int, width: int) -> None:
    chosen = font(fitting_size(name, width, 13))
    box = draw.textbbox((left + width // 2, top), name, chosen, anchor="mt")
    draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), (255, 255, 255))
    draw.text((left + width // 2, top), name, INK, chosen, anchor="mt")


def _paste(image: Image.Image, drawing: str, left: int, top: int, size: int) -> None:
    sprite = _sprite(drawing, size)
    image.paste(sprite, (left, top), sprite)


@lru_cache(maxsize=2048)
def _sprite(drawing: str, size: int) -> Image.Image:
    """A drawing in pixels, RGBA, size x size. ``? name`` is a kind without a drawing: a crate in its own colour."""
    if drawing.startswith("? "):
        red, green, blue = (96 + (zlib.crc32(drawing.encode()) >> shift) % 128 for shift in (0, 8, 16))
        drawing = f"o rgb({red},{green},{blue}) 14 14 86 86; l #222 14 14 86 86 4; l #222 86 14 14 86 4"
    side = size * _OVERSAMPLING
    image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    for stroke in drawing.split("; "):
        _stroke(draw, stroke, side / 100)
    return image.resize((size, size), Image.Resampling.LANCZOS)


def _stroke(draw: ImageDraw.ImageDraw, stroke: str, scale: float) -> None:
    """One stroke of a drawing; see ``icons``."""
    letter, color, *rest = stroke.split(" ")
    numbers = [float(number) * scale for number in rest]
    outline, width = (LINE, round(2.5 * scale)) if letter.islower() else (None, 0)
    match letter.lower():
        case "e":
            draw.ellipse(numbers, color, outline, width)
        case "r":
            draw.rectangle(numbers, color, outline, width)
        case "o":
            draw.rounded_rectangle(numbers, 8 * scale, color, outline, width)
        case "p":
            draw.polygon(numbers, color, outline, width)
        case "l":
            draw.line(numbers[:-1], color, round(numbers[-1]), joint="curve")
        case _:
            raise ValueError(f"there is no stroke {letter!r}: {stroke!r}")
