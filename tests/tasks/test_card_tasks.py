"""Prompts and responses of the card games, to the letter of the paper's Figures 11, 13, 15 and 24 to 29."""

import json

import numpy as np
import pytest

from vlmagent.errors import UsageError
from vlmagent.tasks.parsing import extract_thoughts, parse_action
from vlmagent.tasks.registry import build_task
from vlmagent_envs.formulas import evaluate, parse
from vlmagent_envs.solver import solve

RNG = np.random.default_rng(0)
EZPOINTS_INTRODUCTION = (
    "You are an expert card game player. You are observing two cards in the image. You are observing the "
    "current formula: '5'. You can choose between ['1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '+', "
    "'*', '=']. The number or operator you choose will be appended to the current formula. Note that 'J', "
    "'Q', and 'K' count as '10'. Your goal is to output a formula that evaluates to 12, and each number can "
    "only be used once. Your response should be a valid json file in the following format:\n"
)
EZPOINTS_BLUE = (
    '"cards": [x, y],\n'
    "\"current formula\": '5',\n"
    "\"thoughts\": {First check whether the current formula 'z' is complete. If the current formula 'z' is "
    "complete, output '='. Otherwise consider which number or operator should be appended to the current "
    "formula to make it equal 12.}\n"
)
POINTS24_INTRODUCTION = (
    "You are an expert 24 points card game player. You are observing these four cards in the image. You are "
    "observing the current formula: '(2'. You can choose between ['1', '2', '3', '4', '5', '6', '7', '8', "
    "'9', '10', '+', '-', '*', '/', '(', ')', '=']. The number or operator you choose will be appended to "
    "the current formula. Note that 'J', 'Q', and 'K' count as '10'. Your goal is to output a formula that "
    "evaluates to 24, and each number can only be used once. Your response should be a valid json "
    "file in the following format:\n"
)
POINTS24_BLUE = (
    '"cards": [x, y, z, w],\n'
    "\"current formula\": '(2'\n"
    '"thoughts": {First check whether the current formula equals 24. If the current formula equals 24, '
    "output "
    "'='. Otherwise consider which number or operator should be appended to the current formula to make it "
    "equal 24.}\n"
)
NUMBER_OR_OPERATOR = '"action": "{number}" or "{operator}"\n'
BLACKJACK_INTRODUCTION = (
    "You are a blackjack player. You are observing the current game state, you can choose between ['stand', "
    "'hit']. Your response should be a valid json file in the following format:\n"
)
BLACKJACK_BLUE = (
    '"thoughts": "{first describe your total points and the dealer\'s total points then think about which '
    "action "
    'to choose}",\n'
)
STAND_OR_HIT = '"action": "stand" or "hit"\n'


def points_state(numbers, formula, target, steps_left=20):
    tokens = formula.split()
    remaining = list(numbers)
    for token in tokens:
        if token.isdecimal():
            remaining.remove(int(token))
    return {
        "numbers": list(numbers),
        "remaining": remaining,
        "formula": tokens,
        "formula_text": "".join(tokens),
        "target": target,
        "steps_left": steps_left,
        "goal": False,
    }


def prompt(task, state):
    return task.prompt(task.observe(np.zeros((300, 300, 3), np.uint8), state))


EZPOINTS_5 = points_state([7, 5], "5", 12, 4)
POINTS24_2 = points_state([1, 2, 10, 1], "( 2", 24)
BLACKJACK_13 = {
    "player": ["8H", "5S"],
    "player_total": 13,
    "usable_ace": False,
    "dealer_shows": 8,
    "goal": False,
}


@pytest.mark.parametrize(
    ("name", "state", "introduction", "blue", "action"),
    [
        ("ezpoints", EZPOINTS_5, EZPOINTS_INTRODUCTION, EZPOINTS_BLUE, NUMBER_OR_OPERATOR),
        ("points24", POINTS24_2, POINTS24_INTRODUCTION, POINTS24_BLUE, NUMBER_OR_OPERATOR),
        ("blackjack", BLACKJACK_13, BLACKJACK_INTRODUCTION, BLACKJACK_BLUE, STAND_OR_HIT),
    ],
)
def test_prompts_are_the_papers(name, state, introduction, blue, action):
    assert prompt(build_task(name), state) == introduction + "{\n" + blue + action + "}"
    assert prompt(build_task(name, cot=False), state) == introduction + "{\n" + action + "}"


def test_options_reach_the_prompt():
    task = build_task("points24", env={"face_cards": "11-12-13", "target": 36})
    text = prompt(task, points_state([13, 1, 2, 3], "", 36))
    assert "expert 36 points card" in text
    assert "'10', '11', '12', '13', '+'" in text
    assert "count as '11', '12', and '13'." in text
    assert "current formula: ''." in text
    assert text.count("36") == 5


