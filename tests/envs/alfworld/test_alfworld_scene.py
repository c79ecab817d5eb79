"""What is in sight and how much of the goal holds, from facts written out by hand."""

import pytest

from vlmagent_envs.alfworld.scene import Place, Scene, Thing, conditions, natural, scene_of

KITCHEN = [
    ("receptacleatlocation", "fridge 1", "loc 1"),
    ("receptacleatlocation", "shelf 10", "loc 2"),
    ("receptacleatlocation", "shelf 2", "loc 2"),
    ("openable", "fridge 1"),
    ("inreceptacle", "egg 1", "fridge 1"),
    ("inreceptacle", "mug 10", "shelf 2"),
    ("inreceptacle", "mug 2", "shelf 2"),
    ("ishot", "mug 2"),
    ("isclean", "mug 2"),
]
ROOM = ("fridge 1", "shelf 2", "shelf 10")


def test_the_middle_of_the_room_shows_its_furniture_alone():
    assert scene_of([*KITCHEN, ("atlocation", "agent1", "loc 9")], "") == Scene((), None, ROOM)


def test_a_closed_place_hides_what_is_inside():
    at = [*KITCHEN, ("atlocation", "agent1", "loc 1")]
    assert scene_of(at, "fridge 1").places == (Place("fridge 1", False, ()),)
    opened = scene_of([*at, ("opened", "fridge 1")], "fridge 1")
    assert opened.places == (Place("fridge 1", True, (Thing("egg 1"),)),)


def test_places_within_reach_stand_beside_the_one_that_is_faced():
    at = [*KITCHEN, ("atlocation", "agent1", "loc 2"), ("holds", "agent1", "cup 1"), ("iscool", "cup 1")]
    scene = scene_of(at, "shelf 10")
    assert [place.name for place in scene.places] == ["shelf 10", "shelf 2"]
    assert scene.places[1].things == (Thing("mug 2", ("hot", "clean")), Thing("mug 10"))
    assert scene.hand == Thing("cup 1", ("cold",))


def test_the_order_of_facts_does_not_matter():
    at = [*KITCHEN, ("atlocation", "agent1", "loc 2")]
    assert scene_of(at, "shelf 2") == scene_of(at[::-1], "shelf 2")


def test_numbers_sort_as_numbers():
    assert sorted(["shelf 10", "shelf 2", "armchair 1", "loc"], key=natural) == [
        "armchair 1",
        "loc",
        "shelf 2",
        "shelf 10",
    ]


@pytest.mark.parametrize(
    ("task_type", "facts", "expected"),
    [
        ("pick", [], (False,)),
        ("pick", [("inreceptacle", "mug 1", "desk 1")], (True,)),
        (
            "pick",
            [("inreceptacle", "mugtree 1", "desk 1"), ("inreceptacle", "mug 1", "sidedesk 1")],
            (False,),
        ),
        ("pick2", [("inreceptacle", "mug 1", "desk 1")], (True, False)),
        ("pick2", [("inreceptacle", "mug 1", "desk 1"), ("inreceptacle", "mug 2", "desk 2")], (True, False)),
        ("pick2", [("inreceptacle", "mug 1", "desk 1"), ("inreceptacle", "mug 2", "desk 1")], (True, True)),
        ("heat", [("ishot", "mug 1")], (False, True, False)),
        ("heat", [("iscool", "mug 1"), ("ishot", "egg 1")], (False, False, False)),
        ("heat", [("ishot", "mug 1"), ("inreceptacle", "mug 2", "desk 1")], (True, True, False)),
        ("heat", [("ishot", "mug 1"), ("inreceptacle", "mug 1", "desk 1")], (True, True, True)),
        ("cool", [("iscool", "mug 1"), ("inreceptacle", "mug 1", "desk 1")], (True, True, True)),
        ("clean", [("isclean", "mug 1"), ("inreceptacle", "mug 1", "desk 1")], (True, True, True)),
        ("look", [("holds", "agent1", "mug 1")], (True, False)),
    ],
)
def test_the_goals_conditions(task_type, facts, expected):
    assert conditions(facts, task_type, "mug", "desk", "desklamp") == expected


def test_a_lamp_counts_where_the_agent_stands():
    facts = [
        ("holds", "agent1", "mug 1"),
        ("istoggled", "desklamp 1"),
        ("inreceptacle", "desklamp 1", "desk 1"),
        ("receptacleatlocation", "desk 1", "loc 1"),
    ]
    there, elsewhere = ([*facts, ("atlocation", "agent1", place)] for place in ("loc 1", "loc 2"))
    assert conditions(there, "look", "mug", "", "desklamp") == (True, True)
    assert conditions(elsewhere, "look", "mug", "", "desklamp") == (True, False)
