"""What an expert of ALFWorld would think: what it sees, what it is after, and why it does what it does.

Every sentence is true to what the agent can know there: the picture, the text, the goal and the commands. The expert's
memory of other places is not in it. Of the things in sight the one that is needed is named, or said to be missing: a
number that follows a name is copied from the list of commands, which is learnt sooner than to list all that is there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vlmagent.text import with_article
from vlmagent_envs.alfworld.household import APPLIANCES, LOOK, PICK_TWO
from vlmagent_envs.alfworld.info import AlfworldInfo, SceneInfo, ThingInfo
from vlmagent_envs.alfworld.scene import kind_of, natural

ASKED = 6
"""Things that an inventory asks for."""
_MIDDLE = "I am in the middle of a room."
_DOOR = {True: "open", False: "closed", None: ""}


class Drill(NamedTuple):
    """Another goal in a state.

    Attributes:
        goal: the sentence.
        thoughts: about it.
        action: what follows from them, None if nothing does.
    """

    goal: str
    thoughts: str
    action: str | None


def thoughts(state: AlfworldInfo, action: str) -> str:
    """Three to five sentences that lead to ``action``."""
    parts = (_described(state), _sought(state), _found(state, action), _reason(state, action))
    return " ".join(filter(None, parts))


def _described(state: AlfworldInfo) -> str:
    """Where the agent is, whether that is open, and what it holds."""
    scene = state["scene"]
    # a world with real frames: what is in the picture only the simulator knows, so the game's own words stand
    if scene is None:
        return state["description"]
    if not scene["places"]:
        return f"{_MIDDLE} {_held(scene)}"
    # several places may be within reach; the one that the agent went to last comes first
    place = scene["places"][0]
    door = _DOOR[place["open"]]
    at = f"I am at {place['name']}, which is {door}." if door else f"I am at {place['name']}."
    return f"{at} {_held(scene)}"


def seen(state: AlfworldInfo) -> str | None:
    """What the picture shows, in words; None where only the simulator knows."""
    scene = state["scene"]
    if scene is None:
        return None
    if not scene["places"]:
        return f"{_MIDDLE} {_held(scene)}"
    place = scene["places"][0]
    there = " ".join(filter(None, ("I am at the", _DOOR[place["open"]], kind_of(place["name"]))))
    return " ".join(filter(None, (f"{there}.", _things(scene), _held(scene))))


def _things(scene: SceneInfo) -> str:
    """What lies in sight; nothing is said of what a closed place hides."""
    things = _visible(scene)
    if things:
        return f"I see {_listed(things)}."
    # a closed place may be empty or full: saying "nothing" would be untrue of what is not seen
    return "" if scene["places"][0]["open"] is False else "I see nothing."


def _visible(scene: SceneInfo) -> list[ThingInfo]:
    return [thing for spot in scene["places"] for thing in spot["things"]]


def _held(scene: SceneInfo) -> str:
    return f"I hold {_listed([scene['hand']])}." if scene["hand"] else "My hand is empty."


def _listed(things: Sequence[ThingInfo]) -> str:
    """``a hot mug, an egg and 2 fork``."""
    names = Counter(" ".join([*thing["marks"], kind_of(thing["name"])]) for thing in things)
    parts = [f"{count} {name}" if count > 1 else with_article(name) for name, count in names.items()]
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def _holds_wanted(state: AlfworldInfo) -> bool:
    # by kind: the goal asks for an apple, and the hand holds apple 2
    return state["holding"] is not None and kind_of(state["holding"]) == state["thing"]


def _appliance(state: AlfworldInfo) -> tuple[str, str] | None:
    """What is still to be done to the thing, and with what."""
    if state["treated"] or state["task_type"] not in APPLIANCES:
        return None
    verb, appliance = APPLIANCES[state["task_type"]]
    return verb, appliance.lower()


def _searched(state: AlfworldInfo) -> str | None:
    """The kind of thing that is looked for; None while one is brought somewhere."""
    if not _holds_wanted(state):
        return state["thing"]
    return state["lamp"] if state["task_type"] == LOOK else None


def _sought(state: AlfworldInfo) -> str:
    """What is needed next."""
    thing = state["thing"]
    if not _holds_wanted(state):
        return f"I need {with_article(thing)}."
    if state["task_type"] == LOOK:
        return f"I need the {state['lamp']} for the {thing}."
    treatment = _appliance(state)
    if treatment:
        return f"I need to {treatment[0]} the {thing} with the {treatment[1]}."
    return f"I need to put the {thing} in the {state['target']}."


def _found(state: AlfworldInfo, action: str) -> str:
    """Whether what is looked for lies in sight; nothing where nothing can be seen or taken."""
    # a wrong thing in the hand has to be put away first, so whether the right one is here does not matter yet
    searched, hidden = _searched(state), _hidden(state)
    if searched is None or hidden or (state["holding"] and not _holds_wanted(state)):
        return ""
    there = _in_sight(state, searched)
    # of several things the one is named that is taken: thought and action have to agree
    taken = action.removeprefix("take ").partition(" from ")[0]
    there = [taken] if taken in there else there
    return _presence(searched, there, ", where it belongs" if there and _belongs(state) else "")


def _presence(kind: str, there: Sequence[str], more: str = "") -> str:
    """Whether a thing of a kind lies in sight, by the name of the first."""
    return f"The {there[0]} is here{more}." if there else f"The {kind} is not here."


def drill(state: AlfworldInfo, kinds: Sequence[str], rng: np.random.Generator) -> Drill | None:
    """Another goal in the same state.

    With empty hands the goal asks for several things at once, half of them in sight as far as there are so many, and
    the thoughts say of each whether it is here. With something in the hand the goal is about something else. None
    where nothing can be taken or put away.

    Args:
        kinds: what a goal may be about.
    """
    return _exchanged(state, kinds, rng) if state["holding"] else _inventory(state, kinds, rng)


def primer(kinds: Sequence[str], places: Sequence[str], rng: np.random.Generator) -> tuple[str, str]:
    """A few commands to take things, and what then is here and what is not: the least that shows how to find a name."""
    # a random order and a random part of the kinds: what is here must not follow from what was asked
    asked = [str(kind) for kind in rng.permutation(kinds)[:ASKED]]
    here = {
        kind: f"{kind} {rng.integers(1, 4, endpoint=True)}"
        for kind in asked[: rng.integers(1, 4, endpoint=True)]
    }
    place = f"{rng.choice(places)} {rng.integers(1, 3, endpoint=True)}"
    commands = ", ".join(f"'take {name} from {place}'" for name in here.values())
    needs = rng.random() < 0.5
    said = [
        (f"I need {with_article(kind)}. " if needs else "")
        + _presence(kind, [here[kind]] if kind in here else [])
        for kind in rng.permutation(asked).tolist()
    ]
    return f"Your admissible actions of the current situation are: [{commands}].", " ".join(said)


def _inventory(state: AlfworldInfo, kinds: Sequence[str], rng: np.random.Generator) -> Drill | None:
    """Several things at once, with nothing in the hand."""
    scene = state["scene"]
    if scene is None or _hidden(state):
        return None
    here = sorted({kind_of(thing["name"]) for thing in _visible(scene)} & set(kinds))
    if not here:
        return None
    # half of what is asked for is in sight if there is so much: an answer that is always the same teaches nothing
    missing = [kind for kind in kinds if kind not in here]
    some = [*rng.permutation(here)[: ASKED // 2], *rng.permutation(missing)]
    asked = [str(kind) for kind in rng.permutation(some[:ASKED])]
    said = (f"I need {with_article(kind)}. {_presence(kind, _in_sight(state, kind))}" for kind in asked)
    return Drill(f"find {', '.join(asked)}", " ".join(said), None)


def _exchanged(state: AlfworldInfo, kinds: Sequence[str], rng: np.random.Generator) -> Drill | None:
    """Another thing than the goal's, while the hand holds one that is neither."""
    held = state["holding"]
    assert held is not None
    # a command that puts the thing away, or opens the closed place first, which takes nothing before
    ways = (f"move {held} ", f"put {held} ", "open ")
    away = next((command for command in reversed(state["admissible"]) if command.startswith(ways)), None)
    if away is None:
        return None
    # neither what is held nor the goal's own thing: the answer has to be that the hand holds the wrong one
    thing = str(rng.choice([kind for kind in kinds if kind not in (kind_of(held), state["thing"])]))
    # as a whole word: the goal's "cup" must not be found in "cupboard"
    goal = re.sub(rf"\b{re.escape(state['thing'])}\b", thing, state["goal_text"])
    return Drill(goal, thoughts({**state, "thing": thing}, away), away)


