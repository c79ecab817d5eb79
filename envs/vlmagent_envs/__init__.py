"""Gymnasium environments of the paper: its gym_cards domain and ALFWorld, drawn with Pillow.

Importing the package registers them; a class is imported when one is made. Never imports vlmagent.
"""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

ENTRY_POINTS = {
    "vlmagent/NumberLine-v0": "vlmagent_envs.numberline:NumberLineEnv",
    "vlmagent/EZPoints-v0": "vlmagent_envs.ezpoints:EZPointsEnv",
    "vlmagent/Points24-v0": "vlmagent_envs.points24:Points24Env",
    "vlmagent/Blackjack-v0": "vlmagent_envs.blackjack:BlackjackEnv",
    "vlmagent/ALFWorld-v0": "vlmagent_envs.alfworld.env:AlfworldEnv",
}
"""Gymnasium id -> class. The environments truncate themselves, so no time limit is registered."""


def register_envs() -> None:
    """Register every environment that is not registered yet; calling it again changes nothing."""
    for env_id, entry_point in ENTRY_POINTS.items():
        if env_id not in registry:
            register(id=env_id, entry_point=entry_point)


register_envs()
