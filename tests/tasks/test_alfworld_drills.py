"""What ALFWorld teaches a model built from nothing before its demonstrations: primer and drills."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from tests.tasks.alfworld_states import SMALL, STATE, needs_alfworld, shown, thing
from vlmagent.tasks.registry import build_task
from vlmagent.text import with_article


@pytest.fixture
def task():
    return build_task("alfworld", env=SMALL)


@needs_alfworld
def test_a_primer_says_of_a_few_names_whether_a_command_takes_them(task):
    rng = np.random.default_rng(0)
    counts, forms = set(), set()
    for _ in range(200):
        prompt, response = task.primer(rng)
        commands = re.fullmatch(r"Your admissible actions of the current situation are: \[(.*)\]\.", prompt)[
            1
        ]
        here = dict(re.findall(r"'take (\w+) ([1-4]) from \w+ [1-3]'", commands))
        said = json.loads(response)["thoughts"]
        answers = re.findall(r"The (\w+) (?:([1-4]) is|is not) here\.", said)
        assert len(dict(answers)) == len(answers) == 6
        assert {name: number for name, number in answers if number} == here
        counts.add(len(here))
        forms.add(said.startswith("I need "))
    assert counts == {1, 2, 3, 4}
    assert forms == {True, False}


@needs_alfworld
def test_drills_ask_for_several_things_and_say_of_each_whether_it_is_here(task):
    things = [
        thing("mug 2"),
        thing("mug 10"),
        thing("pan 1", "hot"),
        thing("desklamp 1"),
        thing("egg 3"),
        thing("cup 1"),
    ]
    state = shown(place="shelf 1", things=things)
    asked = set()
    for seed in range(40):
        prompt, response = task.drill(state, np.random.default_rng(seed))
        names = re.search(r"Your task is to find (.*?)\. Your admissible", prompt)[1].split(", ")
        here = [name for name in names if name in ("mug", "pan", "egg", "cup")]
        assert (len(names), len(set(names)), len(here)) == (6, 6, 3)
        said = json.loads(response)["thoughts"]
        numbers = {"mug": 2, "pan": 1, "egg": 3, "cup": 1}
        assert said == " ".join(
            f"I need {with_article(name)}. The {name} {f'{numbers[name]} is' if name in here else 'is not'} here."
            for name in names
        )
        asked |= set(names)
    assert asked > {"mug", "pan", "egg", "cup"}
    assert "desklamp" not in asked
    assert prompt == task.prompt(
        task.observe(np.empty(0), {**state, "goal_text": f"find {', '.join(names)}"})
    )


@needs_alfworld
@pytest.mark.parametrize(
    "state",
    [
        shown(),
        shown(place="drawer 1", opened=False),
        shown(place="desk 1"),
        shown(place="desk 1", hand=("pan 1",), admissible=["go to shelf 1", "examine pan 1"]),
        {**STATE, "scene": None},
    ],
    ids=["middle of the room", "closed", "empty", "hand full", "no picture to go by"],
)
def test_there_is_no_drill_where_nothing_can_be_taken(task, state):
    assert task.drill(state, np.random.default_rng(0)) is None


@needs_alfworld
@pytest.mark.parametrize(
    ("place", "opened", "action", "then"),
    [
        ("shelf 1", None, "move pan 1 to shelf 1", "I put it away."),
        ("drawer 1", False, "open drawer 1", "The drawer is closed, so I open it to put it away."),
    ],
)
def test_drills_with_a_full_hand_ask_for_something_else(task, place, opened, action, then):
    state = shown(
        place=place, opened=opened, hand=("pan 1", "hot"), admissible=["go to shelf 2", action, "look"]
    )
    needed = set()
    for seed in range(60):
        prompt, response = task.drill(state, np.random.default_rng(seed))
        name = re.search(r"put a cool (\w+) in cabinet", prompt)[1]
        door = ", which is closed" if opened is False else ""
        said = f"I am at {place}{door}. I hold a hot pan. I need {with_article(name)}. {then}"
        assert json.loads(response) == {"thoughts": said, "action": action}
        needed.add(name)
    assert len(needed) > 20
    assert not needed & {"pan", "mug"}
