"""Stepping agents and environments: seeds, ends, values, and coming back to where one was."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from vlmagent.agents.simple import ExpertAgent, RandomAgent
from vlmagent.errors import UsageError
from vlmagent.seeding import evaluation_episode_seed, sft_episode_seed, train_episode_seed
from vlmagent.tasks.numberline import NumberLineTask
from vlmagent.tasks.registry import build_task
from vlmagent.training.rollout import Rollout
from vlmagent.types import Decision, EpisodeEnd, EpisodeStart, Observation, ParsedAction, Transition
from vlmagent_envs.numberline import NumberLineEnv


class Recorder:
    """A sink that keeps everything in order."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def episode_started(self, episode: EpisodeStart) -> None:
        self.log.append(episode)

    def transition(self, transition: Transition) -> None:
        self.log.append(transition)

    def episode_ended(self, episode: EpisodeEnd) -> None:
        self.log.append(episode)

    def of(self, kind: type) -> list[Any]:
        return [entry for entry in self.log if isinstance(entry, kind)]


class Wrong:
    """Always walks away from the target, and values a state by its distance."""

    name = "wrong"

    def __init__(self, task) -> None:
        self.task = task
        self.valued: list[Observation] = []

    def act(self, observations: Sequence[Observation], states: Sequence[Mapping[str, Any]], seed: int):
        return [
            Decision("p", "o", "", ParsedAction("-" if s["target"] > s["current"] else "+", True, "", None))
            for s in states
        ]

    def values(self, observations: Sequence[Observation]):
        self.valued += observations
        return np.arange(10.0, 10.0 + len(observations), dtype=np.float32)


def rollout(agent, sinks=(), num_envs=3, seed=0, **kwargs) -> Rollout:
    task = build_task("numberline")
    result = Rollout(
        task,
        agent(task),
        num_envs=num_envs,
        split="train",
        seed=seed,
        episode_seeds=kwargs.get("episode_seeds", lambda env, n: train_episode_seed(seed, env, n)),
        sinks=sinks,
    )
    result.start()
    return result


def test_sinks_hear_every_episode_in_order():
    recorder = Recorder()
    run = rollout(ExpertAgent, [recorder])
    for _ in range(20):
        run.step(1)
    transitions, ends, starts = recorder.of(Transition), recorder.of(EpisodeEnd), recorder.of(EpisodeStart)
    assert [t.id for t in transitions] == list(range(1, 61))
    assert [s.id for s in starts] == list(range(1, len(starts) + 1))
    assert len(starts) == len(ends) + 3
    assert all(end.success and end.goal and end.ended == "terminated" for end in ends)
    for end in ends:
        own = [t for t in transitions if t.episode_id == end.id]
        assert [t.step for t in own] == list(range(end.length))
        assert sum(t.reward for t in own) == end.episode_return == 1.0
        assert own[-1].terminated


def test_the_picture_of_a_transition_is_the_one_that_was_seen():
    recorder = Recorder()
    run = rollout(ExpertAgent, [recorder], num_envs=1)
    first = run.slots[0].observation.image.copy()
    run.step()
    assert np.array_equal(recorder.of(Transition)[0].image, first)


def test_truncation_values_the_final_state_not_the_next_episodes():
    recorder = Recorder()
    run = rollout(Wrong, [recorder], num_envs=2)
    final = None
    for _ in range(10):  # n_max = 5: truncated after 10 steps
        final = [slot.observation for slot in run.slots]
        transitions = run.step()
    assert [t.truncated for t in transitions] == [True, True]
    assert [t.terminated for t in transitions] == [False, False]
    assert [t.bootstrap_value for t in transitions] == [10.0, 11.0]
    assert [t.step for t in transitions] == [9, 9]
    assert len(run.agent.valued) == 2
    # the walk ends at a wall, so the final picture is the last one seen, and not the new episode's
    assert np.array_equal(run.agent.valued[0].image, final[0].image)
    assert {e.ended for e in recorder.of(EpisodeEnd)} == {"truncated"}
    assert [slot.count for slot in run.slots] == [2, 2]


def test_terminated_steps_have_no_bootstrap_value():
    run = rollout(ExpertAgent)
    ended = [t for _ in range(10) for t in run.step() if t.terminated]
    assert ended
    assert all(t.bootstrap_value is None for t in ended)


def test_environments_play_different_episodes_and_repeat_under_the_seed():
    def play(seed):
        recorder = Recorder()
        run = rollout(RandomAgent, [recorder], num_envs=8, seed=seed)
        for _ in range(15):
            run.step()
        return [(t.decision.parsed.action, t.reward) for t in recorder.of(Transition)], recorder.of(
            EpisodeStart
        )

    one, starts = play(1)
    assert play(1)[0] == one
    assert play(2)[0] != one
    assert len({s.seed for s in starts}) == len(starts)


def test_snapshot_and_restore_continue_exactly():
    straight, recorder = rollout(RandomAgent, [], num_envs=4), Recorder()
    for _ in range(7):
        straight.step()
    saved = straight.snapshot()
    other = rollout(RandomAgent, [recorder], num_envs=4)
    recorder.log.clear()
    other.restore(saved)
    assert recorder.log == []
    assert other.snapshot() == saved
    for _ in range(12):
        expected, received = straight.step(), other.step()
        for one, two in zip(expected, received, strict=True):
            assert (one.id, one.episode_id, one.step, one.reward) == (
                two.id,
                two.episode_id,
                two.step,
                two.reward,
            )
            assert np.array_equal(one.image, two.image)


def test_a_fixed_list_of_episodes_is_played_to_its_end():
    recorder = Recorder()
    run = rollout(
        RandomAgent, [recorder], num_envs=3, episode_seeds=lambda env, n: 7 if env + 3 * n < 7 else None
    )
    while run.active:
        run.step()
    assert len(recorder.of(EpisodeEnd)) == 7
    assert run.snapshot()["environments"][0]["episode"] is None


