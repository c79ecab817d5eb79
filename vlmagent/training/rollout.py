"""Stepping one agent and N environments together; every transition goes to the sinks.

Training, evaluation and play all come through here. Episodes restart in the same step (a finished environment shows
its next episode's first state at once), the final state of a truncated episode is valued before that. Knows nothing
of optimisers or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import gymnasium as gym

from vlmagent.seeding import derive
from vlmagent.tasks.base import Task, offers_of
from vlmagent.tasks.environments import Abilities, abilities_of, as_lost, check_reward, was_lost
from vlmagent.training.distributed.ranks import ALONE, Ranks, part
from vlmagent.types import (
    Agent,
    Decision,
    EnvAction,
    EpisodeEnd,
    EpisodeStart,
    ImageArray,
    Learner,
    Observation,
    Sink,
    Split,
    Transition,
)

EpisodeSeeds = Callable[[int, int], int | None]
"""(env_index, number of the episode in that environment) -> seed, or None when there are no more episodes."""


@dataclass(slots=True)
class Slot:
    """One environment and the episode in it.

    Attributes:
        abilities: what the environment can do beside Gymnasium's interface.
        count: episodes that it has begun.
        episode, observation: the present ones; None where there are no more episodes.
        state: the environment's last ``info``.
        actions: names of those taken in the episode: with its seed, they determine the state.
        illegal: how many of them were drawn.
        next_seed: of the episode that was announced and has not begun; None where there is none.
    """

    env: gym.Env[ImageArray, EnvAction]
    env_index: int
    abilities: Abilities = field(init=False)
    count: int = 0
    episode: EpisodeStart | None = None
    observation: Observation | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)
    illegal: int = 0
    episode_return: float = 0.0
    next_seed: int | None = None

    def __post_init__(self) -> None:
        self.abilities = abilities_of(self.env)

    def clear(self) -> None:
        """Forget the episode."""
        self.episode = self.observation = None
        self.actions, self.illegal, self.episode_return = [], 0, 0.0


class _Answer(NamedTuple):
    """What an environment itself says of a step."""

    reward: float
    terminated: bool
    truncated: bool


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one environment's step came to; the slot holds the state after it.

    Attributes:
        before: what the agent decided on.
        reward: with what the task adds where no legal action was named.
    """

    slot: Slot
    before: Observation
    decision: Decision
    reward: float
    terminated: bool
    truncated: bool

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self.terminated or self.truncated

    @property
    def ended(self) -> Literal["terminated", "truncated", "lost"]:
        """How, if it has."""
        if was_lost(self.slot.state):
            return "lost"
        return "terminated" if self.terminated else "truncated"


