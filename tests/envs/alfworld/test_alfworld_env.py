"""The environment with real processes: games won, rewards, seeds, lost processes, and clear errors."""

from __future__ import annotations

import os
import signal
import time

import gymnasium as gym
import numpy as np
import psutil
import pytest

import vlmagent_envs
from tests.envs.alfworld.conftest import COUNTS
from vlmagent_envs.alfworld import env as env_module
from vlmagent_envs.alfworld.env import AlfworldEnv
from vlmagent_envs.alfworld.games import AlfworldError, GameFailedError, find_games
from vlmagent_envs.alfworld.household import TASK_TYPES
from vlmagent_envs.alfworld.problems import SPLITS

EVALUATION = 2**31


def play(env, seed):
    """One episode of the expert: the states, the rewards, and the commands."""
    picture, state = env.reset(seed=seed)
    states, rewards, commands, done = [state], [], [], False
    while not done:
        commands.append(state["expert_action"])
        picture, reward, terminated, truncated, state = env.step(commands[-1])
        assert picture.shape == (300, 300, 3)
        states.append(state)
        rewards.append(reward)
        done = terminated or truncated
    return states, rewards, commands


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_the_expert_wins_every_type_in_every_split(env, split, task_type):
    env.split, env.task_types = split, (task_type,)
    states, rewards, commands = play(env, seed=1)
    assert [state["won"] for state in states] == [False] * len(commands) + [True]
    assert {state["task_type"] for state in states} == {task_type}
    assert all((state["progress"] == 1) == state["won"] for state in states)
    assert all(command in state["admissible"] for command, state in zip(commands, states[:-1], strict=True))
    expected = {"pick": 51, "look": 52, "clean": 52, "heat": 52, "cool": 52, "pick2": 52}
    assert sum(rewards) == expected[task_type]
    assert rewards[-1] == 51
    thing = states[0]["thing"]
    assert f" {thing}" in states[0]["goal_text"]
    assert states[0]["description"].startswith("You are in the middle of a room.")
    assert "task" not in states[0]["description"]
    assert states[0]["game"].startswith(split)


def test_an_episode_is_a_function_of_its_seed(env, cache):
    env.task_types = ("cool",)
    first = play(env, 5)
    with_own_process = AlfworldEnv(cache=cache, games_per_type=COUNTS, task_types=("cool",))
    try:
        assert play(with_own_process, 5) == first
        pictures = [with_own_process.reset(seed=seed)[0].tobytes() for seed in (5, 5, 6, 7, 8)]
    finally:
        with_own_process.close()
    assert pictures[0] == pictures[1]


def test_evaluation_seeds_play_the_evaluation_split(env):
    assert env.reset(seed=EVALUATION - 1)[1]["game"].startswith("train")
    assert env.reset(seed=EVALUATION)[1]["game"].startswith("valid_seen")
    assert env.reset()[1]["game"].startswith("valid_seen")
    env.eval_split = "valid_unseen"
    assert env.reset(seed=EVALUATION)[1]["game"].startswith("valid_unseen")


def test_released_rules_pay_for_what_holds_at_every_step(env):
    env.task_types, env.rules = ("heat",), "released"
    states, rewards, _ = play(env, 3)
    expected = [state["progress"] + 50 * state["won"] for state in states[1:]]
    assert rewards == pytest.approx(expected)
    assert sum(rewards) > 51.3


def test_inadmissible_commands_cost_one_and_change_nothing(env):
    _, before = env.reset(seed=2)
    _picture, reward, terminated, truncated, state = env.step("take the moon from shelf 1")
    assert (reward, terminated, truncated) == (-1.0, False, False)
    assert state["description"] == "Nothing happens."
    assert (state["scene"], state["admissible"]) == (before["scene"], before["admissible"])
    assert "help" not in state["admissible"]


def test_progress_is_paid_once_by_the_papers_rules(env):
    env.task_types = ("look",)
    _, state = env.reset(seed=4)
    while state["holding"] is None:
        _, reward, _, _, state = env.step(state["expert_action"])
    assert (reward, state["progress"]) == (1.0, 0.5)
    put = next(command for command in state["admissible"] if command.startswith("move"))
    _, reward, _, _, state = env.step(put)
    assert (reward, state["progress"]) == (0.0, 0.0)
    _, reward, _, _, state = env.step(state["expert_action"])
    assert (reward, state["progress"]) == (0.0, 0.5)


