"""A contact sheet of the four games, large as they are drawn and small as a model sees them.

``python -m vlmagent_envs.contact_sheet games.png`` writes it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from PIL import Image, ImageDraw

import vlmagent_envs
from vlmagent_envs.base import SIZE, Picture
from vlmagent_envs.fonts import font

SMALL = 84
_GAP, _CAPTION = 16, 34
_GROUND, _INK = (246, 246, 242), (40, 44, 48)


class Scene(NamedTuple):
    """One picture of a game: what to reset to, and the actions that lead there."""

    title: str
    env_id: str
    options: Mapping[str, Any]
    actions: Sequence[str]


SCENES = (
    Scene("NumberLine", "vlmagent/NumberLine-v0", {"target": 5, "current": 2}, ("+",)),
    Scene("EZPoints", "vlmagent/EZPoints-v0", {"cards": ("7H", "5S")}, ("7", "+")),
    Scene("Points24", "vlmagent/Points24-v0", {"cards": ("AH", "2S", "10D", "KC")}, ("(", "2", "+", "10")),
    Scene("Blackjack", "vlmagent/Blackjack-v0", {"dealer": ("8S", "KD"), "player": ("QH", "3C")}, ()),
)


def scene_picture(scene: Scene) -> Picture:
    """The scene's picture, shape (300, 300, 3)."""
    vlmagent_envs.register_envs()
    env = gym.make(scene.env_id, disable_env_checker=True)
    picture, _ = env.reset(seed=0, options=dict(scene.options))
    names = env.get_wrapper_attr("actions")
    for action in scene.actions:
        picture = env.step(names.index(action))[0]
    env.close()
    return np.asarray(picture)


def contact_sheet(scenes: Sequence[Scene] = SCENES) -> Image.Image:
    """Every scene at 300 and at 84 pixels, side by side, with its name."""
    width = _GAP + len(scenes) * (SIZE + _GAP)
    sheet = Image.new("RGB", (width, _CAPTION + SIZE + _GAP + SMALL + _GAP), _GROUND)
    draw = ImageDraw.Draw(sheet)
    for index, scene in enumerate(scenes):
        left = _GAP + index * (SIZE + _GAP)
        picture = Image.fromarray(scene_picture(scene))
        small = picture.resize((SMALL, SMALL), Image.Resampling.BICUBIC)
        draw.text((left, _CAPTION // 2 + 2), scene.title, _INK, font(20), anchor="lm")
        sheet.paste(picture, (left, _CAPTION))
        sheet.paste(small, (left, _CAPTION + SIZE + _GAP))
        middle = _CAPTION + SIZE + _GAP + SMALL // 2
        draw.text((left + SMALL + 12, middle), f"at {SMALL} px", _INK, font(16), anchor="lm")
        draw.rectangle((left - 1, _CAPTION - 1, left + SIZE, _CAPTION + SIZE), None, (200, 200, 196))
    return sheet


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "games.png")
    contact_sheet().save(path)
    print(path)