class Rollout:
    """N environments and whoever plays in them.

    Args:
        task: gives environments, observations and action names.
        agent: decides; its ``act`` is called once per step for all environments that have an episode.
        num_envs: N.
        split: what the episodes are for; recorded with them.
        seed: of all sampling.
        episode_seeds: which episode an environment plays next.
        sinks: receive every episode and transition in order.
        ranks: the processes among which the environments are divided; steps and episodes are numbered over all of
            them, in the order of the environments, as one process would.
    """

    def __init__(
        self,
        task: Task,
        agent: Agent,
        *,
        num_envs: int,
        split: Split,
        seed: int,
        episode_seeds: EpisodeSeeds,
        sinks: Sequence[Sink] = (),
        ranks: Ranks = ALONE,
    ) -> None:
        self.task = task
        self.offers = offers_of(task)
        self.agent = agent
        self.split = split
        self.seed = seed
        self.episode_seeds = episode_seeds
        self.sinks = list(sinks)
        self.ranks = ranks
        self.steps = 0  # ids of transitions are taken from it; counted over all processes
        self.episodes = 0
        self.slots = [Slot(task.make_env(), index) for index in part(ranks, num_envs)]

    def start(self) -> None:
        """Begin the first episode in every environment."""
        self._announce_episodes(self.slots)
        with self._turn(0, len(self.slots)):
            for slot in self.slots:
                self._begin(slot, self.sinks)

    @property
    def active(self) -> list[Slot]:
        """The environments that have an episode."""
        return [slot for slot in self.slots if slot.episode is not None]

    def step(self, update_index: int = 0) -> list[Transition]:
        """One step of every active environment; one transition each, in the order of ``env_index``."""
        active = self.active
        decisions = self.agent.act(
            [observation_of(slot) for slot in active],
            [slot.state for slot in active],
            derive(self.seed, "act", self.steps),  # a counter: resuming samples the same again
        )
        outcomes = self._steps(active, decisions)
        return self._record(outcomes, self._bootstrap(outcomes), update_index, self.sinks)

    def replay(
        self, logged: Sequence[Transition], sinks: Sequence[Sink] = ()
    ) -> tuple[list[Transition], list[str]]:
        """Repeat one logged step with its logged decisions; nothing is sampled.

        Args:
            sinks: are told of it; those of the rollout are not, they heard of it when it was logged.

        Returns:
            The transitions with their pictures, and a sentence for each environment that answered differently.
        """
        active = self.active
        if [t.env_index for t in logged] != [slot.env_index for slot in active]:
            raise ValueError("the logged step does not cover the active environments")
        outcomes = self._steps(active, [t.decision for t in logged])
        outcomes = [_lost_again(t, outcome) for t, outcome in zip(logged, outcomes, strict=True)]
        differences = [
            f"transition {t.id}: the environment's reward was {t.reward:g} when logged and {o.reward:g} when replayed"
            for t, o in zip(logged, outcomes, strict=True)
            if (t.reward, t.terminated, t.truncated) != (o.reward, o.terminated, o.truncated)
        ]
        bootstraps = {t.env_index: t.bootstrap_value for t in logged if t.bootstrap_value is not None}
        return self._record(outcomes, bootstraps, logged[0].update_index, sinks), differences

    def values(self) -> list[float]:
        """V of every environment's present state, for bootstrapping after the last step of an update."""
        if not isinstance(self.agent, Learner):
            raise TypeError(f"agent '{self.agent.name}' has no values")
        values = self.agent.values([observation_of(slot) for slot in self.slots])
        return [float(value) for value in values]

    def close(self) -> None:
        """Close the environments."""
        for slot in self.slots:
            slot.env.close()

    def _begin(self, slot: Slot, sinks: Sequence[Sink]) -> None:
        """Start the slot's announced episode, if there is one."""
        seed = slot.next_seed
        slot.next_seed = None  # used up: `_begin` must not start it twice
        if seed is None:
            slot.clear()
            return
        self.episodes += 1
        slot.count += 1
        episode = EpisodeStart(self.episodes, self.split, slot.env_index, seed)
        self._reset(slot, episode)
        for sink in sinks:
            sink.episode_started(episode)

    def _reset(self, slot: Slot, episode: EpisodeStart) -> None:
        """Bring the slot to the first state of an episode."""
        slot.clear()
        slot.episode = episode
        image, slot.state = slot.env.reset(seed=episode.seed)
        slot.observation = self.task.observe(image, slot.state)

    def _announce_episodes(self, slots: Sequence[Slot]) -> None:
        """Choose the next episodes; environments that can reset at the same time are told of them early."""
        for slot in slots:
            slot.next_seed = self.episode_seeds(slot.env_index, slot.count)
            if slot.next_seed is not None:
                slot.abilities.begin_reset(slot.next_seed)

    def _steps(self, slots: Sequence[Slot], decisions: Sequence[Decision]) -> list[_Outcome]:
        """One step of every slot; environments that can do it at the same time begin before any is waited for."""
        for slot, decision in zip(slots, decisions, strict=True):
            slot.abilities.begin_step(self.task.env_action(decision.parsed.action, observation_of(slot)))
        return [self._step(slot, decision) for slot, decision in zip(slots, decisions, strict=True)]

    def _step(self, slot: Slot, decision: Decision) -> _Outcome:
        before, action = observation_of(slot), decision.parsed.action
        answer = self._act(slot, action)
        reward = answer.reward
        if not decision.parsed.legal_output:
            slot.illegal += 1
            reward += self.offers.illegal_reward
        slot.episode_return += reward
        return _Outcome(slot, before, decision, reward, answer.terminated, answer.truncated)

    def _act(self, slot: Slot, action: str) -> _Answer:
        """Take an action in the slot's environment."""
        env_action = self.task.env_action(action, observation_of(slot))
        image, earned, terminated, truncated, slot.state = slot.env.step(env_action)
        slot.observation = self.task.observe(image, slot.state)
        slot.actions.append(action)
        seed = slot.episode.seed if slot.episode else 0  # only to name the step in an error
        reward = check_reward(earned, self.task.name, seed, len(slot.actions))
        return _Answer(reward, bool(terminated), bool(truncated))

    def _bootstrap(self, outcomes: Sequence[_Outcome]) -> dict[int, float | None]:
        """V of the final state of every truncated episode, by env_index."""
        # an episode that is both has ended by the game's own rules: its last state is worth nothing more
        cut = [outcome.slot for outcome in outcomes if outcome.truncated and not outcome.terminated]
        if not cut or not isinstance(self.agent, Learner):
            return {}
        values = self.agent.values([observation_of(slot) for slot in cut])
        return {slot.env_index: float(value) for slot, value in zip(cut, values, strict=True)}

    def _record(
        self,
        outcomes: Sequence[_Outcome],
        bootstraps: Mapping[int, float | None],
        update_index: int,
        sinks: Sequence[Sink],
    ) -> list[Transition]:
        """Number the transitions, tell the sinks, restart finished episodes."""
        transitions = []
        ended = [outcome.slot for outcome in outcomes if outcome.over]
        self._announce_episodes(ended)  # all of them, before the first is waited for
        with self._turn(len(outcomes), len(ended)):
            for outcome in outcomes:
                self.steps += 1
                transition = self._transition(outcome, bootstraps.get(outcome.slot.env_index), update_index)
                transitions.append(transition)
                for sink in sinks:
                    sink.transition(transition)
                if outcome.over:
                    self._end(outcome, sinks)
        return transitions

    @contextmanager
    def _turn(self, steps: int, episodes: int) -> Iterator[None]:
        """While open, count on from what the processes before this one count; afterwards from what all did."""
        if self.ranks.world == 1:
            yield
            return
        counts = self.ranks.table([steps, episodes]).astype(int)  # (world, 2)
        before, after = counts[: self.ranks.rank].sum(0), counts[self.ranks.rank + 1 :].sum(0)
        self.steps, self.episodes = self.steps + int(before[0]), self.episodes + int(before[1])
        yield
        self.steps, self.episodes = self.steps + int(after[0]), self.episodes + int(after[1])

    def _transition(self, outcome: _Outcome, bootstrap: float | None, update_index: int) -> Transition:
        slot = outcome.slot
        assert slot.episode is not None
        generation = outcome.decision.generation
        return Transition(
            id=self.steps,
            episode_id=slot.episode.id,
            update_index=update_index,
            env_index=slot.env_index,
            step=len(slot.actions) - 1,  # the action is in the list already
            image=outcome.before.image,
            decision=outcome.decision,
            reward=outcome.reward,
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            value=generation.value if generation else None,
            bootstrap_value=bootstrap,
        )

    def _end(self, outcome: _Outcome, sinks: Sequence[Sink]) -> None:
        slot = outcome.slot
        assert slot.episode is not None
        end = EpisodeEnd(
            id=slot.episode.id,
            length=len(slot.actions),
            episode_return=slot.episode_return,
            success=self.task.success(slot.episode_return, slot.state),
            goal=self.task.goal(slot.state),
            ended=outcome.ended,
            kind=self.offers.kind(slot.state),
        )
        for sink in sinks:
            sink.episode_ended(end)
        self._begin(slot, sinks)

    def snapshot(self) -> dict[str, Any]:
        """The environments' states as seeds and actions: JSON that ``restore`` brings back by playing them again.

        Complete in the first process.
        """
        own = [
            {
                "count": slot.count,
                "episode": slot.episode.id if slot.episode else None,
                "seed": slot.episode.seed if slot.episode else None,
                "actions": list(slot.actions),
                "illegal": slot.illegal,
                "return": slot.episode_return,
            }
            for slot in self.slots
        ]
        environments = [saved for theirs in self.ranks.gather(own) for saved in theirs]
        return {"steps": self.steps, "episodes": self.episodes, "environments": environments}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Bring every environment back to where ``snapshot`` saw it. The environments must obey their seeds."""
        self.steps, self.episodes = int(snapshot["steps"]), int(snapshot["episodes"])
        saved_slots = snapshot["environments"]
        own = part(self.ranks, len(saved_slots))
        for slot, saved in zip(self.slots, saved_slots[own.start : own.stop], strict=True):
            slot.count = int(saved["count"])
            if saved["episode"] is None:
                slot.clear()
                continue
            episode = EpisodeStart(int(saved["episode"]), self.split, slot.env_index, int(saved["seed"]))
            self._reset(slot, episode)
            slot.illegal = int(saved.get("illegal", 0))
            rewards = [self._act(slot, str(action)).reward for action in saved["actions"]]
            # as it was added up then: another order of the same rewards may differ in the last digit
            known = saved.get("return")  # earlier versions saved none
            slot.episode_return = (
                slot.illegal * self.offers.illegal_reward + sum(rewards) if known is None else float(known)
            )


def _lost_again(logged: Transition, outcome: _Outcome) -> _Outcome:
    """A replayed step; where the process of its environment was lost when it was logged, it ends as it did then.

    A lost step is truncated for no reason of the game's, so that the game, played again, goes on there.
    """
    if outcome.over or not logged.truncated or not outcome.slot.abilities.may_be_lost:
        return outcome
    outcome.slot.state = as_lost(outcome.slot.state)
    outcome.slot.episode_return += logged.reward - outcome.reward  # `_step` had added the other one
    return replace(outcome, reward=logged.reward, truncated=True)


def observation_of(slot: Slot) -> Observation:
    """The slot's present observation; it must have an episode."""
    if slot.observation is None:
        raise ValueError(f"environment {slot.env_index} has no episode")
    return slot.observation
