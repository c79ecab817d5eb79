"""EZPoints and Points24: rules of both rule sets, step by step."""

import random
import warnings
from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from vlmagent_envs.ezpoints import EZPointsEnv
from vlmagent_envs.points24 import Points24Env
from vlmagent_envs.solver import EZPOINTS, solve


def play(env, cards, tokens):
    """Reset to ``cards`` and take the actions; the results without pictures."""
    env.reset(seed=0, options={"cards": cards})
    results = []
    for token in tokens:
        _, reward, terminated, truncated, info = env.step(env.actions.index(token))
        results.append((reward, terminated, truncated, info["formula_text"]))
    return results, info


def test_actions():
    ten = [str(number) for number in range(1, 11)]
    assert list(EZPointsEnv().actions) == [*ten, "+", "*", "="]
    assert list(Points24Env().actions) == [*ten, "+", "-", "*", "/", "(", ")", "="]
    assert Points24Env(face_cards="11-12-13").actions[:13] == tuple(str(number) for number in range(1, 14))
    assert (EZPointsEnv().action_space.n, Points24Env().action_space.n) == (13, 17)
    assert Points24Env(face_cards="11-12-13").action_space.n == 20


def test_ezpoints_solved():
    results, info = play(EZPointsEnv(), ["7H", "5S"], ["5", "+", "7", "="])
    assert results == [
        (0.0, False, False, "5"),
        (0.0, False, False, "5+"),
        (0.0, False, False, "5+7"),
        (10.0, True, False, "5+7"),
    ]
    assert info == {
        "cards": ["7H", "5S"],
        "numbers": [7, 5],
        "remaining": [],
        "formula": ["5", "+", "7"],
        "formula_text": "5+7",
        "target": 12,
        "step": 4,
        "steps_left": 1,
        "illegal": False,
        "goal": True,
    }


@pytest.mark.parametrize(
    ("tokens", "rewards"),
    [
        ("=", [-1]),  # nothing written
        ("5 =", [0, -1]),  # a card is missing
        ("5 + =", [0, 0, -1]),  # unfinished
        ("5 * 7 =", [0, 0, 0, -1]),  # 35
        ("5 7 =", [0, 0, -1]),  # no formula
        ("6 =", [-1, -1]),  # illegal number, then nothing written
    ],
)
def test_ezpoints_wrong(tokens, rewards):
    results, info = play(EZPointsEnv(), ["7H", "5S"], tokens.split())
    assert [result[0] for result in results] == rewards
    assert results[-1][1:3] == (True, False)
    assert info["goal"] is False


def test_an_illegal_number_costs_one_and_changes_nothing():
    env = EZPointsEnv()
    picture, _ = env.reset(seed=0, options={"cards": ["7H", "5S"]})
    after, reward, terminated, truncated, info = env.step(env.actions.index("6"))
    assert (reward, terminated, truncated, info["illegal"], info["formula"]) == (-1.0, False, False, True, [])
    assert np.array_equal(after, picture)
    env.step(env.actions.index("5"))
    _, reward, _, _, info = env.step(env.actions.index("5"))  # used up
    assert (reward, info["formula"], info["remaining"], info["steps_left"]) == (-1.0, ["5"], [7], 2)
    assert env.step(env.actions.index("+"))[4]["illegal"] is False


def test_ezpoints_is_truncated_after_five_actions_illegal_ones_included():
    results, _ = play(EZPointsEnv(), ["7H", "5S"], ["1", "5", "1", "+", "7"])
    assert [result[0] for result in results] == [-1, 0, -1, 0, 0]
    assert [result[2] for result in results] == [False] * 4 + [True]
    results, info = play(EZPointsEnv(), ["7H", "5S"], ["1", "5", "+", "7", "="])
    assert results[-1] == (
        10.0,
        True,
        False,
        "5+7",
    )  # the fifth action still counts, and ends rather than truncates
    assert info["goal"] is True


def test_two_equal_cards_may_be_used_twice():
    results, _ = play(EZPointsEnv(), ["6H", "6S"], ["6", "+", "6", "6"])
    assert [result[0] for result in results] == [0, 0, 0, -1]