class Remote(NumberLineEnv):
    """Steps elsewhere, and loses its process with the third step of an episode."""

    told: ClassVar[list[str]] = []
    may_die = True

    def begin_reset(self, seed: int) -> None:
        self.told.append("begin reset")

    def begin_step(self, action: int) -> None:
        self.told.append("begin step")

    def reset(self, **kwargs):
        self.told.append("reset")
        return super().reset(**kwargs)

    def step(self, action: int):
        self.told.append("step")
        image, reward, terminated, truncated, info = super().step(action)
        if self.may_die and info["step"] == 3 and not terminated:
            return image, 0.0, False, True, {**info, "lost": True}
        return image, reward, terminated, truncated, info


class Priced(NumberLineTask):
    """Illegal outputs cost 3."""

    illegal_reward = -3.0

    def make_env(self):
        return Remote(5)


class Stubborn(Wrong):
    """Never writes anything legal."""

    def act(self, observations, states, seed):
        decisions = super().act(observations, states, seed)
        return [replace(d, parsed=replace(d.parsed, legal_output=False)) for d in decisions]


def remote_rollout(sinks=()) -> Rollout:
    task = Priced()
    seeds = lambda env, n: train_episode_seed(0, env, n)  # noqa: E731
    result = Rollout(
        task, Stubborn(task), num_envs=2, split="train", seed=0, episode_seeds=seeds, sinks=sinks
    )
    Remote.told.clear()
    result.start()
    return result


def test_environments_that_can_begin_early_are_told_before_any_is_waited_for():
    run = remote_rollout()
    assert Remote.told == ["begin reset", "begin reset", "reset", "reset"]
    Remote.told.clear()
    run.step()
    assert Remote.told == ["begin step", "begin step", "step", "step"]
    run.step()
    Remote.told.clear()
    run.step()
    assert Remote.told[4:] == ["begin reset", "begin reset", "reset", "reset"]


def test_a_lost_episode_ends_as_lost_and_is_replayed_so(monkeypatch):
    recorder, again = Recorder(), Recorder()
    run = remote_rollout([recorder])
    logged = [run.step() for _ in range(3)]
    ends = recorder.of(EpisodeEnd)
    assert [(end.ended, end.length) for end in ends] == [("lost", 3), ("lost", 3)]
    assert [t.truncated for step in logged for t in step] == [False] * 4 + [True] * 2
    assert [end.episode_return for end in ends] == [sum(step[k].reward for step in logged) for k in (0, 1)]
    assert [t.reward for t in logged[-1]] == [-3.0, -3.0]  # the lost step itself, and its illegal output
    monkeypatch.setattr(Remote, "may_die", False)  # a process does not die again where it did
    other = remote_rollout()
    for step in logged:
        assert other.replay(step, [again])[1] == []
    assert again.of(EpisodeEnd) == ends


def test_illegal_outputs_count_in_a_restored_return():
    run, other = remote_rollout(), remote_rollout()
    for _ in range(2):
        run.step()
    other.restore(run.snapshot())
    assert [slot.illegal for slot in other.slots] == [2, 2]
    assert [slot.episode_return for slot in other.slots] == [slot.episode_return for slot in run.slots]
    assert all(slot.episode_return <= -6 for slot in run.slots)


class Dime(NumberLineTask):
    """Ten steps of 0.1, which do not add up to 1 in every order; an illegal output costs 0.3."""

    illegal_reward = -0.3

    class Env(NumberLineEnv):
        bad = False

        def step(self, action):
            image, _, terminated, truncated, info = super().step(action)
            return image, math.nan if self.bad else 0.1, terminated, truncated, info

    def make_env(self):
        return self.Env(5)


def dimes() -> Rollout:
    task = Dime()
    seeds = lambda env, n: train_episode_seed(0, env, n)  # noqa: E731
    result = Rollout(task, Stubborn(task), num_envs=2, split="train", seed=0, episode_seeds=seeds)
    result.start()
    return result


def test_a_restored_return_has_every_digit_of_the_first():
    run, other = dimes(), dimes()
    for _ in range(6):
        run.step()
    snapshot = json.loads(json.dumps(run.snapshot()))
    other.restore(snapshot)
    assert [slot.episode_return for slot in other.slots] == [slot.episode_return for slot in run.slots]
    for environment in snapshot["environments"]:
        del environment["return"]  # as earlier versions saved it: there it may differ in the last digit
    other.restore(snapshot)
    assert [s.episode_return for s in other.slots] == pytest.approx([s.episode_return for s in run.slots])


def test_a_reward_that_is_no_number_is_named_where_it_came_from(monkeypatch):
    run = dimes()
    run.step()
    monkeypatch.setattr(Dime.Env, "bad", True)
    seed = train_episode_seed(0, 0, 0)
    said = rf"The environment of 'numberline' returned the reward nan in step 2 of the episode with seed {seed}\."
    with pytest.raises(UsageError, match=said):
        run.step()


def test_values_need_a_learner():
    with pytest.raises(TypeError, match="has no values"):
        rollout(RandomAgent).values()


def test_seeds_of_training_and_evaluation_are_disjoint():
    training = {train_episode_seed(s, e, n) for s in range(5) for e in range(8) for n in range(50)}
    training |= {sft_episode_seed(s, n) for s in range(5) for n in range(500)}
    evaluation = {evaluation_episode_seed(s, n) for s in range(5) for n in range(500)}
    assert max(training) < 2**31 <= min(evaluation)
    assert max(evaluation) < 2**32
    assert len(evaluation) == 2500
