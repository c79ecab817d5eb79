"""The parts of ``benchmarks.speed`` that train: environments, collecting, updating, the whole loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

import vlmagent_envs
from benchmarks import env_steps
from benchmarks.bare import Bare, Call
from benchmarks.harness import Spread, Times, in_turns
from benchmarks.loops import config_of, loop, start
from vlmagent.models.passes import Passes
from vlmagent.models.policy import Policy
from vlmagent.tasks.base import Task
from vlmagent.training.engines.local import LocalEngine
from vlmagent.training.learners import make_agent, parameter_groups
from vlmagent.training.rollout import Rollout, observation_of
from vlmagent.types import Transition

UPDATES = 6
"""Of one measured loop of ours; the first is not counted."""
ENVS = 32
MINIBATCH = 64


def envs(rounds: int) -> dict[str, Any]:
    """Steps a second of each environment on one core, pictures included."""
    vlmagent_envs.register_envs()
    found = {}
    for env_id in vlmagent_envs.ENTRY_POINTS:
        if env_id != env_steps.ALFWORLD:
            rates = Spread.of([env_steps.rate(env_id, 3000, seed) for seed in range(1, rounds + 2)][1:])
            found[env_id] = {"steps_per_second": rates.median, "low": rates.low, "high": rates.high}
    return found


def collect(task_name: str, rounds: int) -> dict[str, Any]:
    """A step of all environments: read, write, play; nothing is logged."""
    config = config_of(task_name, {"rollout": {"num_envs": ENVS}}, 2)
    task, policy = start(config)
    with torch.no_grad():
        rollout = _rollout(task, policy, config, ENVS)
        times = _with_both(policy, lambda: rollout.step(), 3 * rounds)
        rollout.close()
    return _compared(times)


def update(task_name: str, rounds: int) -> dict[str, Any]:
    """A minibatch of transitions: scored with gradients, gone back through, and a step of the optimiser."""
    config = config_of(task_name, {"rollout": {"num_envs": ENVS}}, 2)
    task, policy = start(config)
    rollout = _rollout(task, policy, config, ENVS)
    transitions: list[Transition] = []
    while len(transitions) < MINIBATCH:
        transitions += rollout.step()
    rollout.close()
    agent = make_agent(config, task, policy)
    engine = LocalEngine(parameter_groups(config, policy), config.ppo.max_grad_norm)
    # weights stay where they are: every round does the same
    engine.set_lr_factor(0.0)

    def learn() -> None:
        scores = agent.score(transitions)
        engine.backward(-scores.token_logprobs.mean() + scores.values.pow(2).mean())
        engine.step()

    return _compared(_with_both(policy, learn, 3 * rounds))


def whole(task_name: str, rounds: int) -> dict[str, Any]:
    """An environment step of a whole loop, its share of learning included, logging and checkpoints too."""
    calls: list[Call] = []
    loop(task_name, UPDATES, record=calls)
    _, policy = start(config_of(task_name, {}, 2))
    bare = Bare(policy)
    steps = (UPDATES - 1) * config_of(task_name, {}, 2).ppo.steps_per_update
    ours, muted, papers, bound = [], [], [], []
    for _ in range(rounds):
        ours.append(loop(task_name, UPDATES))
        muted.append(loop(task_name, UPDATES, mute=True))
        bound.append(in_turns({"bare": lambda: bare.go(calls)}, 1)["bare"])
        papers.append(loop(task_name, 2, paper=True))
    processor = {
        "ours": Spread.of([each.processor for each in ours]),
        "muted": Spread.of([each.processor for each in muted]),
        "paper": Spread.of([each.processor for each in papers]),
        "bare": Spread.of([each.processor.median / steps for each in bound]),
    }
    ratio = {name: processor["ours"].median / each.median for name, each in processor.items()}
    return {
        "ours": asdict(Spread.of([each.wall for each in ours])),
        "paper": asdict(Spread.of([each.wall for each in papers])),
        "processor": {name: asdict(spread) for name, spread in processor.items()},
        "times_the_papers_schedule": 1 / ratio["paper"],
        "times_the_bare_bound": ratio["bare"],
        "logging_share": 1 - 1 / ratio["muted"],
    }


def _rollout(task: Task, policy: Policy, config: Any, num_envs: int) -> Rollout:
    agent = make_agent(config, task, policy)
    rollout = Rollout(
        task,
        agent,
        num_envs=num_envs,
        split="train",
        seed=0,
        episode_seeds=lambda env_index, count: 1000 * env_index + count,
    )
    rollout.start()
    agent.calibrate([observation_of(slot) for slot in rollout.slots])
    return rollout


def _with_both(policy: Policy, case: Callable[[], object], rounds: int) -> dict[str, Times]:
    """A case with our own passes and with transformers', in turns."""
    kinds = {"ours": policy.passes, "transformers": policy.padded_passes()}

    def using(passes: Passes) -> Callable[[], None]:
        def go() -> None:
            policy.passes = passes
            case()

        return go

    return in_turns({name: using(passes) for name, passes in kinds.items()}, rounds)


def _compared(times: dict[str, Times]) -> dict[str, Any]:
    ratio = times["ours"].processor.median / times["transformers"].processor.median
    return {**{name: asdict(each.wall) for name, each in times.items()}, "ratio": ratio}
