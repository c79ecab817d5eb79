"""NumberLine: move a number to a target by adding or subtracting one (paper, appendix B.1.1).

Knows the rules and the picture; knows nothing of prompts or models.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypedDict

import numpy as np
from PIL import Image, ImageDraw

from vlmagent_envs.base import SIZE, Picture, PictureEnv, Step, check_integer
from vlmagent_envs.fonts import fitting_size, font
from vlmagent_envs.holdout import LARGEST_LIST, Holdout

ACTIONS = ("+", "-")
"""Names of the actions, by index."""
LARGEST_N_MAX = 999_999
"""Six digits still fit the picture legibly."""
_MARGIN = 16
_STROKE = 2
_LARGEST_FONT = 62


class NumberLineInfo(TypedDict):
    """The true state of NumberLine."""

    target: int
    current: int
    n_max: int
    """The largest number."""
    step: int
    """Actions taken so far."""
    goal: bool
    """Whether both numbers are equal."""


class NumberLineEnv(PictureEnv):
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
    The true state: `NumberLineInfo`.

    ## Arguments
    `n_max` (default 5): largest number, a positive int. `holdout` (0): share of the pairs (x, y) in which only episodes
    of evaluation begin (seeds from 2**31 on). `render_mode`: None or "rgb_array".

    ## Version history
    v0: the rules of the paper, B.1.1 (the penalty as in its prose; its formula has the inequality reversed).
    """

    def __init__(self, n_max: int = 5, holdout: float = 0.0, render_mode: str | None = None) -> None:
        super().__init__(ACTIONS, render_mode)
        self.n_max = check_integer("n_max", n_max, 1, LARGEST_N_MAX)
        self.holdout = Holdout(holdout, self.starts)
        # the paper's limit (B.1.1): twice the largest distance
        self.max_steps = 2 * self.n_max
        self._target = self._current = self._step = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Picture, dict[str, Any]]:
        """Start an episode; ``options`` may hold ``target`` and ``current``.

        Raises:
            ValueError: an option is unknown or out of range, or both numbers are equal.
        """
        self._seed(seed)
        if options:  # a state that was asked for may be one that is held out
            target, current = self._chosen(options, *self._drawn())
        else:
            target, current = self.holdout.draw(self._drawn, _start, evaluates=self.evaluates)
        self._target, self._current, self._step = target, current, 0
        return self._started()

    def _drawn(self) -> tuple[int, int]:
        """Target and another number."""
        target, distance = self.np_random.integers(0, (self.n_max + 1, self.n_max))
        # a step of 1 to n_max around the circle from the target lands on every other number equally often
        return int(target), int((target + distance + 1) % (self.n_max + 1))  # uniform over the others

    def starts(self) -> Iterator[str] | None:
        """All starting states, as ``holdout`` names them; None where they are too many for a list."""
        numbers = range(self.n_max + 1)
        if len(numbers) * self.n_max > LARGEST_LIST:
            return None
        return (_start((x, y)) for x in numbers for y in numbers if x != y)

    def step(self, action: int) -> Step:
        """Move by one; see the class for rewards and ends.

        Raises:
            ValueError: ``action`` is neither 0 nor 1.
        """
        change = 1 if self._name(action) == "+" else -1
        # before the move: the penalty asks whether this step came closer
        before = abs(self._target - self._current)
        # at an end the number stays, which is then a step that comes no closer
        self._current = min(self.n_max, max(0, self._current + change))
        self._step += 1
        after = abs(self._target - self._current)
        if after == 0:
            return self._stepped(1.0, terminated=True)
        return self._stepped(0.0 if after < before else -1.0, truncated=self._step >= self.max_steps)

    def _chosen(self, options: dict[str, Any], target: int, current: int) -> tuple[int, int]:
        """Target and current number as the options say; of one that they leave open, what was drawn."""
        for key, value in options.items():
            if key not in ("target", "current"):
                raise ValueError(f"Unknown reset option {key!r}; NumberLine knows 'target' and 'current'.")
            check_integer(key, value, 0, self.n_max)
        # the drawn distance is kept rather than the drawn number, which might be the one that was chosen
        numbers = self.n_max + 1
        distance = current - target
        if "target" in options and "current" in options:
            target, current = options["target"], options["current"]
        elif "target" in options:
            target = options["target"]
            current = (target + distance) % numbers
        else:
            current = options["current"]
            # the same distance the other way round
            target = (current - distance) % numbers
        if target == current:
            raise ValueError(f"target and current must differ, but both are {target}.")
        return target, current

    def _info(self) -> NumberLineInfo:
        return {
            "target": self._target,
            "current": self._current,
            "n_max": self.n_max,
            "step": self._step,
            "goal": self._current == self._target,
        }

    def _picture(self) -> Picture:
        target = _line("Target", self._target, self.n_max)
        current = _line("Current", self._current, self.n_max)
        return np.concatenate([target, current])


@lru_cache(maxsize=256)
def _line(label: str, number: int, n_max: int) -> Picture:
    """One line of text, shape (150, 300, 3); its type size depends on ``n_max`` alone."""
    height = SIZE // 2
    image = Image.new("RGB", (SIZE, height), "white")
    chosen = font(fitting_size(f"Current: {n_max}", SIZE - 2 * _MARGIN, _LARGEST_FONT))
    place, text = (_MARGIN, height // 2), f"{label}: {number}"
    ImageDraw.Draw(image).text(place, text, "black", chosen, anchor="lm", stroke_width=_STROKE)
    # cached arrays are handed to many callers, who copy them into pictures
    pixels = np.asarray(image)
    pixels.setflags(write=False)
    return pixels


def _start(pair: tuple[int, int]) -> str:
    """A starting state by its target and current number."""
    return f"target {pair[0]}, current {pair[1]}"