def _in_sight(state: AlfworldInfo, kind: str) -> list[str]:
    """The things of a kind that lie in sight, by name."""
    names = [thing["name"] for thing in _visible(state["scene"])] if state["scene"] else []
    return sorted((name for name in names if kind_of(name) == kind), key=natural)


def _hidden(state: AlfworldInfo) -> bool:
    """Whether no thing can be seen: in the middle of a room, before a closed door, or with no picture to go by."""
    places = state["scene"]["places"] if state["scene"] else ()
    # the middle of a room has no places; `open` is None where a place has no door
    return not places or places[0]["open"] is False


def _belongs(state: AlfworldInfo) -> bool:
    """Whether the first of two things lies where both should."""
    scene = state["scene"]
    if scene is None or state["task_type"] != PICK_TWO:
        return False
    return kind_of(scene["places"][0]["name"]) == state["target"]


def _reason(state: AlfworldInfo, action: str) -> str:
    """Why the action is right, or that it is simply chosen where it is not."""
    verb, _, rest = action.partition(" ")
    if action.startswith("go to "):
        return _reason_to_go(state, action.removeprefix("go to "))
    if verb == "open":
        return f"The {kind_of(rest)} is closed, so I open it to {_purpose(state)}."
    # only the goal's own thing is taken for the goal; taking another one has no reason but that it was chosen
    if verb == "take" and kind_of(rest.partition(" from ")[0]) == state["thing"] and not state["holding"]:
        return "I take it."
    if verb in ("move", "put"):
        right = _delivers(state) and kind_of(rest.partition(" to ")[2]) == state["target"]
        return "It belongs here, so I put it down." if right else "I put it away."
    treatment = _appliance(state)
    if treatment and verb == treatment[0] and _holds_wanted(state):
        return f"The {treatment[1]} is here, so I {verb} it."
    if verb == "use" and _searched(state) == state["lamp"]:
        return "I use it."
    return f"I choose to {action}."


def _purpose(state: AlfworldInfo) -> str:
    """What a closed place is opened for."""
    if state["holding"] and not _holds_wanted(state):
        return "put it away"
    return "put it in" if _delivers(state) else "look inside"


def _delivers(state: AlfworldInfo) -> bool:
    return _holds_wanted(state) and state["task_type"] != LOOK and _appliance(state) is None


def _reason_to_go(state: AlfworldInfo, place: str) -> str:
    kind, treatment = kind_of(place), _appliance(state)
    if _delivers(state) and kind == state["target"]:
        return f"I go to the {kind} to put it there."
    if _holds_wanted(state) and treatment and kind == treatment[1] and state["task_type"] != LOOK:
        return f"I go to the {kind} to {treatment[0]} it."
    if state["holding"] and not _holds_wanted(state):
        return f"I go to {place} to put it away."
    searched = _searched(state)
    if searched is None:
        return f"I choose to go to {place}."
    if _hidden(state) or not _in_sight(state, searched):
        return f"I look for it at {place}."
    return f"I look for another at {place}." if _belongs(state) else f"I choose to go to {place}."