def test_ezpoints_response_is_figure_26():
    assert build_task("ezpoints").expert_response(EZPOINTS_5, "+") == (
        '{\n"cards": [7, 5],\n"formula": "5",\n'
        "\"thoughts\": \"'5' is an incomplete formula, since '5+7=12', I should append '+' to the current "
        'formula",\n'
        '"action": "+"\n}'
    )


def test_points24_response_is_figure_28():
    state = points_state([1, 2, 10, 1], "( 2 +", 24)
    assert build_task("points24").expert_response(state, "10") == (
        '{\n"cards": [1, 2, 10, 1],\n"formula": "(2+",\n'
        "\"thoughts\": \"'(2+' is an incomplete formula, since '(2+10)*(1+1)=24', I should append '10' to "
        "the "
        'current formula",\n"action": "10"\n}'
    )


def test_blackjack_response_is_figure_24_with_the_cards_read_out():
    assert build_task("blackjack").expert_response(BLACKJACK_13, "hit") == (
        '{\n"thoughts": "I have 8 + 5 = 13 points and the dealer has 8 points. I think I should hit.",\n'
        '"action": "hit"\n}'
    )


@pytest.mark.parametrize(
    ("player", "said"),
    [
        (["AH", "KD"], "A + 10 = soft 21"),
        (["AS", "9C", "5H"], "A + 9 = soft 20, + 5 = 15"),
        (["2D", "2C", "AH", "AC", "JS"], "2 + 2 = 4, + A = soft 15, + A = soft 16, + 10 = 16"),
        (["AD", "AC"], "A + A = soft 12"),
        (["KH", "QD", "5C"], "10 + 10 = 20, + 5 = 25"),
    ],
)
def test_blackjack_captions_count_card_by_card(player: list[str], said: str):
    state = {**BLACKJACK_13, "player": player}
    assert build_task("blackjack").caption(state) == f"I have {said} points and the dealer has 8 points."


def test_blackjack_captions_end_in_the_environments_own_total():
    task = build_task("blackjack")
    env = task.make_env()
    for seed in range(200):
        _, state = env.reset(seed=seed)
        done = False
        while not done:
            soft = "soft " if state["usable_ace"] else ""
            assert f"= {soft}{state['player_total']} points and the dealer" in task.caption(state)
            _, _, terminated, truncated, state = env.step(1)
            done = terminated or truncated


@pytest.mark.parametrize(
    ("name", "state", "action"),
    [("ezpoints", EZPOINTS_5, "+"), ("points24", POINTS24_2, "+"), ("blackjack", BLACKJACK_13, "hit")],
)
def test_responses_without_cot(name, state, action):
    assert build_task(name, cot=False).expert_response(state, action) == f'{{\n"action": "{action}"\n}}'


@pytest.mark.parametrize(
    ("formula", "action", "thoughts"),
    [
        (
            "5 + 7",
            "=",
            "'5+7' is a complete formula, since '5+7=12', I should append '=' to the current formula",
        ),
        ("", "5", "'' is an incomplete formula, since '5+7=12', I should append '5' to the current formula"),
        (
            "5 *",
            "=",
            "'5*' cannot become a formula that equals 12, I should append '=' to the current formula",
        ),
        ("5", "*", "'5' cannot become a formula that equals 12, I should append '*' to the current formula"),
        ("5", "5", "'5' cannot become a formula that equals 12, I should append '5' to the current formula"),
    ],
)
def test_other_thoughts(formula, action, thoughts):
    response = build_task("ezpoints").expert_response(points_state([7, 5], formula, 12), action)
    assert json.loads(response)["thoughts"] == thoughts


@pytest.mark.parametrize(
    ("formula", "steps_left", "action"),
    [
        ("", 5, "7"),
        ("", 3, "="),  # too late for four more actions
        ("5", 4, "+"),
        ("5", 3, "+"),
        ("5", 2, "="),
        ("5 +", 3, "7"),
        ("5 + 7", 1, "="),
        ("+", 4, "7"),
        ("+", 3, "="),
        ("5 7", 3, "="),
    ],
)
def test_ezpoints_expert(formula, steps_left, action):
    state = points_state([7, 5], formula, 12, steps_left)
    assert build_task("ezpoints").expert_action(state, RNG) == action


@pytest.mark.parametrize("rule_set", ["paper", "released"])
@pytest.mark.parametrize("name", ["ezpoints", "points24"])
def test_the_expert_wins_whatever_can_be_won(name, rule_set):
    task = build_task(name, rule_set=rule_set)
    env = task.make_env()
    for seed in range(150):
        image, state = env.reset(seed=seed)
        possible = solve(state["numbers"], task.target) is not None
        rewards, done, texts = [], False, set()
        while not done:
            seen = task.observe(image, state)
            action = task.expert_action(state, RNG)
            response = json.loads(task.expert_response(state, action))
            assert response["cards"] == state["numbers"]
            assert response["formula"] == seen.state_text
            assert response["action"] == action
            texts.add(response["thoughts"].partition("since '")[2].partition("'")[0])
            image, reward, terminated, truncated, state = env.step(task.env_action(action, seen))
            rewards.append(reward)
            done = terminated or truncated
        won = [0.0] * (len(rewards) - 1) + [10.0]
        # 8/(3-8/3) and its like are exact here, and not in the released code's floats
        assert rewards == (won if possible else [-1.0]) or (
            rule_set == "released" and "/" in state["formula"]
        )
        assert task.success(sum(rewards), state) == task.goal(state) == (rewards[-1] == 10)
        if possible:
            assert len(texts) == 1  # one solution, kept from the first token to the last
            left, _, right = texts.pop().partition("=")
            assert (left, right) == (state["formula_text"], str(task.target))


