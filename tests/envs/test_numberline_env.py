"""NumberLine's rules and pictures, against literal expectations."""

import random
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import vlmagent_envs
from vlmagent_envs.numberline import NumberLineEnv

ENV_ID = "vlmagent/NumberLine-v0"
PLUS, MINUS = 0, 1


def started(target, current, n_max=5):
    env = NumberLineEnv(n_max=n_max)
    env.reset(seed=0, options={"target": target, "current": current})
    return env


def rollout(seed, actions, n_max=5):
    env = NumberLineEnv(n_max=n_max)
    trace = [env.reset(seed=seed)]
    for action in actions:
        trace.append(env.step(action))
        if trace[-1][2] or trace[-1][3]:
            trace.append(env.reset())
    return trace


@pytest.mark.parametrize(
    ("target", "current", "action", "moved_to", "reward", "terminated"),
    [
        (3, 0, PLUS, 1, 0.0, False),
        (3, 2, PLUS, 3, 1.0, True),
        (3, 4, MINUS, 3, 1.0, True),
        (3, 5, MINUS, 4, 0.0, False),
        (3, 2, MINUS, 1, -1.0, False),
        (3, 4, PLUS, 5, -1.0, False),
        (3, 0, MINUS, 0, -1.0, False),  # clamped: no closer
        (3, 5, PLUS, 5, -1.0, False),
    ],
)
def test_one_step(target, current, action, moved_to, reward, terminated):
    _, got, ended, truncated, info = started(target, current).step(action)
    assert (info["current"], got, ended, truncated) == (moved_to, reward, terminated, False)
    assert info == {"target": target, "current": moved_to, "n_max": 5, "step": 1, "goal": terminated}


def test_truncated_after_twice_n_max_steps():
    env = started(5, 0)
    results = [env.step(MINUS) for _ in range(10)]
    assert [result[3] for result in results] == [False] * 9 + [True]
    assert [result[1] for result in results] == [-1.0] * 10
    assert not any(result[2] for result in results)


def test_the_last_allowed_action_still_counts():
    env = started(5, 4)
    for action in [MINUS, PLUS] * 4 + [MINUS]:
        assert env.step(action)[2:4] == (False, False)
    assert env.step(PLUS)[1:4] == (0.0, False, True)  # 3 -> 4: closer, but time is up
    env = started(1, 0)
    for _ in range(9):
        env.step(MINUS)
    assert env.step(PLUS)[1:4] == (1.0, True, False)  # reached with the last step: terminated, not truncated


def test_n_max_one_is_playable():
    env = started(1, 0, n_max=1)
    assert env.step(MINUS)[1:4] == (-1.0, False, False)
    assert env.step(PLUS)[1:4] == (1.0, True, False)


def test_starting_states_cover_every_pair_of_different_numbers_evenly():
    env = NumberLineEnv(n_max=2)
    env.reset(seed=0)
    infos = [env.reset()[1] for _ in range(1200)]
    counts = {}
    for info in infos:
        counts[info["target"], info["current"]] = counts.get((info["target"], info["current"]), 0) + 1
    assert set(counts) == {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}
    assert min(counts.values()) > 140
    assert max(counts.values()) < 260


def test_reset_options():
    env = NumberLineEnv()
    for seed in range(30):
        assert env.reset(seed=seed, options={"target": 2})[1]["target"] == 2
        info = env.reset(seed=seed, options={"current": 0})[1]
        assert info["current"] == 0
        assert 0 < info["target"] <= 5


@pytest.mark.parametrize(
    "options", [{"target": 6}, {"target": -1}, {"target": "3"}, {"target": 2, "current": 2}, {"x": 1}]
)
def test_bad_reset_options(options):
    with pytest.raises(ValueError, match=r"received|Unknown reset option|must differ"):
        NumberLineEnv().reset(seed=0, options=options)


@pytest.mark.parametrize("n_max", [0, -3, 2.5, "5", True, None, 10**6])
def test_bad_n_max(n_max):
    with pytest.raises(ValueError, match=r"n_max must be an integer from 1 to 999999, but received"):
        NumberLineEnv(n_max=n_max)


def test_bad_render_mode_and_action():
    with pytest.raises(ValueError, match=r"render_mode must be None or 'rgb_array', but received 'human'"):
        NumberLineEnv(render_mode="human")
    with pytest.raises(ValueError, match=r"received 2"):
        started(3, 0).step(2)


@pytest.mark.parametrize("n_max", [1, 5, 12, 999_999])
def test_gymnasium_checker_is_content(n_max):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = gym.make(f"vlmagent_envs:{ENV_ID}", n_max=n_max, render_mode="rgb_array")
        check_env(made.unwrapped)


def test_same_seed_same_rollout():
    actions = np.random.default_rng(3).integers(0, 2, 60)
    for one, two in zip(rollout(7, actions), rollout(7, actions), strict=True):
        assert np.array_equal(one[0], two[0])
        assert one[1:] == two[1:]
    assert rollout(7, [])[0][1] != rollout(8, [])[0][1]


def test_global_randomness_is_neither_read_nor_written():
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    first = rollout(5, [PLUS] * 12)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    random.seed(2)
    np.random.seed(2)
    assert [step[-1] for step in rollout(5, [PLUS] * 12)] == [step[-1] for step in first]


def test_each_state_has_its_own_picture():
    env = NumberLineEnv()
    pictures = {
        env.reset(seed=0, options={"target": target, "current": current})[0].tobytes()
        for target in range(6)
        for current in range(6)
        if target != current
    }
    assert len(pictures) == 30


def test_picture_is_black_on_white_with_a_margin_on_every_side():
    picture, _ = NumberLineEnv().reset(seed=0)
    assert picture.shape == (300, 300, 3)
    assert picture.dtype == np.uint8
    assert picture.min() == 0
    assert picture.max() == 255
    for edge in (picture[:12], picture[-12:], picture[:, :12], picture[:, -12:]):
        assert (edge == 255).all()
    assert 0.02 < (picture < 128).mean() < 0.2


def test_text_stays_where_it_is_when_numbers_change():
    env = NumberLineEnv()
    zero, one = (env.reset(seed=0, options={"target": 5, "current": number})[0] for number in (0, 1))
    columns = np.flatnonzero((zero != one).any(axis=(0, 2)))
    assert columns.min() > 200  # the label did not move
    assert columns.max() < 290


def test_a_changed_observation_changes_nothing_else():
    env = NumberLineEnv(render_mode="rgb_array")
    first, _ = env.reset(seed=0)
    kept = first.copy()
    first[:] = 7
    env.render()[:] = 9
    assert np.array_equal(env.reset(seed=0)[0], kept)
    assert np.array_equal(env.render(), kept)


def test_registered_once_and_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vlmagent_envs.register_envs()
        vlmagent_envs.register_envs()
    assert gym.spec(ENV_ID).entry_point == "vlmagent_envs.numberline:NumberLineEnv"
    assert isinstance(gym.make(ENV_ID, n_max=7).unwrapped, NumberLineEnv)


def test_module_prefix_registers_in_a_fresh_process():
    code = (
        "import gymnasium as gym, sys; env = gym.make('vlmagent_envs:vlmagent/NumberLine-v0', n_max=3);"
        "print(env.unwrapped.n_max, any(name.split('.')[0] == 'vlmagent' for name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["3", "False"]
