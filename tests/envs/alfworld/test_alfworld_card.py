"""The scene card: what it must show, and what it must not."""

import numpy as np
import pytest

from vlmagent_envs.alfworld.card import WALL, scene_picture
from vlmagent_envs.alfworld.household import HOLDS, LAMPS, OPENABLE, ROOMS
from vlmagent_envs.alfworld.icons import FURNITURE, MARKS, THINGS
from vlmagent_envs.alfworld.scene import Place, Scene, Thing


def at(*things, opened=None, hand=None, kind="drawer"):
    return Scene((Place(f"{kind} 1", opened, tuple(things)),), hand, ())


def test_size_and_type():
    picture = scene_picture(at(Thing("apple 1")))
    assert picture.shape == (300, 300, 3)
    assert picture.dtype == np.uint8


def test_everything_in_sight_changes_the_picture():
    mug = Thing("mug 1")
    scenes = [
        Scene((), None, ("drawer 1",)),
        Scene((), None, ("drawer 1", "drawer 2")),
        Scene((), mug, ("drawer 1",)),
        at(opened=False),
        at(opened=True),
        at(mug, opened=True),
        at(mug, mug, opened=True),
        at(Thing("egg 1"), opened=True),
        at(opened=True, hand=mug),
        at(opened=True, kind="fridge"),
        *(at(opened=True, hand=Thing("mug 1", (mark,))) for mark in MARKS),
        *(at(Thing("mug 1", (mark,)), opened=True) for mark in MARKS),
        at(opened=True, hand=Thing("mug 1", ("hot", "clean"))),
    ]
    assert len({scene_picture(scene).tobytes() for scene in scenes}) == len(scenes)


def test_numbers_and_what_lies_elsewhere_do_not_show_without_labels():
    one = Scene((Place("shelf 1", None, (Thing("mug 1"),)),), None, ("shelf 1", "fridge 1"))
    two = Scene((Place("shelf 2", None, (Thing("mug 3"),)),), None, ("shelf 1", "sofa 1", "bed 1"))
    assert np.array_equal(scene_picture(one), scene_picture(two))
    assert not np.array_equal(scene_picture(one, labels=True), scene_picture(two, labels=True))


def test_the_same_scene_gives_the_same_picture():
    scene = at(Thing("apple 1"), Thing("bread 1"), opened=True, hand=Thing("egg 1", ("hot",)))
    assert np.array_equal(scene_picture(scene), scene_picture(scene))


def furniture(kind):
    """The card of a place that is empty: open where the drawing's name says so."""
    name = kind.removesuffix(" open")
    return scene_picture(at(kind=name, opened=True if name != kind else None))


def test_everything_of_the_household_has_a_drawing_of_its_own():
    things = {thing.lower() for room in ROOMS.values() for thing in room.things} | {n.lower() for n in LAMPS}
    kinds = [kind.lower() for kind in HOLDS] + [f"{kind.lower()} open" for kind in OPENABLE]
    assert things <= set(THINGS)
    assert set(kinds) <= set(FURNITURE)
    assert len({scene_picture(at(Thing(f"{name} 1"))).tobytes() for name in things}) == len(things)
    assert len({furniture(kind).tobytes() for kind in kinds}) == len(kinds)


def test_every_drawing_can_be_drawn_and_shows_something():
    bare, mug = scene_picture(at()), scene_picture(at(Thing("mug 1")))
    for name in THINGS:
        assert (scene_picture(at(Thing(f"{name} 1"))) != bare).any(2).sum() > 500
    for mark in MARKS:
        assert (scene_picture(at(Thing("mug 1", (mark,)))) != mug).any(2).sum() > 100
    for kind in FURNITURE:
        assert (furniture(kind)[6:130, 8:132] != WALL).any(2).mean() > 0.1


def test_kinds_without_a_drawing_differ_too():
    one, two = (scene_picture(at(Thing(f"{kind} 1"), opened=True)) for kind in ("gramophone", "abacus"))
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("count", [0, 1, 7, 40, 150])
def test_a_room_of_any_size_fits(count):
    shelves = tuple(f"shelf {number}" for number in range(count))
    picture, more = (scene_picture(Scene((), None, room)) for room in (shelves, (*shelves, "shelf 999")))
    assert (picture != more).any()  # each piece of furniture shows
    for edge in (picture[297:], picture[:, 297:], picture[:, :3]):
        assert (edge == WALL).all()
