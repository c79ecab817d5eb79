"""One environment and the episode in it, stepped by whoever sits there; a snapshot after every step.

Knows nothing of screens or of the process that thinks. Not thread-safe: one thread at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlmagent.agents.human import HumanAgent
from vlmagent.errors import UsageError
from vlmagent.seeding import derive
from vlmagent.store.writer import StoreWriter
from vlmagent.tasks.base import Task
from vlmagent.training.rollout import Rollout
from vlmagent.types import Agent, Decision, EpisodeEnd, EpisodeStart, Observation, Transition

LOGGED = "logged"


@dataclass(frozen=True, slots=True)
class Step:
    """What was done and what came of it."""

    action: str
    actor: str
    reward: float
    legal_output: bool


@dataclass(frozen=True, slots=True)
class Moment:
    """Where an episode stands; never changes once made.

    Attributes:
        number: of the episode at its table, from 1.
        observation, state: the present ones; the final ones once it is over.
        prompt: h(o) of the present state; of the last one before the end once it is over.
        steps: all so far.
        end: how it ended, None before.
    """

    seed: int
    number: int
    observation: Observation
    state: Mapping[str, Any]
    prompt: str
    steps: tuple[Step, ...] = ()
    end: EpisodeEnd | None = None

    @property
    def actions(self) -> tuple[str, ...]:
        """Those taken so far: with the seed, they determine the state."""
        return tuple(step.action for step in self.steps)

    @property
    def episode_return(self) -> float:
        """The sum of rewards so far."""
        return sum(step.reward for step in self.steps)

    @property
    def actors(self) -> tuple[str, ...]:
        """Who acted, in the order of their first step."""
        return tuple(dict.fromkeys(step.actor for step in self.steps))


class SessionLog:
    """Numbers the episodes and steps of several tables in one sequence and writes them.

    ``commit`` returns when everything so far is in the database file: nothing is shown before it is kept.

    Attributes:
        steps: how many there are.
    """

    def __init__(self, writer: StoreWriter) -> None:
        self._writer = writer
        self._episodes = self.steps = 0

    def episode_started(self, episode: EpisodeStart, table: int) -> int:
        """Returns the episode's id in the session."""
        self._episodes += 1
        self._writer.episode_started(replace(episode, id=self._episodes, env_index=table))
        return self._episodes

    def transition(self, transition: Transition, episode_id: int, table: int) -> None:
        """One step."""
        self.steps += 1
        self._writer.transition(
            # a table counts its own episodes and steps, from 1; in the log they are numbered over all tables. Nothing
            # is updated here, so the update is 0
            replace(transition, id=self.steps, episode_id=episode_id, env_index=table, update_index=0)
        )

    def episode_ended(self, end: EpisodeEnd, episode_id: int) -> None:
        """The end of an episode."""
        self._writer.episode_ended(replace(end, id=episode_id))

    def commit(self) -> None:
        """Wait until all of it is in the file, where a killed program cannot lose it; not for the disk."""
        self._writer.flush(sync=False)


class _Signed:
    """An agent whose decisions carry its name."""

    def __init__(self, agent: Agent, name: str) -> None:
        self.agent = agent
        self.name = name

    def act(
        self, observations: Sequence[Observation], states: Sequence[Mapping[str, Any]], seed: int
    ) -> list[Decision]:
        return [replace(decision, actor=self.name) for decision in self.agent.act(observations, states, seed)]


