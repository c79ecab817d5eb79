"""What the generated household is made of: rooms, furniture, things, what may lie where and what may be done with it.

The names are ALFRED's, so that the generated games read like the real ones. Knows nothing of games or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ALFRED_TYPES: Mapping[str, str] = {
    "pick": "pick_and_place_simple",
    "look": "look_at_obj_in_light",
    "clean": "pick_clean_then_place_in_recep",
    "heat": "pick_heat_then_place_in_recep",
    "cool": "pick_cool_then_place_in_recep",
    "pick2": "pick_two_obj_and_place",
}
"""Task types as the paper calls them -> as ALFRED does, in the ``task_type`` of a game's ``traj_data.json``."""
TASK_TYPES = PICK, LOOK, CLEAN, HEAT, COOL, PICK_TWO = tuple(ALFRED_TYPES)

APPLIANCES: Mapping[str, tuple[str, str]] = {
    CLEAN: ("clean", "SinkBasin"),
    HEAT: ("heat", "Microwave"),
    COOL: ("cool", "Fridge"),
}
"""Task type -> what is done to the thing, and where."""
OPENABLE = frozenset({"Cabinet", "Drawer", "Fridge", "Microwave", "Safe"})
LAMPS = ("DeskLamp", "FloorLamp")


@dataclass(frozen=True, slots=True)
class Room:
    """One kind of room.

    Attributes:
        number: ALFRED numbers its scenes by kind of room; ours start here.
        furniture: receptacle type -> fewest and most of it.
        things: what lies about in it.
        lamps: the lamp that stands there and on what; floor lamps stand beside a seat.
    """

    number: int
    furniture: Mapping[str, tuple[int, int]]
    things: tuple[str, ...]
    lamps: Mapping[str, tuple[str, ...]]


