"""ALFWorld's text side: prompt (paper, Figure 17), supervised responses (Figures 30 and 31).

Knows nothing of pixels, games or processes; the environment has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
from pydantic import BaseModel, Field

import vlmagent_envs
from vlmagent import paths
from vlmagent.config import Section
from vlmagent.errors import RunFailedError, UsageError
from vlmagent.tasks.alfworld_thoughts import drill, primer, seen, thoughts
from vlmagent.tasks.responses import response
from vlmagent.types import EnvAction, ImageArray, Observation
from vlmagent_envs.alfworld.available import missing_packages
from vlmagent_envs.alfworld.household import HOLDS, TASK_TYPES
from vlmagent_envs.alfworld.info import AlfworldInfo
from vlmagent_envs.alfworld.problems import Split

TaskType = Literal["pick", "look", "clean", "heat", "cool", "pick2"]
_PLACES = tuple(place.lower() for place in HOLDS)
# the paper's words to the letter, "Your are" and all
_PROMPT = (
    "Your are an expert in the ALFRED Embodied Environment. You are also given the following text description of the "
    "current scene: ['{description}']. Your task is to {goal}. Your admissible actions of the current situation are: "
    "[{actions}]. Your response should be a valid json file in the following format:\n"
    '{{\n{reasoning}"action": "an admissible action"\n}}'
)
_COT = (
    '"thoughts": "first describe what do you see in the image using the text description, then carefully think about '
    'which action to complete the task. ",\n'
)


class AlfworldOptions(Section):
    """Options of the environment."""

    world: Literal["mini", "tw", "thor"] = "mini"
    """``mini``: a generated household; ``tw``: the real games; ``thor``: the real games with real frames."""
    split: Split = "train"
    """Games that training and supervised samples take."""
    eval_split: Split = "valid_seen"
    """Games that evaluations take; ``valid_unseen`` has rooms and goals that training never has."""
    task_types: tuple[TaskType, ...] = Field(TASK_TYPES, min_length=1)  # type: ignore[arg-type]
    """Task types to play."""
    labels: bool = False
    """Whether names are written on the scene card; without them the model has to recognise things."""
    expert: Literal["explorer", "planner"] = "explorer"
    """Who demonstrates: ``explorer`` knows what the agent may know; ``planner`` knows everything and is slow."""
    max_steps: int = Field(50, ge=1, le=10_000)
    """Episodes are truncated after so many steps."""
    data: str | None = None
    """Folder of the real games; by default $ALFWORLD_DATA."""
    household_seed: int = Field(0, ge=0)
    """Another seed generates another household."""
    train_games: int = Field(100, ge=1, le=10_000)
    """Generated games of each task type in ``train``."""
    eval_games: int = Field(20, ge=1, le=10_000)
    """Generated games of each task type in ``valid_seen`` and in ``valid_unseen``."""


class AlfworldTask:
    """Household tasks in words and pictures; see ``vlmagent_envs.alfworld`` for the rules."""

    name: ClassVar[str] = "alfworld"
    env_id: ClassVar[str] = "vlmagent/ALFWorld-v0"
    rule_sets: ClassVar[tuple[str, ...]] = ("paper", "released")
    options: ClassVar[type[BaseModel]] = AlfworldOptions
    illegal_reward: ClassVar[float] = -1.0
    """What an output that names no admissible action costs, whatever was drawn in its place (paper, B.2)."""
    exchangeable: ClassVar[tuple[str, ...]] = tuple(
        sorted({n.lower() for kinds in HOLDS.values() for n in kinds})
    )
    """Names of things, which may stand for each other in a text: see ``SftConfig.language_renamed``."""

    def __init__(
        self, *, cot: bool = True, rule_set: str = "paper", env: Mapping[str, Any] | None = None
    ) -> None:
        # asked here, not by the first environment: a recipe that cannot be played is refused at once
        lacks = missing_packages()
        if lacks:
            raise UsageError(lacks)
        self.cot = cot
        self.rule_set = rule_set
        self.env_options = AlfworldOptions.model_validate(env or {})

    def make_env(self) -> gym.Env[ImageArray, EnvAction]:
        """A new environment with a process of its own; pictures are uint8 (300, 300, 3).

        Raises:
            UsageError: the games, or what real frames need, are missing.

        The environment raises ``RunFailedError`` when a game fails.
        """
        vlmagent_envs.register_envs()
        arguments = self.env_options.model_dump(exclude={"train_games", "eval_games"})
        counts = {"train": self.env_options.train_games}
        counts |= dict.fromkeys(("valid_seen", "valid_unseen"), self.env_options.eval_games)
        return gym.make(
            self.env_id,
            rules=self.rule_set,
            cache=paths.cache_dir(),
            games_per_type=counts,
            error=UsageError,
            failure=RunFailedError,
            # Gymnasium's checker would reset and step each environment once more, which here starts a game each time
            disable_env_checker=True,
            **arguments,
        )

    def make_sft_env(self) -> gym.Env[ImageArray, EnvAction]:
        """The environment of supervised samples: the same as for training."""
        return self.make_env()

    def observe(self, image: ImageArray, state: AlfworldInfo) -> Observation:
        """The picture, the game's text with the goal in a line below it, and the admissible commands."""
        # one text for both: `prompt` takes them apart again at the last line feed, and no goal has one
        text = f"{state['description']}\n{state['goal_text']}"
        return Observation(image, text, state["admissible"])

    def prompt(self, observation: Observation) -> str:
        """Figure 17, without its reasoning key when ``cot`` is off (Figure 31)."""
        description, _, goal = (observation.state_text or "").rpartition("\n")
        return _PROMPT.format(
            description=description,
            goal=goal,
            actions=", ".join(f"'{action}'" for action in observation.legal_actions),
            reasoning=_COT if self.cot else "",
        )

    def env_action(self, action: str, observation: Observation) -> EnvAction:
        """The command itself."""
        return action

    def expert_action(self, state: AlfworldInfo, rng: np.random.Generator) -> str:
        """What the environment's expert, who has watched the episode, would do."""
        return state["expert_action"]

    def expert_response(self, state: AlfworldInfo, action: str) -> str:
        """In the form of Figures 30 and 31."""
        if not self.cot:
            return response({"action": action})
        # the games quote with double quotes, which in JSON would have to be escaped: more to learn, for nothing
        return response({"thoughts": thoughts(state, action).replace('"', "'"), "action": action})

    def primer(self, rng: np.random.Generator) -> tuple[str, str]:
        """Commands that take things, and thoughts that say what is here."""
        prompt, said = primer(self.exchangeable, _PLACES, rng)
        return prompt, response({"thoughts": said})

    def drill(self, state: AlfworldInfo, rng: np.random.Generator) -> tuple[str, str] | None:
        """Another goal in a state, one that asks for what demonstrations seldom have to tell apart: which of several
        things are here, and that what the hand holds is the wrong thing."""
        drawn = drill(state, self.exchangeable, rng) if self.cot else None
        if drawn is None:
            return None
        # the picture is not looked at: drills are texts, so an empty one does
        observation = self.observe(np.empty(0, np.uint8), {**state, "goal_text": drawn.goal})
        answer = {"thoughts": drawn.thoughts}
        if drawn.action is not None:
            answer["action"] = drawn.action
        return self.prompt(observation), response(answer)

    def caption(self, state: AlfworldInfo) -> str | None:
        """What the scene card shows; real frames have no captions."""
        return seen(state)

    def caption_options(self, rng: np.random.Generator) -> None:
        """The environment's own games."""
        return

    def success(self, episode_return: float, state: AlfworldInfo) -> bool:
        """Whether the goal was reached, whatever it cost (as the paper counts it here)."""
        return self.goal(state)

    def goal(self, state: AlfworldInfo) -> bool:
        """Whether the goal was reached."""
        return state["won"]

    def episode_kind(self, state: AlfworldInfo) -> str:
        """The type of the game's task: results are given for each as well (paper, Table 2)."""
        return state["task_type"]