@pytest.mark.parametrize("face", ["10C", "JC", "QC", "KC"])
def test_faces_count_ten(face):
    results, info = play(EZPointsEnv(), [face, "2S"], ["10", "+", "2", "="])
    assert results[-1][0] == 10
    assert info["numbers"] == [10, 2]


@pytest.mark.parametrize("rules", ["paper", "released"])
def test_ezpoints_can_always_be_solved(rules):
    env = EZPointsEnv(rules=rules)
    env.reset(seed=0)
    pairs = Counter(tuple(sorted(env.reset()[1]["numbers"])) for _ in range(600))
    assert set(pairs) == {(2, 6), (2, 10), (3, 4), (3, 9), (4, 8), (5, 7), (6, 6)}
    assert all(solve(pair, 12, EZPOINTS) for pair in pairs)


def test_points24_is_exact():
    formula = ["8", "/", "(", "3", "-", "8", "/", "3", ")", "="]
    results, info = play(Points24Env(), ["8H", "3S", "8D", "3C"], formula)
    assert [result[0] for result in results] == [0] * 9 + [10]
    assert info["goal"] is True


@pytest.mark.parametrize(
    ("cards", "tokens"),
    [
        (["2H", "3S", "8D", "8C"], "2 * * 3 + 8 + 8 ="),  # 2**3+8+8
        (["AH", "2S", "AD", "2C"], "1 2 + 1 2 ="),  # 12+12
        (["7H", "7S", "AD", "2C"], "7 * 7 / / 2 ="),  # a card is left over as well
        (["10H", "10S", "10D", "10C"], "10 * * 10 * * 10 * * 10 ="),
        (["6H", "6S", "6D", "6C"], "6 + 6 + 6 ="),
        (["6H", "6S", "6D", "6C"], "6 + 6 + 6 + 6 + ="),
        (["6H", "6S", "6D", "6C"], "( 6 + 6 + 6 + 6 ="),
        (["4H", "6S", "AD", "AC"], "4 ( 6 ) * 1 * 1 ="),
    ],
)
def test_points24_cannot_be_cheated(cards, tokens):
    results, info = play(Points24Env(), cards, tokens.split())
    assert results[-1][:3] == (-1.0, True, False)
    assert info["goal"] is False


def test_points24_is_truncated_after_twenty_actions():
    results, info = play(Points24Env(), ["6H", "6S", "6D", "6C"], ["1", "("] * 10)
    assert [result[2] for result in results] == [False] * 19 + [True]
    assert not any(result[1] for result in results)
    assert info["formula_text"] == "(" * 10
    assert (info["step"], info["steps_left"]) == (20, 0)


def test_points24_target_and_face_cards():
    results, _ = play(
        Points24Env(target=46, face_cards="11-12-13"),
        ["JH", "QS", "KD", "10C"],
        ["11", "+", "12", "+", "13", "+", "10", "="],
    )
    assert results[-1][0] == 10
    results, _ = play(Points24Env(face_cards="11-12-13"), ["JH", "QS", "KD", "10C"], ["10", "10"])
    assert [result[0] for result in results] == [0, -1]


def test_solvable_only():
    env = Points24Env(solvable_only=True)
    env.reset(seed=0)
    assert all(solve(env.reset()[1]["numbers"], 24) for _ in range(100))
    free = Points24Env()
    free.reset(seed=0)
    share = np.mean([solve(free.reset()[1]["numbers"], 24) is not None for _ in range(1500)])
    assert abs(share - 0.731) < 0.05


# --- the released rules ---


def test_released_illegal_number_appends_a_blank():
    results, info = play(EZPointsEnv(rules="released"), ["7H", "5S"], ["1", "5", "+", "7", "="])
    assert results == [
        (-1.0, False, False, " "),
        (0.0, False, False, " 5"),
        (0.0, False, False, " 5+"),
        (0.0, False, False, " 5+7"),
        (10.0, True, False, " 5+7"),
    ]
    assert info["goal"] is True


