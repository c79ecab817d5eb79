"""The exploring expert, on texts written out by hand: it knows what it was told, and no more."""

from pathlib import Path

from vlmagent_envs.alfworld.explorer import Explorer
from vlmagent_envs.alfworld.games import Game

GO = ("go to cabinet 1", "go to cabinet 2", "go to fridge 1", "go to microwave 1", "go to shelf 1")
START = "You are in the middle of a room. Looking quickly around you, you see a cabinet 1."


def explorer(task_type, thing="mug", target="shelf", lamp=""):
    return Explorer(Game(Path("nowhere"), task_type, thing, target, lamp))


def told(expert, command, feedback, *more):
    expert.observe(command, feedback, (*GO, *more, "look"))
    return expert.action()


def test_it_looks_into_closed_places_and_never_twice_into_the_same():
    expert = explorer("pick")
    assert told(expert, None, START) == "go to cabinet 1"
    closed = "You arrive at cabinet 1. The cabinet 1 is closed."
    assert told(expert, "go to cabinet 1", closed, "open cabinet 1", "examine cabinet 1") == "open cabinet 1"
    opened = "You open the cabinet 1. The cabinet 1 is open. In it, you see a plate 1."
    assert told(expert, "open cabinet 1", opened, "close cabinet 1", "examine cabinet 1") == "go to cabinet 2"


def test_it_goes_round_from_where_it_is_likely_places_first():
    expert = explorer("pick")
    told(expert, None, START)
    visits = ["go to shelf 1", "go to cabinet 2", "go to fridge 1", "go to microwave 1", "go to cabinet 1"]
    answers = [told(expert, go, f"On the {go[6:]}, you see nothing.") for go in visits]
    assert answers[0] == "go to cabinet 1"  # past the last one
    assert answers[1] == "go to fridge 1"  # not back to cabinet 1
    assert answers[3] == "go to cabinet 1"
    assert answers[4] == "go to cabinet 2"  # all over again


def test_it_takes_heats_and_delivers():
    expert = explorer("heat")
    told(expert, None, START)
    there = "You arrive at cabinet 2. The cabinet 2 is open. In it, you see a mug 1."
    take = "take mug 1 from cabinet 2"
    assert told(expert, "go to cabinet 2", there, take, "examine cabinet 2") == take
    assert (expert.holding, expert.treated) == (None, False)
    assert told(expert, take, "You pick up the mug 1 from the cabinet 2.") == "go to microwave 1"
    heat = "heat mug 1 with microwave 1"
    arrived = "You arrive at microwave 1. The microwave 1 is closed."
    assert told(expert, "go to microwave 1", arrived, heat, "examine microwave 1") == heat
    assert told(expert, heat, "You heat the mug 1 using the microwave 1.", heat) == "go to shelf 1"
    assert (expert.holding, expert.treated) == ("mug 1", True)
    move = "move mug 1 to shelf 1"
    assert told(expert, "go to shelf 1", "On the shelf 1, you see nothing.", move) == move


def test_a_command_that_did_nothing_changes_nothing():
    expert = explorer("pick")
    told(expert, None, START)
    told(expert, "take mug 1 from shelf 1", "Nothing happens.")
    assert expert.holding is None


def test_two_things_come_to_the_same_place_and_are_not_taken_back():
    expert = explorer("pick2")
    told(expert, None, START)
    told(expert, "go to fridge 1", "You arrive at fridge 1.", "take mug 1 from fridge 1")
    told(expert, "take mug 1 from fridge 1", "You pick up the mug 1 from the fridge 1.")
    told(expert, "go to shelf 1", "On the shelf 1, you see nothing.", "move mug 1 to shelf 1")
    back = "take mug 1 from shelf 1"
    after = told(expert, "move mug 1 to shelf 1", "You move the mug 1 to the shelf 1.", back)
    assert after == "go to cabinet 1"
    assert expert.holding is None
    second = "take mug 2 from cabinet 1"
    assert told(expert, "go to cabinet 1", "In it, you see a mug 2.", second) == second
    assert told(expert, second, "You pick up the mug 2 from the cabinet 1.") == "go to shelf 1"


def test_something_else_in_the_hand_is_put_down_at_once_or_goes_back():
    expert = explorer("pick")
    told(expert, None, START)
    take = "take egg 1 from fridge 1"
    told(expert, "go to fridge 1", "You arrive at fridge 1.", take)
    put = "move egg 1 to fridge 1"
    picked = "You pick up the egg 1 from the fridge 1."
    assert told(expert, take, picked) == "go to fridge 1"
    assert told(expert, take, picked, put) == put
    elsewhere = "move egg 1 to shelf 1"
    assert told(expert, "go to shelf 1", "On the shelf 1, you see nothing.", elsewhere) == elsewhere


def test_a_closed_place_is_opened_for_what_is_put_away():
    expert = explorer("pick")
    told(expert, None, START)
    told(expert, "take pan 1 from shelf 1", "You pick up the pan 1 from the shelf 1.")
    arrived = "You arrive at cabinet 2. The cabinet 2 is closed."
    assert told(expert, "go to cabinet 2", arrived, "open cabinet 2", "examine cabinet 2") == "open cabinet 2"


def test_a_place_at_the_same_spot_is_examined_for_one_cannot_go_there():
    expert = explorer("pick", target="cabinet")
    for place in ("cabinet 1", "cabinet 2", "fridge 1", "microwave 1"):
        told(expert, f"go to {place}", f"On the {place}, you see nothing.")
    assert told(expert, "look", "You are facing it.") == "go to shelf 1"
    reach = ("examine shelf 1", "examine shelf 2")
    at_one = told(expert, "go to shelf 1", "On the shelf 1, you see nothing.", "go to shelf 2")
    assert at_one == "go to shelf 2"
    assert told(expert, "go to shelf 1", "On the shelf 1, you see nothing.", *reach) == "examine shelf 2"


def test_a_lamp_that_was_seen_is_found_again():
    expert = explorer("look", thing="book", target="", lamp="desklamp")
    told(expert, None, START)
    told(expert, "go to shelf 1", "On the shelf 1, you see a desklamp 1.", "use desklamp 1")
    told(expert, "go to fridge 1", "On the fridge 1, you see a book 1.", "take book 1 from fridge 1")
    taken = "You pick up the book 1 from the fridge 1."
    assert told(expert, "take book 1 from fridge 1", taken) == "go to shelf 1"
    assert (
        told(expert, "go to shelf 1", "On the shelf 1, you see a desklamp 1.", "use desklamp 1")
        == "use desklamp 1"
    )
