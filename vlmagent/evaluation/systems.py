"""What can be evaluated: a run's checkpoint, the task's expert, chance, a model behind an API.

A system is an agent with a name and an origin. Knows nothing of episodes or statistics; heavy imports stand inside
the functions that need them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlmagent.agents.api.cost import Budget, Estimate, estimate
from vlmagent.agents.api.endpoints import Endpoint, endpoints, find_endpoint, read_key
from vlmagent.agents.simple import BASELINES, ExpertAgent, RandomAgent
from vlmagent.config import Config
from vlmagent.errors import UsageError
from vlmagent.seeding import evaluation_episode_seed
from vlmagent.store.rows import AnswerRow
from vlmagent.tasks.base import Task
from vlmagent.types import Agent

UseJournal = Callable[[Sequence[AnswerRow], Callable[[AnswerRow], None]], None]
# episodes played to guess how long they are, and steps after which one counts as endless
TRIED_EPISODES = 20
TRIED_STEPS = 200


@dataclass(frozen=True, slots=True)
class System:
    """Something to evaluate: its agent and where it came from.

    Attributes:
        identity: what else tells it from others of the same name; compared by equality.
        temperature: of its sampling; None for systems that do not sample tokens.
        num_envs: how many episodes it plays side by side at most; None leaves that to the config.
        use_journal: hands earlier answers and a place for new ones to an agent that pays for them.
        close: gives back what the agent holds.
    """

    name: str
    agent: Agent
    checkpoint: str | None = None
    env_steps: int | None = None
    model: str | None = None
    identity: Any = None
    num_envs: int | None = None
    temperature: float | None = None
    use_journal: UseJournal | None = None
    close: Callable[[], None] = lambda: None


def temperature_of(config: Config) -> float:
    """At which a run's checkpoints are evaluated and played: as they were trained, unless the config says otherwise.

    The baseline without language samples its own distribution, which is temperature 1.
    """
    if config.agent == "cnn":
        return 1.0
    return config.rollout.temperature if config.eval.temperature is None else config.eval.temperature


def checkpoint_system(config: Config, task: Task, folder: Path) -> System:
    """A run's checkpoint as a system: ``sft`` before the first PPO update, ``rl`` after; ``cnn`` is the baseline."""
    from vlmagent.models.device import choose_device
    from vlmagent.training.checkpoint import load_network
    from vlmagent.training.learners import make_agent

    network, state = load_network(folder, config.model, config.cnn)
    network.to(choose_device(config.model.device))
    temperature = temperature_of(config)
    agent = make_agent(config, task, network, temperature=temperature, learns=False)
    if config.agent == "cnn":
        name = "cnn" if state.env_steps else "cnn untrained"
        model = config.cnn.vision
    else:
        name = ("rl" if state.env_steps else "sft") + ("" if config.cot else " without CoT")
        model = config.model.name
    return System(name, agent, folder.name, state.env_steps, model, temperature=temperature)


def baseline_names(extra: Path | None = None) -> list[str]:
    """What ``--baseline`` takes, ``openai:MODEL@URL`` aside."""
    return [*BASELINES, *endpoints(extra)]


def is_api(name: str) -> bool:
    """Whether a baseline's name means an endpoint."""
    return name not in BASELINES


def baseline_system(
    name: str,
    task: Task,
    *,
    extra: Path | None = None,
    budget: Budget | None = None,
    max_output_tokens: int | None = None,
) -> System:
    """A system that needs no training.

    Args:
        extra: the user's own file of endpoints.
        budget: what asking an API may cost; None takes the endpoint's own limit.
        max_output_tokens: an answer's limit instead of the endpoint's own.

    Raises:
        UsageError: unknown name, an endpoint without its key, or settings of the network that cannot work.
    """
    if not is_api(name):
        return System(name, BASELINES[name](task))
    from vlmagent.agents.api.agent import ApiAgent

    endpoint = find_endpoint(name, extra, tuple(BASELINES), max_output_tokens)
    key = read_key(name, endpoint)
    agent = ApiAgent(endpoint, key, task, name, budget or Budget(endpoint.max_cost))
    return System(
        name,
        agent,
        model=endpoint.model,
        # answers under another limit or other settings are another system's
        identity=[endpoint.base_url, endpoint.token_limit_key, endpoint.max_output_tokens, endpoint.request],
        # an API answers many at once; more environments than requests would only wait
        num_envs=endpoint.concurrency,
        use_journal=agent.use_journal,
        close=agent.close,
    )


def check_baseline(
    name: str, extra: Path | None, max_cost: float | None, max_output_tokens: int | None = None
) -> Endpoint | None:
    """Whether a baseline could be evaluated now; its endpoint if it has one. Nothing is asked.

    Raises:
        UsageError: an unknown name, a missing key, settings of the network that cannot work, or a budget for
            something without a price.
    """
    if not is_api(name):
        return None
    from vlmagent.agents.api.network import find_route

    endpoint = find_endpoint(name, extra, tuple(BASELINES), max_output_tokens)
    read_key(name, endpoint)
    find_route(endpoint.base_url)
    if max_cost is not None and not endpoint.priced:
        raise UsageError(
            f"--max-cost needs prices, and '{name}' has none. Give it an entry with input_price and output_price in a "
            "file (like configs/baselines.yaml) and name that file with --endpoints."
        )
    return endpoint


def estimate_cost(task: Task, endpoint: Endpoint, episodes: int, seed: int) -> Estimate:
    """What an evaluation of an endpoint will take, from a few of its episodes played by expert and chance."""
    players: list[Agent] = [ExpertAgent(task), RandomAgent(task)]
    lengths: list[list[int]] = [[], []]
    prompts: list[int] = []
    env = task.make_env()
    try:
        # the evaluation's own first episodes
        for number in range(min(episodes, TRIED_EPISODES)):
            for found, agent in zip(lengths, players, strict=True):
                image, state = env.reset(seed=evaluation_episode_seed(seed, number))
                for step in range(1, TRIED_STEPS + 1):
                    observation = task.observe(image, state)
                    prompts.append(len(task.prompt(observation)))
                    decision = agent.act([observation], [state], seed + step)[0]
                    action = task.env_action(decision.parsed.action, observation)
                    image, _, terminated, truncated, state = env.step(action)
                    if terminated or truncated:
                        break
                found.append(step)
    finally:
        env.close()
    # three characters a token is on the dear side; 16 more are the format of a chat
    tokens = int(np.mean(prompts)) // 3 + 16
    good, poor = (float(np.mean(found)) for found in lengths)
    return estimate(endpoint, tokens, episodes, (good, poor))
