"""What there is to see: the symbolic state around the agent, and how much of the goal holds in the whole household.

Made from the facts of a text game. A ``Scene`` holds only what a person standing there would see; ``conditions`` reads
everything, as the reward does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vlmagent_envs.alfworld.household import APPLIANCES, LOOK, PICK, PICK_TWO

Fact = tuple[str, ...]
"""A predicate's name and the names of what it is about: ``("inreceptacle", "apple 1", "fridge 1")``."""
MARKS: Mapping[str, str] = {
    "ishot": "hot",
    "iscool": "cold",
    "isclean": "clean",
    "istoggled": "lit",
    "issliced": "sliced",
}
"""Predicate -> how it is drawn and said."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing in sight: its name, such as ``apple 1``, and those of ``MARKS`` that it bears."""

    name: str
    marks: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Its name without the number."""
        return kind_of(self.name)


@dataclass(frozen=True, slots=True)
class Place:
    """A receptacle within reach. ``open`` is None for one that cannot be closed; a closed one shows nothing inside."""

    name: str
    open: bool | None
    things: tuple[Thing, ...]

    @property
    def kind(self) -> str:
        """Its name without the number."""
        return kind_of(self.name)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a person there would see.

    Attributes:
        places: receptacles within reach, the one that the agent went to last first; () in the middle of the room.
        hand: what the agent holds.
        room: names of all the room's receptacles.
    """

    places: tuple[Place, ...]
    hand: Thing | None
    room: tuple[str, ...]


def kind_of(name: str) -> str:
    """``apple 1`` -> ``apple``."""
    return name.rsplit(" ", 1)[0]


def scene_of(facts: Iterable[Fact], faced: str) -> Scene:
    """The part of the facts that is in sight.

    Args:
        faced: the receptacle that the agent went to last, "" before the first.
    """
    by_name = _by_name(facts)
    location = {fact[2] for fact in by_name.get("atlocation", [])}
    # several receptacles may stand at the agent's location
    here = [name for _, name, place in by_name.get("receptacleatlocation", []) if place in location]
    openable = {fact[1] for fact in by_name.get("openable", [])}
    opened = {fact[1] for fact in by_name.get("opened", [])}
    marks = _marks(by_name)
    places = []
    # the one that the agent went to first, the others in the order of their numbers
    for name in sorted(here, key=lambda name: (name != faced, natural(name))):
        inside = [thing for _, thing, receptacle in by_name.get("inreceptacle", []) if receptacle == name]
        shut = name in openable and name not in opened
        things = () if shut else tuple(Thing(t, marks.get(t, ())) for t in sorted(inside, key=natural))
        places.append(Place(name, not shut if name in openable else None, things))
    hand = next((thing for _, _, thing in by_name.get("holds", [])), None)
    room = sorted({fact[1] for fact in by_name.get("receptacleatlocation", [])}, key=natural)
    return Scene(tuple(places), None if hand is None else Thing(hand, marks.get(hand, ())), tuple(room))


def conditions(facts: Iterable[Fact], task_type: str, thing: str, target: str, lamp: str) -> tuple[bool, ...]:
    """Which of the goal's conditions hold, as ALFRED counts them (``goal_conditions_met``)."""
    by_name = _by_name(facts)
    where = [
        (t, r) for _, t, r in by_name.get("inreceptacle", []) if kind_of(t) == thing and kind_of(r) == target
    ]
    if task_type == LOOK:
        held = any(kind_of(fact[2]) == thing for fact in by_name.get("holds", []))
        return held, _lit_lamp_here(by_name, lamp)
    if task_type == PICK:
        return (bool(where),)
    if task_type == PICK_TWO:
        # both have to lie in one and the same receptacle
        receptacles = [receptacle for _, receptacle in where]
        most = max(map(receptacles.count, receptacles), default=0)
        return most >= 1, most >= 2
    verb = APPLIANCES[task_type][0]
    predicate = {"heat": "ishot", "cool": "iscool", "clean": "isclean"}[verb]
    treated = {fact[1] for fact in by_name.get(predicate, []) if kind_of(fact[1]) == thing}
    return bool(where), bool(treated), any(name in treated for name, _ in where)


NAMED = re.compile(r"\b(?:a|an) ([a-z]+ \d+)")
"""A thing or place as the texts list it; the group is its name."""


def natural(name: str) -> tuple[str, int]:
    """Sorts ``shelf 2`` before ``shelf 10``."""
    kind, _, number = name.rpartition(" ")
    return (kind, int(number)) if number.isdecimal() else (name, 0)


def _by_name(facts: Iterable[Fact]) -> dict[str, list[Fact]]:
    found: dict[str, list[Fact]] = {}
    for fact in facts:
        found.setdefault(fact[0], []).append(fact)
    return found


def _marks(by_name: Mapping[str, Sequence[Fact]]) -> dict[str, tuple[str, ...]]:
    marks: dict[str, tuple[str, ...]] = {}
    for predicate, mark in MARKS.items():
        for fact in by_name.get(predicate, []):
            marks[fact[1]] = (*marks.get(fact[1], ()), mark)
    return marks


def _lit_lamp_here(by_name: Mapping[str, Sequence[Fact]], lamp: str) -> bool:
    location = {fact[2] for fact in by_name.get("atlocation", [])}
    here = {name for _, name, place in by_name.get("receptacleatlocation", []) if place in location}
    lit = {fact[1] for fact in by_name.get("istoggled", []) if kind_of(fact[1]) == lamp}
    return any(
        thing in lit and receptacle in here for _, thing, receptacle in by_name.get("inreceptacle", [])
    )
