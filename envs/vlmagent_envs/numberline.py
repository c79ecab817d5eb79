"""NumberLine: move a number to a target by adding or subtracting one (paper, appendix B.1.1).

Knows the rules and the picture; knows nothing of prompts or models.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vlmagent_envs.fonts import fitting_size, font

ACTIONS = ("+", "-")
"""Names of the actions, by index."""
SIZE = 300
LARGEST_N_MAX = 999_999
"""Six digits still fit the picture legibly."""
_MARGIN = 16
_STROKE = 2
_LARGEST_FONT = 62


class NumberLineEnv(gym.Env[NDArray[np.uint8], int]):
    """Reach the target number by steps of one.

    ## Action space
    `Discrete(2)`: 0 is "+", 1 is "-". A step across 0 or `n_max` leaves the number where it is.

    ## Observation space
    `Box(0, 255, (300, 300, 3), uint8)`: "Target: x" above "Current: y", black on white. A new array
    at each step.

    ## Starting state
    x and y uniform in [0, n_max], x != y. `reset(options={"target": x, "current": y})` sets either or both.

    ## Reward
    +1 for reaching the target; -1 for a step that does not come closer; else 0.

    ## Episode end
    Terminated at the target; truncated after 2 * n_max steps (the last action still counts).

    ## Info
    The true state: `target`, `current`, `n_max`, `step`, `goal`.

    ## Arguments
    `n_max` (default 5): largest number, a positive int. `render_mode`: None or "rgb_array".

    ## Version history
    v0: the rules of the paper, B.1.1 (the penalty as in its prose; its formula has the inequality reversed).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012  (Gymnasium declares it so)

    def __init__(self, n_max: int = 5, render_mode: str | None = None) -> None:
        if isinstance(n_max, bool) or not isinstance(n_max, int) or not 1 <= n_max <= LARGEST_N_MAX:
            raise ValueError(f"n_max must be an integer from 1 to {LARGEST_N_MAX}, but received {n_max!r}.")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or 'rgb_array', but received {render_mode!r}.")
        self.n_max = n_max
        self.max_steps = 2 * n_max
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(len(ACTIONS))  # type: ignore[assignment]  # np.int64 acts as int
        self.observation_space = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self._target = self._current = self._step = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start an episode; ``options`` may hold ``target`` and ``current``.

        Raises:
            ValueError: an option is unknown or out of range, or both numbers are equal.
        """
        super().reset(seed=seed)
        target, distance = self.np_random.integers(0, (self.n_max + 1, self.n_max))
        current = (target + distance + 1) % (self.n_max + 1)  # uniform over the others
        if options:
            target, current = self._chosen(options, int(target), int(current))
        self._target, self._current, self._step = int(target), int(current), 0
        return self._picture(), self._info()

    def step(self, action: int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Move by one; see the class for rewards and ends.

        Raises:
            ValueError: ``action`` is neither 0 nor 1.
        """
        if action not in (0, 1):
            raise ValueError(f"The action must be 0 (+) or 1 (-), but received {action!r}.")
        before = abs(self._target - self._current)
        self._current = min(self.n_max, max(0, self._current + (1, -1)[int(action)]))
        self._step += 1
        after = abs(self._target - self._current)
        reward = 1.0 if after == 0 else -1.0 if after >= before else 0.0
        truncated = after != 0 and self._step >= self.max_steps
        return self._picture(), reward, after == 0, truncated, self._info()

    def render(self) -> NDArray[np.uint8] | None:
        """The current picture, uint8 (300, 300, 3), in mode "rgb_array"; else None."""
        return self._picture() if self.render_mode == "rgb_array" else None

    def _chosen(self, options: dict[str, Any], target: int, current: int) -> tuple[int, int]:
        for key, value in options.items():
            if key not in ("target", "current"):
                raise ValueError(f"Unknown reset option {key!r}; NumberLine knows 'target' and 'current'.")
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= self.n_max:
                raise ValueError(f"{key} must be an integer from 0 to {self.n_max}, but received {value!r}.")
        offset = (current - target) % (self.n_max + 1)
        if "current" not in options:
            current = (options["target"] + offset) % (self.n_max + 1)
        elif "target" not in options:
            target = (options["current"] - offset) % (self.n_max + 1)
        target, current = options.get("target", target), options.get("current", current)
        if target == current:
            raise ValueError(f"target and current must differ, but both are {target}.")
        return target, current

    def _info(self) -> dict[str, Any]:
        return {
            "target": self._target,
            "current": self._current,
            "n_max": self.n_max,
            "step": self._step,
            "goal": self._current == self._target,
        }

    def _picture(self) -> NDArray[np.uint8]:
        target = _line("Target", self._target, self.n_max)
        current = _line("Current", self._current, self.n_max)
        return np.concatenate([target, current])


@lru_cache(maxsize=256)
def _line(label: str, number: int, n_max: int) -> NDArray[np.uint8]:
    """One line of text, shape (150, 300, 3); its type size depends on ``n_max`` alone."""
    height = SIZE // 2
    image = Image.new("RGB", (SIZE, height), "white")
    chosen = font(fitting_size(f"Current: {n_max}", SIZE - 2 * _MARGIN, _LARGEST_FONT))
    place, text = (_MARGIN, height // 2), f"{label}: {number}"
    ImageDraw.Draw(image).text(place, text, "black", chosen, anchor="lm", stroke_width=_STROKE)
    pixels = np.asarray(image)
    pixels.setflags(write=False)
    return pixels