@pytest.mark.parametrize(
    ("env", "limit"), [(EZPointsEnv(rules="released"), 5), (Points24Env(rules="released"), 20)]
)
def test_released_discards_an_action_after_too_many_tokens(env, limit):
    cards = ["6H", "6S"] if limit == 5 else ["6H", "6S", "6D", "6C"]
    results, info = play(env, cards, ["+"] * (limit + 2))
    assert [result[0] for result in results] == [0.0] * (limit + 1) + [-1.0]
    assert [result[2] for result in results] == [False] * (limit + 1) + [True]
    assert info["formula_text"] == "+" * (limit + 1)
    assert info["steps_left"] == 0


@pytest.mark.parametrize(
    ("cards", "tokens", "reward"),
    [
        (["2H", "3S", "8D", "8C"], "2 * * 3 + 8 + 8 =", 10),
        (["AH", "2S", "AD", "2C"], "1 2 + 1 2 =", 10),
        (["8H", "3S", "8D", "3C"], "8 / ( 3 - 8 / 3 ) =", -1),  # floats
        (["10H", "10S", "10D", "10C"], "10 * * 10 * * 10 * * 10 =", -1),  # does not hang
        (["6H", "6S", "6D", "6C"], "6 + 6 + 6 =", -1),
        (["6H", "6S", "6D", "6C"], "6 + 6 + 6 + 6 =", 10),
    ],
)
def test_released_formulas_are_pythons(cards, tokens, reward):
    results, _ = play(Points24Env(rules="released"), cards, tokens.split())
    assert results[-1][:3] == (reward, True, False)


# --- Gymnasium, seeds, arguments ---


@pytest.mark.parametrize("name", ["EZPoints", "Points24"])
@pytest.mark.parametrize("rules", ["paper", "released"])
def test_gymnasium_checker_is_content(name, rules):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(
            gym.make(f"vlmagent_envs:vlmagent/{name}-v0", rules=rules, render_mode="rgb_array").unwrapped
        )


@pytest.mark.parametrize("make", [EZPointsEnv, Points24Env, lambda: EZPointsEnv(rules="released")])
def test_same_seed_same_rollout_without_global_randomness(make):
    def rollout(seed):
        env, trace = make(), []
        trace.append(env.reset(seed=seed))
        for action in np.random.default_rng(1).integers(0, env.action_space.n, 80):
            trace.append(env.step(action))
            if trace[-1][2] or trace[-1][3]:
                trace.append(env.reset())
        return trace

    random.seed(0)
    np.random.seed(0)
    before = random.getstate(), np.random.get_state()[1].tolist()
    first = rollout(5)
    random.seed(1)
    for one, two in zip(first, rollout(5), strict=True):
        assert np.array_equal(one[0], two[0])
        assert one[1:] == two[1:]
    random.setstate(before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    cards = {tuple(rollout(seed)[0][1]["cards"]) for seed in range(8)}
    assert len(cards) > 4


def test_infos_are_snapshots():
    env = Points24Env()
    _, info = env.reset(seed=0)
    numbers = list(info["numbers"])
    info["numbers"].clear()
    info["formula"].append("x")
    _, again = env.reset(seed=0)
    assert again["numbers"] == numbers
    assert again["formula"] == []


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: EZPointsEnv(target=13 * 13), r"No two cards can make target = 169"),
        (lambda: EZPointsEnv(target=0), r"target must be an integer from 1 to 10000, but received 0"),
        (lambda: EZPointsEnv(target=10, rules="released"), r"target = 12 only, but received 10"),
        (lambda: EZPointsEnv(rules="papr"), r"rules must be 'paper' or 'released', but received 'papr'"),
        (lambda: Points24Env(face_cards=11), r"face_cards must be 10 or '11-12-13', but received 11"),
        (lambda: Points24Env(target=2.4), r"target must be an integer"),
        (lambda: Points24Env(render_mode="human"), r"render_mode must be None or 'rgb_array'"),
        (lambda: Points24Env().reset(options={"cards": ["6H"]}), r"4 names like '10H'"),
        (lambda: Points24Env().reset(options={"deck": []}), r"4 names like '10H'"),
        (lambda: EZPointsEnv().step(13), r"12 \(=\); received 13"),
    ],
)
def test_mistakes(make, match):
    with pytest.raises(ValueError, match=match):
        make()
