"""Generated games: equal seeds, held-out rooms and goals, and that nothing the goal needs is missing."""

import re

import pytest

from vlmagent_envs.alfworld.household import APPLIANCES, HOLDS, LAMPS, OPENABLE, ROOMS, SUITABLE, TASK_TYPES
from vlmagent_envs.alfworld.problems import (
    SEEN_LAYOUTS,
    SPLITS,
    UNSEEN_LAYOUTS,
    draw_problem,
    layout_of,
    pddl,
    trajectory,
)

MANY = 60


def drawn(split, task_type, seed=0):
    return [draw_problem(split, task_type, seed, number) for number in range(MANY)]


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_unseen_rooms_and_goals_occur_nowhere_else(task_type):
    games = {split: drawn(split, task_type) for split in SPLITS}
    goals = {split: {game.goal for game in found} for split, found in games.items()}
    scenes = {split: {game.scene for game in found} for split, found in games.items()}
    seen_goals, seen_scenes = goals["train"] | goals["valid_seen"], scenes["train"] | scenes["valid_seen"]
    assert not goals["valid_unseen"] & seen_goals
    assert not scenes["valid_unseen"] & seen_scenes
    assert len(goals["valid_unseen"]) > 3
    assert len({game.things for game in games["valid_seen"]} & {game.things for game in games["train"]}) == 0


def test_layouts_of_a_kind_of_room_all_differ():
    for room in ROOMS:
        layouts = [layout_of(room, number) for number in range(SEEN_LAYOUTS + UNSEEN_LAYOUTS)]
        assert len(set(layouts)) == len(layouts)


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_every_game_has_what_its_goal_needs_and_is_not_won_at_once(task_type):
    for game in drawn("train", task_type) + drawn("valid_unseen", task_type):
        thing, target = game.goal.thing, game.goal.target
        places = [game.furniture[index] for kind, index in game.things if kind == thing]
        assert len(places) == (2 if task_type == "pick2" else 1)
        assert all(thing in HOLDS[place] for place in places)
        if task_type == "look":
            assert target in LAMPS
            assert [kind for kind, _ in game.things].count(target) == 1
            continue
        assert target in game.furniture
        assert thing in HOLDS[target]
        assert target not in places
        if task_type in APPLIANCES:
            verb, appliance = APPLIANCES[task_type]
            assert appliance in game.furniture
            assert appliance != target
            assert thing in SUITABLE[verb]


def test_equal_seeds_give_equal_games_and_others_do_not():
    assert drawn("train", "heat") == drawn("train", "heat")
    assert drawn("train", "heat") != drawn("train", "heat", seed=1)


def test_pddl_declares_every_name_it_uses():
    for task_type in TASK_TYPES:
        text = pddl(draw_problem("train", task_type, 0, 0), "trial_0")
        declared = set(re.findall(r"^  (\w+) - ", text, re.MULTILINE))
        used = {word for fact in re.findall(r"^  \(\w+ (.*)\)$", text, re.MULTILINE) for word in fact.split()}
        assert used <= declared
        assert "agent1" in declared
        assert text.count("(") == text.count(")")
        things = re.findall(r"^  (\w+) - (?:object|receptacle)$", text, re.MULTILINE)
        assert things
        assert all("_bar_" in name for name in things)  # ALFWorld numbers only such names
        assert len(things) == len(set(things))
        opened = re.findall(r"\(openable ([A-Za-z]+)_bar_", text)
        assert set(opened) <= OPENABLE


def test_trajectory_is_what_alfworld_reads():
    game = draw_problem("train", "look", 0, 3)
    about = trajectory(game, "trial_3")
    assert about["task_type"] == "look_at_obj_in_light"
    assert about["pddl_params"] == {
        "mrecep_target": "",
        "object_sliced": False,
        "object_target": game.goal.thing,
        "parent_target": "",
        "toggle_target": game.goal.target,
    }
    assert game.folder == f"look_at_obj_in_light-{game.goal.thing}-None-{game.goal.target}-{game.scene}"
