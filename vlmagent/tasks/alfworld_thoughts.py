"""What an expert of ALFWorld would think: what it sees, what it is after, and why it does what it does.

Every sentence is true to what the agent can know there: the picture, the text, the goal and the commands. The expert's
memory of other places is not in it. Of what lies in sight the first thing is named, and the one that is needed once it
was said which that is: to find a thing just named is learnt sooner than to list all, and no mistaken list misleads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vlmagent.tasks.base import State
from vlmagent_envs.alfworld.household import APPLIANCES, LOOK
from vlmagent_envs.alfworld.scene import NAMED, kind_of, natural

_LIST = re.compile(r"you see ([^.]*)\.")


def thoughts(state: State, action: str) -> str:
    """Two to five sentences that lead to ``action``."""
    return " ".join([_described(state), _sought(state), _reason(state, action)])


def _described(state: State) -> str:
    """Where the agent is, what it sees and holds: the places by their names, the things as the text lists them."""
    scene, text = state["scene"], str(state["description"])
    if scene is None:
        return text
    if not scene["places"]:
        return f"I am in the middle of a room. {_held(scene)}"
    place = scene["places"][0]
    door = {True: ", which is open", False: ", which is closed", None: ""}[place["open"]]
    things = "" if place["open"] is False else _in_sight(state, text)
    return " ".join(part for part in (f"I am at {place['name']}{door}.", things, _held(scene)) if part)


def _in_sight(state: State, text: str) -> str:
    """The first of the things in sight, and whether there are more."""
    listed = _LIST.search(text)
    if listed:
        names = NAMED.findall(listed[1])
    else:
        places = state["scene"]["places"]
        names = sorted((thing["name"] for spot in places for thing in spot["things"]), key=natural)
    if not names:
        return "I see nothing."
    return f"I see {_a(names[0])}{' and more' if len(names) > 1 else ''}."


def seen(state: State) -> str | None:
    """What the picture shows, in words; None where only the simulator knows."""
    scene = state["scene"]
    if scene is None:
        return None
    if not scene["places"]:
        return f"I am in the middle of a room. {_held(scene)}"
    place = scene["places"][0]
    door = {True: "open ", False: "closed ", None: ""}[place["open"]]
    there = f"I am at the {door}{kind_of(place['name'])}."
    return " ".join(part for part in (there, _things(scene), _held(scene)) if part)


def _things(scene: Mapping[str, Any]) -> str:
    """What lies in sight; nothing is said of what a closed place hides."""
    things = [thing for spot in scene["places"] for thing in spot["things"]]
    if things:
        return f"I see {_listed(things)}."
    return "" if scene["places"][0]["open"] is False else "I see nothing."


def _held(scene: Mapping[str, Any]) -> str:
    return f"I hold {_listed([scene['hand']])}." if scene["hand"] else "My hand is empty."


def _listed(things: Sequence[Mapping[str, Any]]) -> str:
    """``a hot mug, an egg and 2 fork``."""
    names = Counter(" ".join([*thing["marks"], kind_of(thing["name"])]) for thing in things)
    parts = [f"{count} {name}" if count > 1 else _a(name) for name, count in names.items()]
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def _a(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _holds_wanted(state: State) -> bool:
    return state["holding"] is not None and kind_of(state["holding"]) == state["thing"]


def _appliance(state: State) -> tuple[str, str] | None:
    """What is still to be done to the thing, and with what."""
    verb, appliance = APPLIANCES.get(state["task_type"], ("", ""))
    return None if not verb or state["treated"] else (verb, appliance.lower())


def _searched(state: State) -> str | None:
    """The kind of thing that is looked for; None while one is brought somewhere."""
    if not _holds_wanted(state):
        return str(state["thing"])
    return str(state["lamp"]) if state["task_type"] == LOOK else None


def _sought(state: State) -> str:
    """What is needed next."""
    thing = state["thing"]
    if not _holds_wanted(state):
        return f"I need {_a(thing)}."
    if state["task_type"] == LOOK:
        return f"I need the {state['lamp']} for the {thing}."
    treatment = _appliance(state)
    if treatment:
        return f"I need to {treatment[0]} the {thing} with the {treatment[1]}."
    return f"I need to put the {thing} in the {state['target']}."


def _reason(state: State, action: str) -> str:
    """Why the action is right, or that it is simply chosen where it is not."""
    verb, _, rest = action.partition(" ")
    if action.startswith("go to "):
        return _reason_to_go(state, action.removeprefix("go to "))
    if verb == "open":
        after = "to put it in" if _delivers(state) else "to look inside"
        return f"The {kind_of(rest)} is closed, so I open it {after}."
    if verb == "take" and kind_of(rest.partition(" from ")[0]) == state["thing"] and not state["holding"]:
        return f"The {rest.partition(' from ')[0]} is here, so I take it."
    if verb in ("move", "put"):
        right = _delivers(state) and kind_of(rest.partition(" to ")[2]) == state["target"]
        return "It belongs here, so I put it down." if right else "I put it away."
    treatment = _appliance(state)
    if treatment and verb == treatment[0] and _holds_wanted(state):
        return f"The {treatment[1]} is here, so I {verb} it."
    if verb == "use":
        return f"The {state['lamp']} is here, so I use it."
    return f"I choose to {action}."


def _delivers(state: State) -> bool:
    return _holds_wanted(state) and state["task_type"] != LOOK and _appliance(state) is None


def _reason_to_go(state: State, place: str) -> str:
    kind, treatment = kind_of(place), _appliance(state)
    if _delivers(state) and kind == state["target"]:
        return f"I go to the {kind} to put it there."
    if _holds_wanted(state) and treatment and kind == treatment[1] and state["task_type"] != LOOK:
        return f"I go to the {kind} to {treatment[0]} it."
    searched = _searched(state)
    if searched is None:
        return f"I choose to go to {place}."
    places = (state["scene"] or {"places": ()})["places"]
    if not any(kind_of(thing["name"]) == searched for spot in places for thing in spot["things"]):
        hidden = not places or places[0]["open"] is False
        return f"{'' if hidden else 'It is not here, so '}I look for it at {place}."
    if kind_of(places[0]["name"]) == state["target"]:
        return f"The one here is where it belongs, so I look for another at {place}."
    return f"I choose to go to {place}."