class _Taken:
    """An agent that decides what another process has decided already."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.name = decision.actor or "model"

    def act(
        self, observations: Sequence[Observation], states: Sequence[Mapping[str, Any]], seed: int
    ) -> list[Decision]:
        return [self.decision]


class Table:
    """Implements ``types.Sink`` for its own rollout.

    Args:
        index: tells the tables of a session apart; logged as ``env_index``.
        seed: of whatever the environment's agents draw.
    """

    def __init__(self, task: Task, index: int, log: SessionLog, seed: int) -> None:
        self.task = task
        self.index = index
        self.human = HumanAgent(task)
        self._log = log
        self._seed: int | None = None
        self._number = self._episode_id = 0
        self._moment: Moment | None = None
        self._end: EpisodeEnd | None = None
        self._rollout = Rollout(
            task,
            self.human,
            num_envs=1,
            split="play",
            # apart from the other table's: both play the same deals, but must not share a stream of random numbers
            seed=derive(seed, "table", index),
            # the rollout asks whenever an episode has ended; None keeps it from beginning one that nobody asked for
            episode_seeds=lambda _env_index, _count: self._take_seed(),
            sinks=[self],
        )

    @property
    def moment(self) -> Moment:
        """Where the episode stands."""
        assert self._moment is not None, "no episode was begun"
        return self._moment

    def begin(self, seed: int) -> Moment:
        """A new episode; an unfinished one is left as it is."""
        self._number += 1
        self._seed = seed
        self._rollout.start()
        slot = self._rollout.slots[0]
        assert slot.observation is not None
        prompt = self.task.prompt(slot.observation)
        self._moment = Moment(seed, self._number, slot.observation, slot.state, prompt)
        self._log.commit()
        return self.moment

    def repeat(self, logged: Sequence[Transition]) -> Moment:
        """Take the first steps of an episode again, as another log has them.

        Raises:
            UsageError: the environment does not answer as it did then.
        """
        for transition in logged:
            ended = self.moment.end is not None
            # a step of a run with a single agent has no actor; one that was played keeps its own
            decision = replace(transition.decision, actor=transition.decision.actor or LOGGED)
            step = replace(transition, env_index=0, decision=decision)
            # replaying a step after the end would begin a new episode
            differences = [] if ended else self._rollout.replay([step], [self])[1]
            if ended or differences:
                raise UsageError(
                    "This episode cannot be continued, because its environment does not repeat itself under its "
                    f"seed: {differences[0] if differences else 'it ended earlier than it did then'}."
                )
        self._log.commit()
        return self.moment

    def choose(self, action: str) -> Moment:
        """A person's action; must be legal here."""
        self.human.choose(action)
        return self._step(_Signed(self.human, self.human.name))

    def take(self, decision: Decision) -> Moment:
        """The decision of somebody who thinks elsewhere."""
        return self._step(_Taken(decision))

    def close(self) -> None:
        """Give back the environment."""
        self._rollout.close()

    def _step(self, agent: Agent) -> Moment:
        # the rollout asks its agent once a step, so the agent may change from step to step
        self._rollout.agent = agent
        self._rollout.step()
        self._log.commit()
        return self.moment

    def _take_seed(self) -> int | None:
        # given once: the next episode begins when somebody begins it
        seed, self._seed = self._seed, None
        return seed

    # -- the sink

    def episode_started(self, episode: EpisodeStart) -> None:
        """Log it."""
        self._episode_id = self._log.episode_started(episode, self.index)

    def transition(self, transition: Transition) -> None:
        """Log the step and see where it led; the rollout has not begun another episode yet."""
        self._log.transition(transition, self._episode_id, self.index)
        slot, before = self._rollout.slots[0], self.moment
        assert slot.observation is not None
        over = transition.terminated or transition.truncated
        parsed = transition.decision.parsed
        step = Step(
            parsed.action, transition.decision.actor or LOGGED, transition.reward, parsed.legal_output
        )
        self._moment = replace(
            before,
            observation=slot.observation,
            state=slot.state,
            # after the end there is no state in which a prompt would be asked
            prompt=before.prompt if over else self.task.prompt(slot.observation),
            steps=(*before.steps, step),
        )

    def episode_ended(self, episode: EpisodeEnd) -> None:
        """Log it."""
        self._log.episode_ended(episode, self._episode_id)
        self._moment = replace(self.moment, end=episode)
