"""The two kinds of agent that can be trained, behind one door: a language model that writes, the baseline that chooses.

Builds, opens and saves their networks and tells the trainer which parameters learn how fast. Knows nothing of
rollouts, updates or run folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlmagent.agents.cnn import CnnAgent, text_of
from vlmagent.agents.vlm import VlmAgent
from vlmagent.config import Config, PpoConfig
from vlmagent.errors import UsageError
from vlmagent.models import tiny
from vlmagent.models.batching import MicroBatcher, Size
from vlmagent.models.cnn import CnnPolicy
from vlmagent.models.cnn_encoders import Pooling, TextFeatures, VisionFeatures
from vlmagent.models.hf import quiet
from vlmagent.models.logprob import Scores
from vlmagent.models.policy import Policy
from vlmagent.paths import Run
from vlmagent.seeding import derive, sft_episode_seed
from vlmagent.tasks.base import Task
from vlmagent.training.checkpoint import Network
from vlmagent.training.distributed.ranks import ALONE, Ranks
from vlmagent.training.engines import make
from vlmagent.training.engines.base import Engine
from vlmagent.training.rl.ppo import Scorer
from vlmagent.training.sft.cache import sft_policy
from vlmagent.training.sft.samples import corpus
from vlmagent.training.sft.sft import OnProgress
from vlmagent.types import Observation, Transition

LOOKED_AT = 32
"""Solver states that tell whether a task has text and always the same actions."""

ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Rates:
    """Learning rates: initial ones of policy and critic, and where the policy's cosine ends.

    Attributes:
        updates: over which it falls; 0 means all updates of the run.
    """

    policy: float
    value: float
    final: float
    updates: int


def learning_rates(config: Config) -> Rates:
    """The rates that a config gives its kind of agent."""
    ppo, cnn = config.ppo, config.cnn
    if config.agent == "cnn":
        return Rates(cnn.lr, cnn.lr, cnn.final_lr, ppo.schedule_updates)
    return Rates(ppo.lr, ppo.value_lr, ppo.final_lr, ppo.schedule_updates)


def ppo_config(config: Config) -> PpoConfig:
    """PPO as a config sets it for its kind of agent: the baseline has no start that is worth staying near."""
    if config.agent == "cnn":
        return config.ppo.model_copy(update={"entropy_coef": config.cnn.entropy_coef, "kl_coef": 0.0})
    return config.ppo


def parameter_groups(config: Config, network: Network) -> list[dict[str, Any]]:
    """What the optimiser is given: the policy first, then the critic."""
    rates = learning_rates(config)
    # in this order: whoever freezes one of them counts on it (`PpoLoop._improve`)
    return [
        {"params": network.trained_parameters(), "lr": rates.policy},
        {"params": list(network.value_head.parameters()), "lr": rates.value},
    ]


def learning_tensors(network: Network) -> list[torch.Tensor]:
    """Everything of a network that training changes."""
    head = network.value_head
    # buffers too: the critic's unit and the spread of its input are measured, not loaded
    return [*network.trained_parameters(), *head.parameters(), *head.buffers()]


def make_engine(
    config: Config, network: Network, agent: VlmAgent | CnnAgent, ranks: Ranks
) -> tuple[Engine, Scorer]:
    """What steps the optimiser in PPO, and what scores for it."""
    engine, score = make.make_engine(
        config.distributed,
        ranks,
        network,
        agent.score,
        parameter_groups(config, network),
        max_grad_norm=config.ppo.max_grad_norm,
        micro_batch_size=config.ppo.micro_batch_size,
    )
    return engine, _WatchedScorer(agent, score)


@dataclass(frozen=True, slots=True)
class _WatchedScorer:
    """An agent as a scorer, its forward passes seen by an engine."""

    agent: VlmAgent | CnnAgent
    watched: Callable[[Sequence[Transition]], Scores]

    def score(self, transitions: Sequence[Transition]) -> Scores:
        return self.watched(transitions)

    def sizes(self, transitions: Sequence[Transition]) -> Sequence[Size]:
        return self.agent.sizes(transitions)


def make_agent(
    config: Config, task: Task, network: Network, *, temperature: float | None = None, learns: bool = True
) -> VlmAgent | CnnAgent:
    """The agent that acts with a network.

    Args:
        temperature: instead of ``rollout.temperature``; the baseline always samples its own distribution.
        learns: whether its log-probs have to be those of the training pass.
    """
    if isinstance(network, CnnPolicy):
        return CnnAgent(network, task)
    return VlmAgent(
        network,
        task,
        temperature=config.rollout.temperature if temperature is None else temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        thought_weight=config.ppo.thought_weight,
        detach_value=config.ppo.detach_value,
        # an exact network generates with the log-probs that scoring gives: a second pass would only cost time
        rescore=learns and not network.exact,
        entropy="learnt" if config.ppo.entropy_coef > 0 else "measured",
        rescored_together=MicroBatcher(config.ppo.micro_batch_size, config.ppo.max_tokens_per_micro_batch),
    )


def network_name(config: Config) -> str:
    """What acts, as run lists and results call it."""
    if config.agent != "cnn":
        return config.model.name
    return "cnn" if config.cnn.vision == "tiny" else f"cnn ({Path(config.cnn.vision).name})"


def needs_sft(config: Config) -> bool:
    """Whether supervised fine-tuning comes before RL."""
    return config.agent == "vlm" or "sft" in (config.cnn.vision, config.cnn.text)


def initial_network(
    config: Config,
    task: Task,
    on_progress: OnProgress,
    should_stop: ShouldStop,
    run: Run,
    ranks: Ranks = ALONE,
    on_built: Callable[[Network], None] = lambda network: None,
) -> tuple[Network, bool]:
    """The network that RL starts from, and whether its supervised start came from the cache.

    Args:
        run: keeps what an interrupted fine-tuning had reached.
        ranks: the processes that fine-tune together; the baseline has one.
        on_built: is shown each network before it learns anything, and what it raises ends the call.

    Raises:
        SftInterruptedError: ``should_stop`` answered True.
        UsageError: an encoder cannot be used.
    """
    if config.agent == "vlm":
        return sft_policy(config, task, on_progress, should_stop, run, ranks, on_built)
    tuned, cached = None, False
    if needs_sft(config):
        # the baseline has one process (see `Config`), so has its encoder's start
        tuned, cached = sft_policy(config, task, on_progress, should_stop, run, on_built=on_built)
    network = _build_cnn(config, task, tuned)
    on_built(network)
    return network, cached


def _build_cnn(config: Config, task: Task, tuned: Policy | None) -> CnnPolicy:
    """The baseline's network with fresh heads."""
    quiet()
    seen = list(islice(_solver_observations(task, config.seed), LOOKED_AT))
    # the same actions in every state: an output of the network each; else names are hashed into slots
    fixed = all(observation.legal_actions == seen[0].legal_actions for observation in seen)
    names = seen[0].legal_actions if fixed else ()
    fresh = _FreshTiny(config, task)
    vision = _vision(config, tuned, fresh)
    has_text = any(observation.state_text is not None for observation in seen)
    text = _text(config, tuned, fresh) if has_text else None
    # measured instead of computed: every encoder counts its features differently
    width = len(vision(seen[0].image)) + (len(text(text_of(seen[0]))) if text else 0)
    return CnnPolicy(
        vision,
        text,
        width=width,
        actions=len(names) or config.cnn.action_slots,
        names=names,
        hidden=config.cnn.hidden,
        seed=derive(config.seed, "cnn"),
    ).eval()


