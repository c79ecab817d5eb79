"""ALFWorld as a Gymnasium environment: texts as actions, a picture as observation (paper, section 5.2 and B.2)."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from PIL import Image

from vlmagent_envs.alfworld.available import missing_for_thor, missing_packages
from vlmagent_envs.alfworld.backends import Reply
from vlmagent_envs.alfworld.card import scene_picture
from vlmagent_envs.alfworld.client import Worker, WorkerLostError
from vlmagent_envs.alfworld.explorer import Explorer
from vlmagent_envs.alfworld.games import (
    AlfworldError,
    Game,
    GameFailedError,
    data_root,
    find_games,
    has_data,
    household,
)
from vlmagent_envs.alfworld.household import TASK_TYPES
from vlmagent_envs.alfworld.info import AlfworldInfo, scene_info
from vlmagent_envs.alfworld.problems import SPLITS, Split
from vlmagent_envs.base import PAPER, RELEASED, SIZE, Picture, check_choice, check_integer
from vlmagent_envs.holdout import EVALUATION_SEEDS

WORLDS = ("mini", "tw", "thor")
EXPERTS = ("explorer", "planner")
WON = 50.0
_STARTS = 3
"""How often a worker that dies before a game has begun is started again."""
_HEADER = "-= Welcome to TextWorld, ALFRED! =-"
_GOAL = re.compile(r"Your task is to:?\s*(.*?)\s*\.?\s*$", re.DOTALL)


class AlfworldEnv(gym.Env[Picture, str]):
    """Do a household task by giving commands in words.

    ## Action space
    `Text`: one of the commands in `info["admissible"]`, such as "take apple 1 from fridge 1".

    ## Observation space
    `Box(0, 255, (300, 300, 3), uint8)`: in the worlds "mini" and "tw" a card drawn from what is in sight (`card`), in
    "thor" the simulator's frame. A new array at each step.

    ## Starting state
    A game of the split, chosen by the seed; the split is `eval_split` for seeds of 2**31 and more.

    ## Reward
    "paper" (B.2): 50 for reaching the goal, 1 whenever one of its conditions holds that never did in the episode, -1
    for a command that is not admissible. "released", as in the paper's released code: 50 for reaching the goal and, at
    each step, the share of the conditions that hold; -1 for a command that is not admissible.

    ## Episode end
    Terminated when the goal is reached; truncated after `max_steps`, and when the game's process was lost (then
    `info["lost"]` is True and the picture is that of the state before).

    ## Info
    The true state: `info.AlfworldInfo`.

    ## Arguments
    `world`: "mini" (generated), "tw" (the real games) or "thor" (their real frames). `split`, `eval_split`: "train",
    "valid_seen" or "valid_unseen". `task_types`: those to play. `rules`: see reward. `labels`: write names on the
    card. `expert`: "explorer", or "planner", which knows everything and is slow. `max_steps`. `data`: folder of the
    real games; None takes $ALFWORLD_DATA. `cache`: folder for generated games. `household_seed`: another one gives
    another household. `games_per_type`: generated games of each type by split. `error`: raised, with a sentence, when
    games or packages are missing. `failure`: raised, with its last words, when a game fails. `render_mode`: None or
    "rgb_array".

    Each environment owns a process, in which the game runs; it is started when the environment is made.

    ## Version history
    v0: ALFWorld 0.4.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012  (Gymnasium declares it so)

    def __init__(
        self,
        world: str = "mini",
        split: Split = "train",
        eval_split: Split = "valid_seen",
        task_types: Sequence[str] = TASK_TYPES,
        rules: str = PAPER,
        labels: bool = False,
        expert: str = "explorer",
        max_steps: int = 50,
        data: str | None = None,
        cache: str | Path | None = None,
        household_seed: int = 0,
        games_per_type: Mapping[Split, int] | None = None,
        error: type[Exception] = AlfworldError,
        failure: type[Exception] = GameFailedError,
        render_mode: str | None = None,
    ) -> None:
        for name, value, choices in (
            ("world", world, WORLDS),
            ("split", split, SPLITS),
            ("eval_split", eval_split, SPLITS),
            ("rules", rules, (PAPER, RELEASED)),
            ("expert", expert, EXPERTS),
            ("render_mode", render_mode, (None, "rgb_array")),
            *(("task_types", task_type, TASK_TYPES) for task_type in task_types),
        ):
            check_choice(name, value, choices)
        self.max_steps = check_integer("max_steps", max_steps, 1, 100_000)
        self.world, self.rules, self.labels, self.expert = world, rules, labels, expert
        self.split, self.eval_split, self.task_types = split, eval_split, tuple(task_types)
        self.render_mode, self._error, self._failure = render_mode, error, failure
        with self._translated():
            self.root = _root(world, data, cache, household_seed, games_per_type)
        self.action_space = spaces.Text(200, charset=string.ascii_letters + string.digits + " /-_'.,")
        self.observation_space = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        settings = {"world": world, "root": str(self.root), "size": SIZE, "planner": expert == "planner"}
        self.worker = Worker(settings)
        self.worker.start()
        self._evaluates = False
        # What the process was asked and has not answered yet: to reset to a seed, or to do a command.
        self._pending: int | str | None = None
        self._lost = False

    def begin_reset(self, seed: int) -> None:
        """Begin what ``reset(seed=seed)`` will wait for, so that several environments reset at the same time."""
        with self._translated():
            self._drop_answer()
            self._choose(seed)
            self._begin(seed, "reset", self._game, self._game_seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Picture, dict[str, Any]]:
        """Start a game.

        Raises:
            AlfworldError: there is no such game, or its process dies again and again.
            ValueError: an option was given; there are none.
        """
        if options:
            raise ValueError(
                f"ALFWorld has no reset options; received {options!r}. Its seed chooses the game."
            )
        with self._translated():
            # else `begin_reset` has asked for this very seed, and the answer is on its way
            if seed is None or self._pending != seed:
                self._drop_answer()
                self._choose(seed)
            reply = self._start_game()
        self._steps, self._lost = 0, False
        self._held, self._best = set[int](), 0.0
        self._reached_more(reply)  # what holds at the start is no progress
        self._goal_text = _goal_text(reply.feedback)
        self._explorer = Explorer(self._game)
        self._take_in(None, reply)
        return self._picture(), dict(self._info())

    def begin_step(self, action: str) -> None:
        """Begin what ``step(action)`` will wait for, so that several environments step at the same time."""
        with self._translated():
            self._drop_answer()
            if not self._lost:  # another process would not know the game
                self._begin(action, "step", action)

    def step(self, action: str) -> tuple[Picture, float, bool, bool, dict[str, Any]]:
        """Give a command; see the class for rewards and ends.

        Raises:
            AlfworldError: the game failed.
            ValueError: the action is no text.
        """
        if not isinstance(action, str):
            raise ValueError(f"The action must be a command in words, such as 'look'; received {action!r}.")
        try:
            # not begun, or begun for another command
            if self._pending != action:
                self.begin_step(action)
            if self._lost:
                return self._end_lost()
            self._pending = None
            with self._translated():
                reply = self.worker.receive()
        except WorkerLostError:
            return self._end_lost()
        inadmissible = action not in self._admissible
        self._steps += 1
        reward = self._reward(reply, inadmissible)
        self._take_in(action, reply)
        truncated = self._steps >= self.max_steps and not reply.won
        return self._picture(), reward, reply.won, truncated, dict(self._info())

    def render(self) -> Picture | None:
        """The current picture in mode "rgb_array", else None."""
        return self._picture() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """End the game's process."""
        self.worker.stop()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise the caller's kinds of errors in place of ours."""
        try:
            yield
        except GameFailedError as error:
            raise self._failure(str(error)) from error
        except AlfworldError as error:
            raise self._error(str(error)) from error

    def _choose(self, seed: int | None) -> None:
        """The game that a seed stands for; without one, the next of the sequence."""
        super().reset(seed=seed)
        if seed is not None:
            self._evaluates = seed >= EVALUATION_SEEDS
        split = self.eval_split if self._evaluates else self.split
        games = find_games(self.root, split, self.task_types, thor=self.world == "thor")
        # from a list in the order of paths: equal seeds choose equal games on every machine
        self._game: Game = games[int(self.np_random.integers(len(games)))]
        self._game_seed = int(self.np_random.integers(2**31))

    def _begin(self, pending: int | str, *message: Any) -> None:
        """Send what will be waited for later; if the process is dead, that is found out then."""
        try:
            self.worker.send(*message)
            self._pending = pending
        except WorkerLostError:
            self._pending = None
            self._lost = True

    def _drop_answer(self) -> None:
        """Throw away the answer to something that was begun and is not wanted."""
        if self._pending is not None:
            self._pending = None
            try:
                self.worker.receive()
            except WorkerLostError:
                self._lost = True

    def _start_game(self) -> Reply:
        """Its first state. A process that dies is started again a few times: no step is lost yet."""
        last_words = ""
        for _ in range(_STARTS):
            try:
                if self._pending is None:
                    self.worker.send("reset", self._game, self._game_seed)
                self._pending = None
                return self.worker.receive()
            except WorkerLostError as error:
                last_words = str(error)
        raise GameFailedError(
            f"The game {self._game.folder} could not be started {_STARTS} times. {last_words}"
        )

    def _take_in(self, command: str | None, reply: Reply) -> None:
        admissible = tuple(command for command in reply.admissible if command != "help")  # as in Figure 17
        self._reply, self._admissible = reply, admissible
        self._explorer.observe(command, reply.feedback, admissible)

    def _reward(self, reply: Reply, inadmissible: bool) -> float:
        extra = float(self._reached_more(reply)) if self.rules == PAPER else reply.progress
        return WON * reply.won + extra - inadmissible

    def _reached_more(self, reply: Reply) -> bool:
        """Whether a condition of the goal holds that never did in this episode, and remember it."""
        held = {index for index, holds in enumerate(reply.conditions) if holds}
        # games with real frames tell the share alone, so that one condition may hide behind the loss of another
        more = bool(held - self._held) if reply.conditions else reply.progress > self._best
        self._held |= held
        self._best = max(self._best, reply.progress)
        return more

    def _end_lost(self) -> tuple[Picture, float, bool, bool, dict[str, Any]]:
        """The end of an episode whose process died: nothing is known of what the last command did."""
        self._pending = None
        self._lost = True
        self._steps += 1
        self.worker.start()  # the next episode's process may start while others step
        return self._picture(), 0.0, False, True, dict(self._info())

    def _expert_action(self) -> str:
        """The next command of the expert; "look" when the planner knows none."""
        if self.expert == "planner":
            return self._reply.plan[0] if self._reply.plan else "look"
        return self._explorer.action()

    def _info(self) -> AlfworldInfo:
        reply, game = self._reply, self._game
        return {
            "task_type": game.task_type,
            "goal_text": self._goal_text,
            "description": _description(reply.feedback),
            "admissible": self._admissible,
            "scene": scene_info(reply.scene),
            "progress": reply.progress,
            "won": reply.won and not self._lost,
            "step": self._steps,
            "expert_action": self._expert_action(),
            "holding": self._explorer.holding,
            "treated": self._explorer.treated,
            "thing": game.thing,
            "target": game.target,
            "lamp": game.lamp,
            "game": str(game.folder.relative_to(self.root)),
            "lost": self._lost,
        }

    def _picture(self) -> Picture:
        reply = self._reply
        if reply.scene is not None:
            return scene_picture(reply.scene, self.labels).copy()
        assert reply.frame is not None
        # most frames have the size already, as they were asked for
        if reply.frame.shape == (SIZE, SIZE, 3):
            return reply.frame.copy()
        return np.array(Image.fromarray(reply.frame).resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def _root(
    world: str,
    data: str | None,
    cache: str | Path | None,
    seed: int,
    games_per_type: Mapping[Split, int] | None,
) -> Path:
    """The folder of the world's games.

    Raises:
        AlfworldError: a package or the games are missing.
    """
    lacks = missing_packages()
    if lacks:
        raise AlfworldError(lacks)
    if world == "mini":
        folder = Path(cache) if cache is not None else Path.home() / ".cache" / "vlmagent"
        return household(folder / "alfworld", seed, games_per_type)
    if world == "thor":
        lacks = missing_for_thor(games=has_data(data))
        if lacks:
            raise AlfworldError(lacks)
    return data_root(data)


def _goal_text(feedback: str) -> str:
    """The goal in the game's first text: ``put a hot apple in fridge``."""
    found = _GOAL.search(feedback)
    return " ".join(found[1].split()) if found else ""


def _description(feedback: str) -> str:
    """The game's text in one line, without its header and the goal, which the prompt says itself."""
    text = feedback.replace(_HEADER, "")
    return " ".join(_GOAL.sub("", text).split())
