"""NumberLine's prompt and responses, to the letter of the paper's Figures 9, 22 and 23."""

import json

import numpy as np
import pytest

from vlmagent.tasks.numberline import NumberLineTask
from vlmagent.tasks.parsing import extract_thoughts, parse_action

PROMPT_COT = (
    "You are playing a game called number line. You will see a target number and a current number in the "
    "image. And your goal is to move the current number closer to the target by choosing either adding or "
    "subtracting one to the current number. Your response should be a valid json file in the following "
    "format:\n"
    "{\n"
    '"current number": "x",\n'
    '"target number": "x",\n'
    '"thoughts": {first read out the current and target number, then think carefully about which action to '
    "choose},\n"
    '"action": "-" or "+"\n'
    "}"
)
PROMPT_DIRECT = (
    "You are playing a game called number line. You will see a target number and a current number in the "
    "image. And your goal is to move the current number closer to the target by choosing either adding or "
    "subtracting one to the current number. Your response should be a valid json file in the following "
    "format:\n"
    "{\n"
    '"action": "-" or "+"\n'
    "}"
)
RESPONSE_COT = (
    "{\n"
    '"current number": "0",\n'
    '"target number": "3",\n'
    '"thoughts": "The current number is 0, which is smaller than the target number is 3. To move the '
    'current number closer to the target, I should increase the current number by choosing +.",\n'
    '"action": "+"\n'
    "}"
)


def observation(task):
    return task.observe(np.zeros((300, 300, 3), np.uint8), {"target": 3, "current": 0})


@pytest.mark.parametrize(("cot", "expected"), [(True, PROMPT_COT), (False, PROMPT_DIRECT)])
def test_prompt_is_the_papers(cot, expected):
    task = NumberLineTask(cot=cot)
    assert task.prompt(observation(task)) == expected


def test_response_with_cot_is_figure_22():
    assert NumberLineTask().expert_response({"target": 3, "current": 0}, "+") == RESPONSE_COT


def test_response_without_cot_is_figure_23():
    assert (
        NumberLineTask(cot=False).expert_response({"target": 3, "current": 0}, "+") == '{\n"action": "+"\n}'
    )


def test_response_in_the_other_direction():
    response = NumberLineTask().expert_response({"target": 1, "current": 4}, "-")
    assert json.loads(response) == {
        "current number": "4",
        "target number": "1",
        "thoughts": "The current number is 4, which is larger than the target number is 1. To move the "
        "current number closer to the target, I should decrease the current number by choosing -.",
        "action": "-",
    }


def test_response_parses_back():
    task, rng = NumberLineTask(), np.random.default_rng(0)
    for target in range(6):
        for current in set(range(6)) - {target}:
            state = {"target": target, "current": current}
            action = task.expert_action(state, rng)
            response = task.expert_response(state, action)
            parsed = parse_action(response, ("+", "-"), rng)
            assert (parsed.action, parsed.legal_output, parsed.action_text) == (action, True, action)
            assert extract_thoughts(response) == json.loads(response)["thoughts"]


def test_observation_and_env_actions():
    task = NumberLineTask()
    seen = observation(task)
    assert (seen.state_text, seen.legal_actions) == (None, ("+", "-"))
    assert [task.env_action(action, seen) for action in ("+", "-")] == [0, 1]


@pytest.mark.parametrize("n_max", [1, 5, 9])
def test_expert_always_wins_without_a_penalty(n_max):
    task, rng = NumberLineTask(env={"n_max": n_max}), np.random.default_rng(0)
    env = task.make_env()
    for seed in range(40):
        image, state = env.reset(seed=seed)
        distance, rewards, ended = abs(state["target"] - state["current"]), [], False
        while not ended:
            seen = task.observe(image, state)
            action = task.env_action(task.expert_action(state, rng), seen)
            image, reward, terminated, truncated, state = env.step(action)
            rewards.append(reward)
            ended = terminated or truncated
        assert rewards == [0.0] * (distance - 1) + [1.0]
        assert task.success(sum(rewards), state)
        assert task.goal(state)


def test_success_is_a_positive_return_whatever_the_goal():
    task = NumberLineTask()
    reached = {"goal": True}
    assert [task.success(value, reached) for value in (1.0, 0.0, -1.0)] == [True, False, False]
    assert task.goal(reached)
    assert not task.goal({"goal": False})


def test_class_attributes():
    assert (NumberLineTask.name, NumberLineTask.env_id) == ("numberline", "vlmagent/NumberLine-v0")
    assert NumberLineTask.rule_sets == ("paper",)
    assert set(NumberLineTask.options.model_fields) == {"n_max", "holdout"}
