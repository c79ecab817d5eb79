"""One generated game: a layout, things in it and a goal, all drawn from a seed, as PDDL and ALFRED's trajectory file.

A game belongs to one of three splits. ``valid_seen`` has the layouts and goals of ``train`` with other placements;
``valid_unseen`` has layouts, and pairs of a thing and its target, that occur nowhere else. Every game can be solved:
what the goal needs is placed, and so is the appliance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from vlmagent_envs.alfworld.household import (
    ALFRED_TYPES,
    APPLIANCES,
    GOALS,
    HOLDS,
    LAMPS,
    LOOK,
    OPENABLE,
    PICK_TWO,
    ROOMS,
    SUITABLE,
    TASK_TYPES,
    Room,
)

Split = Literal["train", "valid_seen", "valid_unseen"]
SPLITS: tuple[Split, ...] = ("train", "valid_seen", "valid_unseen")
SEEN_LAYOUTS, UNSEEN_LAYOUTS = 6, 3
"""Layouts of each kind of room in ``train`` and ``valid_seen``, and further ones in ``valid_unseen``."""
UNSEEN_SHARE = 0.2
"""Share of the pairs of thing and target of each task type that only ``valid_unseen`` has."""
THINGS = (8, 13)
"""How many things lie about in a room, without those of the goal: from the first up to below the second."""
MOST_THINGS = 4
"""In or on one piece of furniture."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be done: ``target`` is the type of a receptacle, or of a lamp for the type ``look``."""

    task_type: str
    thing: str
    target: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One game, before it is written.

    Attributes:
        room: kind of room.
        scene: number of the layout.
        furniture: types of receptacles; the same type may occur more than once.
        things: (type, index of the receptacle it lies in or on).
        sentence: the goal in words.
    """

    goal: Goal
    room: str
    scene: int
    furniture: tuple[str, ...]
    things: tuple[tuple[str, int], ...]
    sentence: str

    @property
    def folder(self) -> str:
        """The name that ALFRED would give to its folder."""
        goal = self.goal
        return f"{ALFRED_TYPES[goal.task_type]}-{goal.thing}-None-{goal.target}-{self.scene}"


def draw_problem(split: Split, task_type: str, seed: int, number: int) -> Problem:
    """The game ``number`` of a task type in a split; equal arguments give equal games."""
    words = [seed, SPLITS.index(split), TASK_TYPES.index(task_type), number]
    rng = np.random.default_rng(np.random.SeedSequence(words))
    unseen = split == "valid_unseen"
    # goals that training has and goals that it never has do not mix in one split
    goals = [goal for goal in _goals(task_type) if (goal in _unseen_goals(task_type)) == unseen]
    for _ in range(1000):  # a layout may have no free place for what a goal needs
        goal = goals[int(rng.integers(len(goals)))]
        rooms = [name for name, room in ROOMS.items() if _possible(goal, room)]
        room = rooms[int(rng.integers(len(rooms)))]
        layout = (
            int(rng.integers(UNSEEN_LAYOUTS)) + SEEN_LAYOUTS if unseen else int(rng.integers(SEEN_LAYOUTS))
        )
        furniture = layout_of(room, layout)
        things = _place(goal, room, furniture, rng)
        if things is not None:
            sentence = GOALS[task_type][int(rng.integers(2))]
            sentence = sentence.format(thing=goal.thing.lower(), target=goal.target.lower())
            return Problem(goal, room, ROOMS[room].number + layout, furniture, things, sentence)
    raise AssertionError(f"no layout has room for a game of {task_type}")


@cache
def layout_of(room: str, number: int) -> tuple[str, ...]:
    """The furniture of a layout. All layouts of a kind of room differ."""
    # drawn again until it differs from all layouts with smaller numbers: unseen ones are then new
    earlier = {layout_of(room, index) for index in range(number)}
    rng = np.random.default_rng(np.random.SeedSequence([ROOMS[room].number, number]))
    while True:
        counts = {
            kind: int(rng.integers(low, high + 1)) for kind, (low, high) in ROOMS[room].furniture.items()
        }
        furniture = tuple(kind for kind, count in counts.items() for _ in range(count))
        if furniture not in earlier:
            return furniture


@cache
def _goals(task_type: str) -> tuple[Goal, ...]:
    """Every goal of a type that some room allows, in a fixed order."""
    targets = LAMPS if task_type == LOOK else tuple(HOLDS)
    things = sorted({thing for room in ROOMS.values() for thing in room.things})
    goals = (Goal(task_type, thing, target) for thing in things for target in targets)
    return tuple(goal for goal in goals if any(_possible(goal, room) for room in ROOMS.values()))


@cache
def _unseen_goals(task_type: str) -> frozenset[Goal]:
    """The goals that only ``valid_unseen`` has: the same ones for every seed of a household."""
    goals = _goals(task_type)
    # a fixed number: which goals are unseen must not depend on the household
    rng = np.random.default_rng(np.random.SeedSequence([2024, TASK_TYPES.index(task_type)]))
    chosen = rng.choice(len(goals), max(1, round(UNSEEN_SHARE * len(goals))), replace=False)
    return frozenset(goals[int(index)] for index in chosen)


def _possible(goal: Goal, room: Room) -> bool:
    """Whether a room has what the goal needs. The appliance itself is never the target."""
    if goal.thing not in room.things:
        return False
    if goal.task_type == LOOK:
        return goal.target in room.lamps
    if goal.target not in room.furniture or goal.thing not in HOLDS[goal.target]:
        return False
    if goal.task_type not in APPLIANCES:
        return True
    verb, appliance = APPLIANCES[goal.task_type]
    return appliance in room.furniture and appliance != goal.target and goal.thing in SUITABLE[verb]


def _place(
    goal: Goal, room: str, furniture: tuple[str, ...], rng: np.random.Generator
) -> tuple[tuple[str, int], ...] | None:
    """Things and where they lie, none of them where the goal wants it; None if the layout has no place."""
    load = [0] * len(furniture)
    placed: list[tuple[str, int]] = []

    def put(thing: str, places: list[int]) -> bool:
        free = [index for index in places if load[index] < MOST_THINGS]
        if not free:
            return False
        index = free[int(rng.integers(len(free)))]
        load[index] += 1
        placed.append((thing, index))
        return True

    def places(thing: str) -> list[int]:
        wanted = goal.target if thing == goal.thing and goal.task_type != LOOK else None
        return [i for i, kind in enumerate(furniture) if thing in HOLDS[kind] and kind != wanted]

    if goal.task_type == LOOK:
        stands = ROOMS[room].lamps[goal.target]
        if not put(goal.target, [i for i, kind in enumerate(furniture) if kind in stands]):
            return None
    elif goal.target not in furniture:
        return None
    copies = 2 if goal.task_type == PICK_TWO else 1
    # before all else, while there are free places
    if not all(put(goal.thing, places(goal.thing)) for _ in range(copies)):
        return None
    for _ in range(int(rng.integers(*THINGS))):
        thing = ROOMS[room].things[int(rng.integers(len(ROOMS[room].things)))]
        if thing != goal.thing:
            put(thing, places(thing))
    return tuple(placed)


def trajectory(problem: Problem, name: str) -> dict[str, Any]:
    """What ``traj_data.json`` holds, as far as ALFWorld's text games read it."""
    goal = problem.goal
    look = goal.task_type == LOOK
    return {
        "task_id": name,
        "task_type": ALFRED_TYPES[goal.task_type],
        "pddl_params": {
            "mrecep_target": "",
            "object_sliced": False,
            "object_target": goal.thing,
            "parent_target": "" if look else goal.target,
            "toggle_target": goal.target if look else "",
        },
        "scene": {"floor_plan": f"FloorPlan{problem.scene}", "scene_num": problem.scene},
        "turk_annotations": {"anns": [{"task_desc": problem.sentence, "high_descs": []}]},
    }