def _solver_observations(task: Task, seed: int) -> Iterator[Observation]:
    """Endless states of the expert's own episodes."""
    env, episode = task.make_env(), 0
    try:
        while True:
            image, state = env.reset(seed=sft_episode_seed(seed, episode))
            rng, episode, done = np.random.default_rng(episode), episode + 1, False
            while not done:
                observation = task.observe(image, state)
                yield observation
                action = task.env_action(task.expert_action(state, rng), observation)
                image, _, terminated, truncated, state = env.step(action)
                done = terminated or truncated
    # also when nobody asks for more: an environment may own a process
    finally:
        env.close()


class _FreshTiny:
    """The built-in model as it is before it has learnt anything, built when first asked for."""

    def __init__(self, config: Config, task: Task) -> None:
        self._config = config
        self._task = task
        self._built: tuple[Any, Any] | None = None

    def parts(self) -> tuple[Any, Any]:
        """Network and processor."""
        if self._built is None:
            sizes = self._config.model.tiny
            # as a run of the language model itself would make it
            texts = corpus(self._task, size=self._config.sft.corpus_samples)
            tokenizer = tiny.tokenizer_of(sizes, texts)
            network = tiny.build_model(sizes, tokenizer, self._config.seed)
            self._built = network, tiny.build_processor(sizes, tokenizer)
        return self._built


def _vision(config: Config, tuned: Policy | None, fresh: _FreshTiny) -> VisionFeatures:
    chosen, pooling = config.cnn.vision, config.cnn.pooling
    # the built-in encoder's pooled vector was never trained: `auto` reads its patches
    built_in: Pooling = "pooled" if pooling == "pooled" else "patches"
    if chosen == "tiny":
        network, processor = fresh.parts()
        return VisionFeatures(network.model.vision_tower, processor.image_processor, built_in)
    if chosen == "sft":
        tower = _part(tuned, "vision_tower", "cnn.vision")
        assert tuned is not None
        return VisionFeatures(tower, tuned.processor.image_processor, built_in)
    return VisionFeatures.open(Path(chosen), "patches" if pooling == "patches" else "pooled")


def _text(config: Config, tuned: Policy | None, fresh: _FreshTiny) -> TextFeatures:
    chosen = config.cnn.text
    if chosen == "tiny":
        network, processor = fresh.parts()
        return TextFeatures(network.model.language_model, processor.tokenizer)
    if chosen == "sft":
        model = _part(tuned, "language_model", "cnn.text")
        assert tuned is not None
        return TextFeatures(model, tuned.tokenizer)
    return TextFeatures.open(Path(chosen))


def _part(tuned: Policy | None, name: str, key: str) -> Any:
    """A part of the fine-tuned model.

    Raises:
        UsageError: its family is built differently.
    """
    assert tuned is not None
    # most architectures hold their parts in an inner `model`, some hold them directly
    part = getattr(getattr(tuned.model, "model", tuned.model), name, None)
    if part is None:
        family = getattr(tuned.model.config, "model_type", "?")
        raise UsageError(
            f"{key} = sft needs a model with a separate {name}; '{family}' has none. Give a folder."
        )
    return part
