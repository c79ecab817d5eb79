"""The values that travel through the program: frozen, small, without behaviour.

Deliberately knows neither torch nor SQLite: arrays are numpy, text is str. ``thought_weight`` is the paper's
lambda (section 4.3); ``gae_lambda`` is the other one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "eval", "play"]
Ended = Literal["running", "terminated", "truncated", "lost"]
"""``lost``: the environment's process died, so nothing is known of how the episode would have ended."""
ImageArray = NDArray[np.uint8]
EnvAction = Any
"""What an environment's ``step`` takes: an int for a Discrete space, a str for a Text space."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What an agent may know of a state.

    Attributes:
        image: RGB picture, uint8, shape (H, W, 3).
        state_text: the part of the prompt that depends on the state (a formula, a scene), or None.
        legal_actions: names of the actions allowed here, in the environment's order.
    """

    image: ImageArray
    state_text: str | None
    legal_actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Generation:
    """One sampled output v_out.

    Attributes:
        text: decoded output without special tokens.
        token_ids: sampled ids with the end token if one was sampled, int64, shape (L,).
        token_logprobs: natural-log probabilities under the sampling distribution, float32, shape (L,).
        action_start: index of the first action token, in [0, L]; L when no ``"action"`` key was written.
        value: V(s) read at the last prompt token, or None for agents without a value head.
    """

    text: str
    token_ids: NDArray[np.int64]
    token_logprobs: NDArray[np.float32]
    action_start: int
    value: float | None


@dataclass(frozen=True, slots=True)
class ParsedAction:
    """The result of f(v_out) (paper, equation 4.1).

    Attributes:
        action: a legal action's name; drawn uniformly when the output named none.
        legal_output: False when the action was drawn.
        action_text: the value of the output's ``"action"`` key (``tasks.parsing`` says which of several counts) as it
            was written, without quotes; "" without a key.
        span: character range of that key and its value in the output, or None; nothing outside it was read.
    """

    action: str
    legal_output: bool
    action_text: str
    span: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What an agent decided in one state, and why.

    Attributes:
        prompt: v_in = h(o), the very text the output was conditioned on.
        output: v_out; "" for agents that write nothing.
        thoughts: the reasoning inside the output, for people; "" when there is none.
        parsed: the action.
        logprob: thought_weight * thought_logprob + action_logprob, or None for agents without probabilities.
        thought_logprob, action_logprob: sums over the two parts, in nats, or None.
        generation: the tokens behind it, or None.
        error: why the agent gave no answer at all (an API that failed), or None; the action was then drawn.
        actor: who decided, where several may: ``human``, ``expert``, ``random``, ``model step-512`` (with its
            checkpoint), ``logged`` for a step repeated from another run; None where there is only one agent.
    """

    prompt: str
    output: str
    thoughts: str
    parsed: ParsedAction
    logprob: float | None = None
    thought_logprob: float | None = None
    action_logprob: float | None = None
    generation: Generation | None = None
    error: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class EpisodeStart:
    """One episode as it begins. ``id`` is unique within a run database."""

    id: int
    split: Split
    env_index: int
    seed: int


@dataclass(frozen=True, slots=True)
class EpisodeEnd:
    """One finished episode. ``episode_return`` is the undiscounted sum of rewards.

    Attributes:
        success: as the task counts it (paper: the return is positive).
        goal: whether the task's goal state was reached at all.
        kind: which of the task's kinds it was (``tasks.base.HasKinds``), or None for tasks of one kind.
    """

    id: int
    length: int
    episode_return: float
    success: bool
    goal: bool
    ended: Literal["terminated", "truncated", "lost"]
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """One environment step: the state, what the agent did in it and what came of it.

    Attributes:
        id: 1, 2, 3, ... in the order of the environment steps of the run.
        step: index within the episode, from 0.
        value: V(s), or None without a value head.
        bootstrap_value: V of the state after a truncated step, None elsewhere.
    """

    id: int
    episode_id: int
    update_index: int
    env_index: int
    step: int
    image: ImageArray
    decision: Decision
    reward: float
    terminated: bool
    truncated: bool
    value: float | None
    bootstrap_value: float | None = None


SFT_STAGES = ("primer_samples", "language_samples", "caption_samples", "samples")
"""Numbers of samples of the stages of supervised fine-tuning, in their order: keys of a
config's section ``sft``. Here for those who look at runs and need no config: its models take long to build."""


@dataclass(frozen=True, slots=True)
class SftSample:
    """One supervised example: picture, prompt and the solver's whole response; without a picture it teaches words."""

    image: ImageArray | None
    prompt: str
    response: str


@dataclass(frozen=True, slots=True)
class UpdateStats:
    """What one PPO update measured; every field becomes one row of ``metrics``.

    Attributes:
        policy_loss, value_loss, entropy, grad_norm: means over the update's optimiser steps (nats for entropy,
            per output token).
        kl: mean over samples of the k3 estimate of KL(old || new) of whole outputs, in nats, over the
            last epoch's minibatches, before their steps.
        clip_fraction: share of samples whose ratio left [1 - clip, 1 + clip].
        first_ratio_error: largest |new - old| token log-prob before the first step: sampler against scorer.
        explained_variance: 1 - Var(return - value) / Var(return).
        skipped: optimiser steps left out because the loss or gradient was not finite.
    """

    policy_loss: float
    value_loss: float
    entropy: float
    grad_norm: float
    kl: float
    clip_fraction: float
    first_ratio_error: float
    explained_variance: float
    learning_rate: float
    skipped: int


class Sink(Protocol):
    """Something that wants every transition: the store, a screen."""

    def episode_started(self, episode: EpisodeStart) -> None:
        """Called before the first transition of an episode."""

    def transition(self, transition: Transition) -> None:
        """Called once per environment step."""

    def episode_ended(self, episode: EpisodeEnd) -> None:
        """Called after the last transition of an episode."""


@runtime_checkable
class Agent(Protocol):
    """Whoever chooses actions: a model, an API, an expert, chance."""

    name: str

    def act(
        self, observations: Sequence[Observation], states: Sequence[Mapping[str, Any]], seed: int
    ) -> list[Decision]:
        """One decision per observation.

        Args:
            observations: what the agent may see, one per environment.
            states: the environments' true states (their ``info``), for privileged experts only.
            seed: all randomness of this call derives from it.
        """


@runtime_checkable
class Learner(Agent, Protocol):
    """An agent that can be trained: it has values and can score its own outputs. API agents are not one, by type."""

    def values(self, observations: Sequence[Observation]) -> NDArray[np.float32]:
        """V(s) per observation, shape (B,)."""
