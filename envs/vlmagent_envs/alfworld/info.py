"""What an ALFWorld environment says of its true state, as plain values: numbers, texts, and what holds them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TypedDict, cast

from vlmagent_envs.alfworld.scene import Scene


class ThingInfo(TypedDict):
    """A thing in sight: its name, such as ``apple 1``, and how it is marked, such as ``hot``."""

    name: str
    marks: tuple[str, ...]


class PlaceInfo(TypedDict):
    """A receptacle within reach. ``open`` is None for one that cannot be closed; a closed one shows nothing inside."""

    name: str
    open: bool | None
    things: tuple[ThingInfo, ...]


class SceneInfo(TypedDict):
    """What a person there would see."""

    places: tuple[PlaceInfo, ...]
    """Receptacles within reach, the one that the agent went to last first; () in the middle of the room."""
    hand: ThingInfo | None
    """What the agent holds."""
    room: tuple[str, ...]
    """Names of all the room's receptacles."""


class AlfworldInfo(TypedDict):
    """The true state of ALFWorld."""

    task_type: str
    """One of ``household.TASK_TYPES``."""
    goal_text: str
    """The goal in a sentence: ``put a hot apple in fridge``."""
    description: str
    """What the game said last, in one line."""
    admissible: tuple[str, ...]
    """Commands that it would accept now."""
    scene: SceneInfo | None
    """What is in sight; None where only the simulator knows."""
    progress: float
    """Share of the goal's conditions that hold."""
    won: bool
    """Whether the goal is reached."""
    step: int
    """Commands given so far."""
    expert_action: str
    """What the expert, who has watched the episode, would do."""
    holding: str | None
    """What the agent holds, as far as the texts tell."""
    treated: bool
    """Whether that has been cleaned, heated or cooled as the goal asks."""
    thing: str
    """The kind of thing that the goal is about."""
    target: str
    """The kind of receptacle where it should come; "" where the goal has none."""
    lamp: str
    """The kind of lamp to look at it by; "" where the goal has none."""
    game: str
    """The game's folder, from the folder of all games."""
    lost: bool
    """Whether the game's process died: nothing is known of what the last command did."""


def scene_info(scene: Scene | None) -> SceneInfo | None:
    """A scene as plain values."""
    return None if scene is None else cast(SceneInfo, asdict(scene))
