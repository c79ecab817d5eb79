"""States of ALFWorld made by hand, for tests of its words."""

from __future__ import annotations

import pytest

from vlmagent_envs.alfworld.available import missing_packages

needs_alfworld = pytest.mark.skipif(
    missing_packages() is not None, reason="needs the extra: pip install 'vlmagent[alfworld]'"
)
SMALL = {"train_games": 1, "eval_games": 1}
ADMISSIBLE = ("go to cabinet 2", "go to shelf 1", "go to shelf 10", "take pan 1 from cabinet 1", "look")
SCENE = {
    "places": [
        {
            "name": "cabinet 1",
            "open": True,
            "things": [{"name": "pan 1", "marks": ()}, {"name": "egg 2", "marks": ()}],
        }
    ],
    "hand": None,
    "room": ["cabinet 1", "cabinet 2"],
}
STATE = {
    "description": "You arrive at cabinet 1. The cabinet 1 is open. In it, you see a pan 1, and a egg 2.",
    "goal_text": "put a cool mug in cabinet",
    "admissible": ADMISSIBLE,
    "scene": SCENE,
    "task_type": "cool",
    "thing": "mug",
    "target": "cabinet",
    "lamp": "",
    "holding": None,
    "treated": False,
    "expert_action": "go to cabinet 2",
    "won": False,
}


def shown(**changes):
    """A state with a scene made of: where, open or not, what lies there, what is held."""
    place, opened, things, hand = (changes.pop(key, None) for key in ("place", "opened", "things", "hand"))
    places = [] if place is None else [{"name": place, "open": opened, "things": things or []}]
    held = None if hand is None else {"name": hand[0], "marks": hand[1:]}
    scene = {"places": places, "hand": held, "room": []}
    return {
        **STATE,
        "description": "Nothing happens.",
        "scene": scene,
        "holding": hand and hand[0],
        **changes,
    }


def thing(name, *marks):
    return {"name": name, "marks": marks}
