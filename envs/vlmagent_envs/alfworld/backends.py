"""The games themselves, behind one interface: ALFWorld's text games, and its games with real frames.

Lives in worker processes. Importing this module imports neither alfworld nor ai2thor; building a backend does.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vlmagent_envs.alfworld.games import GAME, TRAJECTORY, Game
from vlmagent_envs.alfworld.scene import Fact, Scene, conditions, scene_of

Frame = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a game answers.

    Attributes:
        feedback: its text.
        admissible: the commands that it would accept now.
        won: whether the goal is reached.
        progress: share of the goal's conditions that hold.
        conditions: which of them do, in a fixed order; () where only the share is known.
        scene: what is in sight, for games without frames.
        frame: RGB, shape (H, W, 3), for games with frames.
        plan: commands to the goal, if a planner was asked for and found some.
    """

    feedback: str
    admissible: tuple[str, ...]
    won: bool
    progress: float
    conditions: tuple[bool, ...] = ()
    scene: Scene | None = None
    frame: Frame | None = None
    plan: tuple[str, ...] = ()


class Backend(Protocol):
    """A game that can be played again and again."""

    def reset(self, game: Game, seed: int) -> Reply:
        """Begin a game."""

    def step(self, command: str) -> Reply:
        """Give one command; the game ignores what it does not accept."""

    def close(self) -> None:
        """Give back what it holds."""


class TextBackend:
    """A text game, its facts turned into a scene.

    Args:
        planner: whether replies hold a plan; planning costs more than all else.
    """

    def __init__(self, planner: bool = False) -> None:
        import textworld
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler, AlfredInfos
        from textworld.envs.pddl import PddlEnv

        from vlmagent_envs.alfworld import quicker

        quicker.install(planner=planner)
        infos = textworld.EnvInfos(won=True, admissible_commands=True, facts=True, policy_commands=planner)
        # unshuffled: things keep the numbers of the game's file, so that its seed decides all
        self._env = AlfredInfos(AlfredDemangler(PddlEnv(infos), shuffle=False))
        self._game: Game | None = None
        self._faced = ""

    def reset(self, game: Game, seed: int) -> Reply:
        """Load and begin a game; text games have no randomness of their own."""
        self._game, self._faced = game, ""
        self._env.load(str(game.folder / GAME))
        return self._reply(self._env.reset())

    def step(self, command: str) -> Reply:
        """Give one command."""
        state, _, _ = self._env.step(command)
        # "Nothing happens" is the game's answer to a command that it does not carry out
        if command.startswith("go to ") and "Nothing happens" not in state["feedback"]:
            self._faced = command.removeprefix("go to ")
        return self._reply(state)

    def close(self) -> None:
        """Nothing is held."""

    def _reply(self, state: Mapping[str, Any]) -> Reply:
        assert self._game is not None
        game = self._game
        facts: list[Fact] = [(f.name, *(n.strip() for n in f.names)) for f in state["facts"]]
        held = conditions(facts, game.task_type, game.thing, game.target, game.lamp)
        return Reply(
            feedback=str(state["feedback"]),
            admissible=tuple(state["admissible_commands"]),
            won=bool(state["won"]),
            progress=sum(held) / len(held),
            conditions=held,
            scene=scene_of(facts, self._faced),
            plan=tuple(state.get("policy_commands") or ()),
        )


class ThorBackend:
    """A game with real frames, by ALFWorld's own ``AlfredThorEnv``.

    Args:
        root: folder with the splits.
        size: side of the frames in pixels.
        make: builds the environment from a config; given another one in place of ALFWorld's for other simulators.
    """

    def __init__(self, root: Path, size: int, make: Callable[[dict[str, Any]], Any] | None = None) -> None:
        self._env = (make or _alfred_thor_env)(thor_config(root, size)).init_env(batch_size=1)

    def reset(self, game: Game, seed: int) -> Reply:
        """Begin a game. The environment draws from its list and ignores seeds, so the list holds this game only."""
        # the simulator draws from Python's own generator
        random.seed(seed)
        self._env.json_file_list = [str(game.folder / TRAJECTORY)]
        texts, infos = self._env.reset()
        return self._reply(texts, infos)

    def step(self, command: str) -> Reply:
        """Give one command."""
        texts, _, _, infos = self._env.step([command])
        return self._reply(texts, infos)

    def close(self) -> None:
        """Stop the simulator."""
        self._env.close()

    def _reply(self, texts: Sequence[str], infos: Mapping[str, Sequence[Any]]) -> Reply:
        frame = np.asarray(self._env.get_frames()[0], np.uint8)
        return Reply(
            feedback=str(texts[0]),
            admissible=tuple(infos["admissible_commands"][0]),
            won=bool(infos["won"][0]),
            progress=float(infos["goal_condition_success_rate"][0]),
            frame=np.ascontiguousarray(frame[:, :, ::-1]),  # OpenCV's order, BGR, turned into RGB
        )


def _alfred_thor_env(config: dict[str, Any]) -> Any:
    from alfworld.agents.environment.alfred_thor_env import AlfredThorEnv

    return AlfredThorEnv(config, train_eval="train")


def thor_config(root: Path, size: int) -> dict[str, Any]:
    """What ``AlfredThorEnv`` reads of ALFWorld's ``base_config.yaml``: the oracle controller, frames of ``size``."""
    folder = str(root / "train")
    return {
        "general": {"training_method": "dqn"},
        "rl": {"training": {"max_nb_steps_per_episode": 10**9}},  # our environment truncates
        "dataset": {
            "data_path": folder,
            "eval_id_data_path": str(root / "valid_seen"),
            "eval_ood_data_path": str(root / "valid_unseen"),
            "num_train_games": -1,
            "num_eval_games": -1,
        },
        "env": {
            "task_types": [1, 2, 3, 4, 5, 6],
            "goal_desc_human_anns_prob": 0.0,
            "thor": {
                "screen_width": size,
                "screen_height": size,
                "smooth_nav": False,
                "save_frames_to_disk": False,
                "save_frames_path": os.devnull,
            },
        },
        "controller": {"type": "oracle", "debug": False, "load_receps": True},
        "mask_rcnn": {"pretrained_model_path": ""},
    }