def test_truncated_after_the_last_allowed_step(env):
    env.max_steps = 3
    env.reset(seed=0)
    assert [env.step("look")[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_a_step_and_a_reset_may_begin_early(env):
    env.begin_reset(11)
    _, state = env.reset(seed=11)
    assert state == env.reset(seed=11)[1]
    env.begin_step("look")
    begun = env.step("look")
    env.reset(seed=11)
    assert begun[4] == env.step("look")[4]
    env.begin_reset(12)  # not what is asked for then
    assert env.reset(seed=11)[1] == state
    env.begin_step("inventory")
    assert "carrying" not in env.step("look")[4]["description"]


def test_labels_write_names(env):
    plain = env.reset(seed=0)[0]
    env.labels = True
    assert not np.array_equal(plain, env.reset(seed=0)[0])


def test_a_killed_process_ends_its_episode_and_no_other(env):
    _picture, state = env.reset(seed=9)
    env.step("look")
    os.kill(env.worker.pid, signal.SIGKILL)
    _shown, reward, terminated, truncated, lost = env.step("inventory")
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert (lost["lost"], lost["won"], lost["step"]) == (True, False, 2)
    assert env.reset(seed=9)[1] == state
    assert not play(env, 9)[0][-1]["lost"]


@pytest.mark.parametrize("early", [False, True])
def test_a_process_that_is_known_to_be_dead_does_not_go_on_with_another_game(env, early):
    env.reset(seed=9)
    process = psutil.Process(env.worker.pid)
    process.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    if early:
        env.begin_step("look")
    for _ in range(2):
        assert env.step("look")[1:4] == (0.0, False, True)
    assert env.reset(seed=9)[1]["step"] == 0
    assert env.step("look")[2:4] == (False, False)


def test_a_process_killed_before_a_game_is_replaced(env):
    state = env.reset(seed=9)[1]
    env.begin_reset(9)
    os.kill(env.worker.pid, signal.SIGKILL)
    assert env.reset(seed=9)[1] == state


def test_pictures_are_the_callers_own(env):
    picture, _ = env.reset(seed=1)
    picture[:] = 0
    assert env.step("look")[0].max() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"world": "moon"}, "world must be 'mini' or 'tw' or 'thor', but received 'moon'"),
        ({"split": "test"}, "split must be 'train'"),
        ({"task_types": ("juggle",)}, "task_types must be 'pick'"),
        ({"rules": "house"}, "rules must be 'paper' or 'released'"),
        ({"expert": "oracle"}, "expert must be"),
        ({"max_steps": 0}, "max_steps must be an integer"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        AlfworldEnv(**arguments)


def test_an_action_that_is_no_text(env):
    env.reset(seed=0)
    with pytest.raises(ValueError, match="must be a command in words"):
        env.step(3)
    with pytest.raises(ValueError, match="no reset options"):
        env.reset(options={"game": 3})


def test_gymnasium_makes_it(cache):
    vlmagent_envs.register_envs()
    made = gym.make("vlmagent/ALFWorld-v0", cache=cache, games_per_type=COUNTS, render_mode="rgb_array")
    try:
        picture, state = made.reset(seed=0)
        assert made.observation_space.contains(picture)
        assert all(made.action_space.contains(command) for command in state["admissible"])
        assert np.array_equal(made.render(), picture)
    finally:
        made.close()


def test_the_planner_is_an_expert_too(cache):
    env = AlfworldEnv(cache=cache, games_per_type=COUNTS, expert="planner", task_types=("pick2",))
    try:
        states, _, commands = play(env, 0)
    finally:
        env.close()
    assert states[-1]["won"]
    assert len(commands) <= 10  # it knows where things are


def test_missing_packages_and_games_are_named(monkeypatch, tmp_path, cache):
    with pytest.raises(
        AlfworldError, match=r"no ALFWorld games in .*alfworld-download.*ALFWORLD_DATA.*`vlmagent doctor`"
    ):
        AlfworldEnv(world="tw", data=str(tmp_path))
    monkeypatch.setattr(env_module, "missing_packages", lambda: "Run: pip install")
    with pytest.raises(AlfworldError, match="Run: pip install"):
        AlfworldEnv(cache=cache)


def test_a_split_without_games_is_named(env):
    with pytest.raises(AlfworldError, match=r"no games of the types heat in .*Splits with games: train"):
        find_games(env.root, "test", ("heat",))


def test_a_game_that_cannot_be_read_is_an_error_and_not_a_hang(cache, tmp_path):
    folder = tmp_path / "valid_unseen" / "broken" / "trial_1"
    folder.mkdir(parents=True)
    about = '{"task_type": "look_at_obj_in_light", "pddl_params": {"object_target": "Pen", "parent_target": "", "toggle_target": "DeskLamp"}}'  # noqa: E501
    (folder / "traj_data.json").write_text(about)
    (folder / "game.tw-pddl").write_text(
        '{"pddl_domain": "(", "grammar": "", "pddl_problem": "", "solvable": true}'
    )
    env = AlfworldEnv(world="tw", data=str(tmp_path), split="valid_unseen")
    try:
        with pytest.raises(GameFailedError, match="ALFWorld failed"):
            env.reset(seed=0)
    finally:
        env.close()