def game(problem: Problem, name: str, domain: str, grammar: str) -> str:
    """What ``game.tw-pddl`` holds.

    Args:
        domain, grammar: ALFWorld's own, the same for all its games.
    """
    document = {
        "pddl_domain": domain,
        "grammar": grammar.replace("UNKNOWN GOAL", problem.sentence),
        "pddl_problem": pddl(problem, name),
        "solvable": True,
    }
    return json.dumps(document)


def pddl(problem: Problem, name: str) -> str:
    """The problem in ALFWorld's PDDL domain."""
    receptacles = _ids(problem.furniture)
    things = _ids(tuple(kind for kind, _ in problem.things))
    places = [
        f"loc_bar_{index}" for index in range(len(receptacles) + 1)
    ]  # the last one: the middle of the room
    objects = [
        "agent1 - agent",
        *(f"{kind}Type - otype" for kind in sorted({kind for kind, _ in problem.things})),
        *(f"{kind}Type - rtype" for kind in sorted(set(problem.furniture))),
        *(f"{thing} - object" for thing in things),
        *(f"{receptacle} - receptacle" for receptacle in receptacles),
        *(f"{place} - location" for place in places),
    ]
    facts = [f"atLocation agent1 {places[-1]}"]
    for kind, receptacle, place in zip(problem.furniture, receptacles, places[:-1], strict=True):
        facts += [f"receptacleType {receptacle} {kind}Type", f"receptacleAtLocation {receptacle} {place}"]
        if kind in OPENABLE:
            facts.append(f"openable {receptacle}")
    for (kind, index), thing in zip(problem.things, things, strict=True):
        facts += [f"objectType {thing} {kind}Type", f"inReceptacle {thing} {receptacles[index]}"]
        facts += [f"objectAtLocation {thing} {places[index]}", *_abilities(kind, thing)]
    kinds = {kind for kind, _ in problem.things}
    for kind in sorted(set(problem.furniture)):
        facts += [f"canContain {kind}Type {thing}Type" for thing in sorted(kinds & HOLDS[kind])]
    listed = "\n".join(f"  ({fact})" for fact in facts)
    declared = "\n".join(f"  {entry}" for entry in objects)
    return (
        f"(define (problem {name})\n(:domain alfred)\n(:objects\n{declared}\n)\n"
        f"(:init\n{listed}\n)\n(:goal {_goal(problem.goal)})\n)\n"
    )


