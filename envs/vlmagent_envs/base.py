"""What all our environments share: pictures of 300 x 300 pixels, named actions, and checks of arguments."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from vlmagent_envs.holdout import EVALUATION_SEEDS

SIZE = 300
Picture = NDArray[np.uint8]
"""Shape (300, 300, 3), RGB."""
Step = tuple[Picture, float, bool, bool, dict[str, Any]]

PAPER, RELEASED = "paper", "released"


class PictureEnv(gym.Env[Picture, int]):
    """An environment with named discrete actions; the observation is a picture, ``info`` the true state.

    Every picture and every ``info`` handed out is the caller's own. Subclasses draw all randomness from
    ``self.np_random``, and each declares what its ``info`` holds as a ``TypedDict``.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012  (Gymnasium declares it so)

    def __init__(self, actions: tuple[str, ...], render_mode: str | None) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or 'rgb_array', but received {render_mode!r}.")
        self.render_mode = render_mode
        self.actions = actions
        self.action_space = spaces.Discrete(len(actions))  # type: ignore[assignment]  # np.int64 acts as int
        self.observation_space = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.evaluates = False
        """Whether the last seed given was one of evaluation's; episodes without a seed go on as the one before."""

    def _seed(self, seed: int | None) -> None:
        """What every ``reset`` begins with: seed what is drawn, where a seed is given."""
        # Gymnasium's own, which seeds `np_random`; without a seed the stream goes on
        gym.Env.reset(self, seed=seed)
        if seed is not None:
            self.evaluates = seed >= EVALUATION_SEEDS

    @abstractmethod
    def _picture(self) -> Picture:
        """A new picture of the current state."""

    @abstractmethod
    def _info(self) -> Mapping[str, object]:
        """The true state, made of numbers, texts and lists of them; new lists at each call."""

    def _started(self) -> tuple[Picture, dict[str, Any]]:
        """What ``reset`` returns in the current state."""
        return self._picture(), dict(self._info())

    def _stepped(self, reward: float, *, terminated: bool = False, truncated: bool = False) -> Step:
        """What ``step`` returns in the current state."""
        # dict(): whoever changes what was handed out does not change the state
        return self._picture(), reward, terminated, truncated, dict(self._info())

    def render(self) -> Picture | None:
        """The current picture in mode "rgb_array", else None."""
        return self._picture() if self.render_mode == "rgb_array" else None

    def _name(self, action: int) -> str:
        """The name of an action.

        Raises:
            ValueError: there is no such action.
        """
        if not self.action_space.contains(action):
            named = ", ".join(f"{index} ({name})" for index, name in enumerate(self.actions))
            raise ValueError(f"The action must be one of {named}; received {action!r}.")
        return self.actions[int(action)]


def check_integer(name: str, value: object, low: int, high: int) -> int:
    """``value`` if it is an integer from ``low`` to ``high``.

    Raises:
        ValueError: it is not.
    """
    # True is an int in Python, and no number that anybody means
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, but received {value!r}.")
    return int(value)


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raises ValueError unless ``value`` is among ``choices``."""
    if value not in choices or isinstance(value, bool):  # True equals 1
        listed = " or ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} must be {listed}, but received {value!r}.")
