"""Held-out starting states: training never has them, evaluation always does, and without them nothing changes."""

from __future__ import annotations

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vlmagent_envs
from vlmagent_envs.holdout import EVALUATION_SEEDS, Holdout

vlmagent_envs.register_envs()


def starts(name: str, seeds: range, **options) -> set[str]:
    """Starting states of these seeds, as the game names them."""
    env = gym.make(f"vlmagent/{name}-v0", disable_env_checker=True, **options).unwrapped
    found = set()
    for seed in seeds:
        _, info = env.reset(seed=seed)
        if name == "NumberLine":
            found.add(f"target {info['target']}, current {info['current']}")
        elif name == "Blackjack":
            hand = sorted(min(_rank(card), 10) for card in info["player"])
            found.add(f"dealer shows {min(_rank(info['dealer'][0]), 10)}, player has {hand[0]} {hand[1]}")
        else:
            found.add(" ".join(map(str, sorted(info["numbers"]))))
    return found


def _rank(card: str) -> int:
    return {"A": 1, "J": 11, "Q": 12, "K": 13}.get(card[:-1]) or int(card[:-1])


TRAINING = range(0, 400)
EVALUATION = range(EVALUATION_SEEDS, EVALUATION_SEEDS + 400)
GAMES = [
    ("NumberLine", {}, 30, 6),
    ("EZPoints", {}, 7, 1),
    ("EZPoints", {"rules": "released"}, 7, 1),
    ("Points24", {}, 715, 143),
    ("Points24", {"solvable_only": True}, 566, 113),
    ("Blackjack", {}, 550, 110),
]


@pytest.mark.parametrize(("name", "options", "count", "held"), GAMES)
def test_training_and_evaluation_share_no_start(name: str, options: dict, count: int, held: int):
    env = gym.make(f"vlmagent/{name}-v0", disable_env_checker=True, holdout=0.2, **options).unwrapped
    every = set(env.starts())
    assert len(every) == count
    assert sum(env.holdout.holds(start) for start in every) == held
    trained = starts(name, TRAINING, holdout=0.2, **options)
    evaluated = starts(name, EVALUATION, holdout=0.2, **options)
    assert trained | evaluated <= every
    assert not trained & evaluated
    assert all(env.holdout.holds(start) for start in evaluated)
    assert not any(env.holdout.holds(start) for start in trained)


@pytest.mark.parametrize("name", ["NumberLine", "EZPoints", "Points24", "Blackjack"])
def test_without_a_holdout_seeds_deal_what_they_did(name: str):
    """Few starting states: evaluation meets those of training, whatever its seeds are."""
    plain = gym.make(f"vlmagent/{name}-v0", disable_env_checker=True).unwrapped
    zero = gym.make(f"vlmagent/{name}-v0", disable_env_checker=True, holdout=0.0).unwrapped
    for seed in (0, 7, EVALUATION_SEEDS + 3):
        assert plain.reset(seed=seed)[1] == zero.reset(seed=seed)[1]
    if name in ("NumberLine", "EZPoints"):
        assert starts(name, EVALUATION) == starts(name, TRAINING)


def test_supervised_samples_of_solvable_deals_alone_hold_out_the_same():
    env = gym.make("vlmagent/Points24-v0", disable_env_checker=True, holdout=0.3).unwrapped
    solvable = {"solvable_only": True, "holdout": 0.3}
    assert not any(env.holdout.holds(start) for start in starts("Points24", TRAINING, **solvable))
    assert all(env.holdout.holds(start) for start in starts("Points24", EVALUATION, **solvable))


def test_an_episode_without_a_seed_is_of_the_kind_of_the_one_before():
    env = gym.make("vlmagent/NumberLine-v0", disable_env_checker=True, holdout=0.5).unwrapped
    for seed, held in ((EVALUATION_SEEDS + 1, True), (1, False)):
        env.reset(seed=seed)
        for _ in range(20):
            _, info = env.reset()
            assert env.holdout.holds(f"target {info['target']}, current {info['current']}") is held


def test_a_start_that_was_asked_for_may_be_held_out():
    env = gym.make("vlmagent/EZPoints-v0", disable_env_checker=True, holdout=0.9).unwrapped
    env.reset(seed=1, options={"cards": ["6H", "2S"]})
    assert env.reset(seed=1, options={"cards": ["3H", "9S"]})[1]["numbers"] == [3, 9]


def test_numbers_too_many_for_a_list_are_split_by_a_hash():
    options = {"n_max": 100_000, "holdout": 0.3}
    trained, evaluated = (
        starts("NumberLine", TRAINING, **options),
        starts("NumberLine", EVALUATION, **options),
    )
    assert len(trained) > 390
    assert len(evaluated) > 390
    assert not trained & evaluated


@given(st.sets(st.text(min_size=1), min_size=2, max_size=60), st.floats(0.01, 0.9))
def test_the_share_is_kept_and_does_not_depend_on_order(states: set[str], share: float):
    one, other = Holdout(share, lambda: sorted(states)), Holdout(share, lambda: sorted(states, reverse=True))
    held = {state for state in states if one.holds(state)}
    assert held == {state for state in states if other.holds(state)}
    assert len(held) == min(max(1, round(share * len(states))), len(states) - 1)


@pytest.mark.parametrize("share", [-0.1, 0.95, 1, "half", True, float("nan")])
def test_no_share(share: object):
    with pytest.raises(ValueError, match=r"holdout must be a number from 0 to 0\.9, but received"):
        gym.make("vlmagent/NumberLine-v0", disable_env_checker=True, holdout=share)


def test_a_game_with_one_start_has_none_to_hold_out():
    with pytest.raises(ValueError, match="two starting states or more, but this game has 1"):
        Holdout(0.5, lambda: ["the only one"])