ROOMS: Mapping[str, Room] = {
    "kitchen": Room(
        1,
        {
            "CounterTop": (1, 2), "Cabinet": (1, 3), "Drawer": (1, 2), "Fridge": (1, 1), "Microwave": (1, 1),
            "SinkBasin": (1, 1), "StoveBurner": (0, 1), "GarbageCan": (0, 1), "DiningTable": (0, 1), "Shelf": (0, 1),
        },
        (
            "Apple", "Tomato", "Potato", "Egg", "Bread", "Lettuce", "Mug", "Cup", "Bowl", "Plate", "Pan", "Pot",
            "Kettle", "Knife", "Fork", "Spoon", "Spatula", "Ladle", "SaltShaker", "PepperShaker", "DishSponge",
            "SoapBottle", "WineBottle",
        ),
        {},
    ),
    "livingroom": Room(
        201,
        {
            "Sofa": (1, 1), "ArmChair": (0, 1), "CoffeeTable": (1, 1), "SideTable": (0, 1), "Shelf": (0, 2),
            "Drawer": (1, 2), "Cabinet": (0, 1), "Safe": (0, 1), "GarbageCan": (0, 1),
        },
        (
            "RemoteControl", "Newspaper", "KeyChain", "CreditCard", "Laptop", "Pillow", "Vase", "Statue", "Watch",
            "TissueBox", "Book", "CellPhone", "WateringCan",
        ),
        {"FloorLamp": ("Sofa",), "DeskLamp": ("CoffeeTable", "SideTable")},
    ),
    "bedroom": Room(
        301,
        {
            "Bed": (1, 1), "Desk": (1, 1), "Drawer": (1, 3), "Shelf": (0, 2), "SideTable": (1, 1), "Dresser": (0, 1),
            "Safe": (0, 1), "GarbageCan": (0, 1),
        },
        (
            "Book", "Pencil", "Pen", "CellPhone", "KeyChain", "CreditCard", "CD", "AlarmClock", "Laptop", "Pillow",
            "BaseballBat", "BasketBall", "TennisRacket", "Mug", "Bowl",
        ),
        {"DeskLamp": ("Desk", "SideTable")},
    ),
    "bathroom": Room(
        401,
        {
            "CounterTop": (1, 1), "SinkBasin": (1, 1), "Cabinet": (1, 3), "Drawer": (0, 2), "Toilet": (1, 1),
            "BathtubBasin": (0, 1), "GarbageCan": (0, 1), "Shelf": (0, 1), "Cart": (0, 1),
        },
        (
            "SoapBar", "SoapBottle", "ToiletPaper", "Cloth", "SprayBottle", "HandTowel", "Candle", "TissueBox",
            "DishSponge",
        ),
        {},
    ),
}  # fmt: skip


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TABLE = _words(
    "AlarmClock Apple BaseballBat BasketBall Book Bowl Bread Candle CD CellPhone Cloth CreditCard Cup DishSponge Egg "
    "Fork Kettle KeyChain Knife Ladle Laptop Lettuce Mug Newspaper Pan Pen Pencil PepperShaker Plate Pot Potato "
    "RemoteControl SaltShaker SoapBar SoapBottle Spatula Spoon SprayBottle Statue TennisRacket TissueBox ToiletPaper "
    "Tomato Vase Watch WateringCan WineBottle HandTowel"
)
_SEAT = _words("BasketBall Book CellPhone Cloth CreditCard KeyChain Laptop Newspaper Pillow RemoteControl")
_DESK = _words(
    "AlarmClock BasketBall Book Bowl Candle CD CellPhone Cloth CreditCard Cup KeyChain Laptop Mug Newspaper Pen "
    "Pencil Plate RemoteControl SoapBottle SprayBottle Statue TennisRacket TissueBox ToiletPaper Vase Watch "
    "WateringCan WineBottle"
)
HOLDS: Mapping[str, frozenset[str]] = {
    "ArmChair": _SEAT,
    "BathtubBasin": _words("Cloth DishSponge SoapBar HandTowel"),
    "Bed": _words("BaseballBat BasketBall Book CellPhone Laptop Newspaper Pillow TennisRacket"),
    "Cabinet": _words(
        "Book Bowl Candle CD Cloth Cup DishSponge Kettle Ladle Mug Newspaper Pan PepperShaker Plate Pot SaltShaker "
        "SoapBar SoapBottle SprayBottle TissueBox ToiletPaper Vase WateringCan WineBottle HandTowel"
    ),
    "Cart": _words(
        "Candle Cloth DishSponge Mug SoapBar SoapBottle SprayBottle Statue TissueBox ToiletPaper Vase HandTowel"
    ),
    "CoffeeTable": _TABLE,
    "CounterTop": _TABLE,
    "Desk": _DESK,
    "DiningTable": _TABLE,
    "Drawer": _words(
        "Book Candle CD CellPhone Cloth CreditCard DishSponge Fork KeyChain Knife Ladle Newspaper Pen Pencil "
        "PepperShaker RemoteControl SaltShaker SoapBar SoapBottle Spatula Spoon SprayBottle TissueBox ToiletPaper "
        "Watch WateringCan HandTowel"
    ),
    "Dresser": _DESK - {"SoapBottle"},
    "Fridge": _words("Apple Bowl Bread Cup Egg Lettuce Mug Pan Plate Pot Potato Tomato WineBottle"),
    "GarbageCan": _words(
        "Apple Bread CD Cloth DishSponge Egg Lettuce Newspaper Pen Pencil Potato SoapBar SoapBottle SprayBottle "
        "TissueBox ToiletPaper Tomato WineBottle HandTowel"
    ),
    "Microwave": _words("Apple Bowl Bread Cup Egg Mug Plate Potato Tomato"),
    "Safe": _words("CD CellPhone CreditCard KeyChain Statue Vase Watch"),
    "Shelf": _words(
        "AlarmClock Book Bowl Candle CD CellPhone Cloth CreditCard Cup DishSponge Kettle KeyChain Mug Newspaper Pen "
        "Pencil PepperShaker Plate Pot RemoteControl SaltShaker SoapBar SoapBottle SprayBottle Statue TissueBox "
        "ToiletPaper Vase Watch WateringCan WineBottle HandTowel"
    ),
    "SideTable": _TABLE,
    "SinkBasin": _words(
        "Apple Bowl Cloth Cup DishSponge Egg Fork Kettle Knife Ladle Lettuce Mug Pan Plate Pot Potato SoapBar Spatula "
        "Spoon Tomato HandTowel"
    ),
    "Sofa": _SEAT,
    "StoveBurner": _words("Kettle Pan Pot"),
    "Toilet": _words(
        "Candle Cloth DishSponge Newspaper SoapBar SoapBottle SprayBottle TissueBox ToiletPaper HandTowel"
    ),
}
"""Receptacle type -> what may lie in or on it, a subset of ALFRED's own table."""

SUITABLE: Mapping[str, frozenset[str]] = {
    "clean": _words(
        "Apple Bowl Cloth Cup DishSponge Egg Fork Kettle Knife Ladle Lettuce Mug Pan Plate Pot Potato SoapBar Spatula "
        "Spoon Tomato"
    ),
    "heat": _words("Apple Bread Cup Egg Mug Plate Potato Tomato"),
    "cool": _words("Apple Bowl Bread Cup Egg Lettuce Mug Pan Plate Pot Potato Tomato WineBottle"),
}
"""What is done to a thing -> the things it can be done to."""

GOALS: Mapping[str, tuple[str, str]] = {
    PICK: ("put a {thing} in {target}", "put some {thing} on {target}"),
    LOOK: ("look at {thing} under the {target}", "examine the {thing} with the {target}"),
    CLEAN: ("put a clean {thing} in {target}", "clean some {thing} and put it in {target}"),
    HEAT: ("put a hot {thing} in {target}", "heat some {thing} and put it in {target}"),
    COOL: ("put a cool {thing} in {target}", "cool some {thing} and put it in {target}"),
    PICK_TWO: ("put two {thing} in {target}", "find two {thing} and put them in {target}"),
}
"""Task type -> the two sentences that ALFWorld makes goals from; ``target`` is a receptacle or a lamp."""