def test_the_expert_recovers_from_any_prefix():
    """After some random actions the expert still wins if it can be won; it never takes an illegal action."""
    task, rng = build_task("points24", env={"solvable_only": True}), np.random.default_rng(1)
    env, won = task.make_env(), 0
    for seed in range(25):
        image, state = env.reset(seed=seed)
        for _ in range(3):
            possible = [name for name in task.actions[:-1] if parse([*state["formula"], name]) is not None]
            legal = [name for name in possible if not name.isdecimal() or int(name) in state["remaining"]]
            image, *_, state = env.step(task.actions.index(str(rng.choice(legal))))
        done = False
        while not done:
            action = task.expert_action(state, rng)
            image, reward, terminated, truncated, state = env.step(
                task.env_action(action, task.observe(image, state))
            )
            assert not state["illegal"]
            done = terminated or truncated
        assert terminated
        won += reward == 10
        assert (reward == 10) == (evaluate(state["formula"]) == 24 and not state["remaining"])
    assert won >= 5


def test_supervised_samples_of_points24_can_be_solved():
    task = build_task("points24")
    env = task.make_sft_env()
    assert all(solve(env.reset(seed=seed)[1]["numbers"], 24) for seed in range(60))
    env = task.make_env()
    assert not all(solve(env.reset(seed=seed)[1]["numbers"], 24) for seed in range(60))


def test_blackjack_expert_plays_what_it_says():
    task = build_task("blackjack")
    env, returns = task.make_env(), []
    for seed in range(400):
        image, state = env.reset(seed=seed)
        done = False
        while not done:
            seen = task.observe(image, state)
            assert (seen.state_text, seen.legal_actions) == (None, ("stand", "hit"))
            action = task.expert_action(state, RNG)
            image, reward, done, truncated, state = env.step(task.env_action(action, seen))
            assert not truncated
        returns.append(reward)
        assert task.success(reward, state) == task.goal(state) == (reward > 0)
    assert 0.33 < np.mean(np.array(returns) > 0) < 0.53


@pytest.mark.parametrize("cot", [True, False])
@pytest.mark.parametrize("name", ["ezpoints", "points24", "blackjack"])
def test_responses_are_read_back(name, cot):
    task = build_task(name, cot=cot)
    env = getattr(task, "make_sft_env", task.make_env)()
    for seed in range(25):
        image, state = env.reset(seed=seed)
        done = False
        while not done:
            seen = task.observe(image, state)
            action = task.expert_action(state, RNG)
            response = task.expert_response(state, action)
            parsed = parse_action(response, seen.legal_actions, RNG)
            assert (parsed.action, parsed.legal_output, parsed.action_text) == (action, True, action)
            assert extract_thoughts(response) == json.loads(response).get("thoughts", "")
            image, _, terminated, truncated, state = env.step(task.env_action(action, seen))
            done = terminated or truncated


@pytest.mark.parametrize(
    ("name", "arguments", "part"),
    [
        ("ezpoints", {"env": {"target": 169}}, "env.target"),
        ("ezpoints", {"env": {"target": 11}, "rule_set": "released"}, "env.target = 11"),
        ("ezpoints", {"env": {"face_cards": 10}}, "Unknown key 'env.face_cards'"),
        ("points24", {"env": {"face_cards": 11}}, "env.face_cards = 11"),
        ("points24", {"env": {"face_cards": "jqk"}}, "Valid choices: 10 or '11-12-13'"),
        ("points24", {"env": {"solvable": True}}, "Did you mean 'env.solvable_only'?"),
        ("blackjack", {"env": {"natural": 0.5}}, "env.natural = 0.5 is out of range"),
        ("blackjack", {"rule_set": "relesed"}, "Did you mean 'released'?"),
    ],
)
def test_mistakes(name, arguments, part):
    with pytest.raises(UsageError) as caught:
        build_task(name, **arguments)
    assert part in str(caught.value)


def test_options_reach_the_environment():
    env = build_task("blackjack", rule_set="released", env={"natural": 1.5}).make_env().unwrapped
    assert (env.natural, env.rules) == (1.5, "released")
    env = build_task("points24", env={"face_cards": "11-12-13", "target": 36}).make_env().unwrapped
    assert (env.largest, env.target, env.rules) == (13, 36, "paper")
    env = build_task("ezpoints", env={"target": 10}).make_env().unwrapped
    assert env.target == 10