def _ids(kinds: tuple[str, ...]) -> list[str]:
    """A name for each entity; the game numbers those of a kind from the last one down, starting with 1."""
    seen: dict[str, int] = {}
    total: Mapping[str, int] = {kind: kinds.count(kind) for kind in kinds}
    names = []
    for kind in kinds:
        seen[kind] = seen.get(kind, 0) + 1
        family, part = (kind.removesuffix("Basin"), f"_bar_{kind}") if kind.endswith("Basin") else (kind, "")
        names.append(f"{family}_bar_{total[kind] - seen[kind] + 1:02d}{part}")
    return names


def _abilities(kind: str, thing: str) -> list[str]:
    if kind in LAMPS:
        return [f"toggleable {thing}"]
    adjectives = {"clean": "cleanable", "heat": "heatable", "cool": "coolable"}
    able = [f"{adjectives[verb]} {thing}" for verb, kinds in SUITABLE.items() if kind in kinds]
    return [f"pickupable {thing}", *able]


def _goal(goal: Goal) -> str:
    """The goal as a formula of ALFWorld's domain."""
    kind = f"(objectType ?o {goal.thing}Type)"
    if goal.task_type == LOOK:
        lamp = f"(objectType ?ot {goal.target}Type) (toggleable ?ot) (isToggled ?ot)"
        near = "(exists (?r - receptacle) (and (inReceptacle ?ot ?r) (receptacleAtLocation ?r ?l)))"
        held = f"(exists (?o - object) (and {kind} (holds ?a ?o)))"
        light = f"(exists (?ot - object) (and {lamp} {near}))"
        at = f"(exists (?l - location) (and (atLocation ?a ?l) {light}))"
        return f"(exists (?a - agent) (and {held} {at}))"
    states = {"clean": "(isClean ?o)", "heat": "(isHot ?o)", "cool": "(isCool ?o)"}
    state = states[APPLIANCES[goal.task_type][0]] if goal.task_type in APPLIANCES else ""
    there = f"(receptacleType ?r {goal.target}Type)"
    second = ""
    if goal.task_type == PICK_TWO:
        second = f"(exists (?o2 - object) (and (not (= ?o ?o2)) {kind.replace('?o', '?o2')} (inReceptacle ?o2 ?r)))"
    thing = f"(exists (?o - object) (and {kind} {state} (inReceptacle ?o ?r) {second}))"
    return f"(exists (?r - receptacle) (and {there} {thing}))"
