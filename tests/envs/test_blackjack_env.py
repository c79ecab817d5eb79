"""Blackjack: hands played out with known cards, and exact probabilities."""

import random
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from vlmagent_envs import blackjack
from vlmagent_envs.blackjack import BlackjackEnv, hand_total
from vlmagent_envs.blackjack_solver import most_wins, rates, should_hit
from vlmagent_envs.cards import Card, parse_card

STAND, HIT = 0, 1


def table(monkeypatch, player, dealer, draws=(), **arguments):
    """An environment with these hands whose next cards are ``draws``."""
    env = BlackjackEnv(**arguments)
    env.reset(seed=0, options={"player": player, "dealer": dealer})
    cards = [parse_card(name) for name in draws]
    monkeypatch.setattr(blackjack, "deal", lambda rng, count: [cards.pop(0) for _ in range(count)])
    return env


@pytest.mark.parametrize(
    ("ranks", "total"),
    [
        ([1], (11, True)),
        ([1, 1], (12, True)),
        ([1, 13], (21, True)),
        ([1, 5, 10], (16, False)),
        ([11, 12, 2], (22, False)),
        ([1] * 21, (21, False)),
        ([1, 10, 1], (12, False)),
        ([9, 1, 1], (21, True)),
    ],
)
def test_totals(ranks, total):
    assert hand_total(ranks) == total


@pytest.mark.parametrize(
    ("player", "dealer", "draws", "reward"),
    [
        (["10H", "9S"], ["10D", "8C"], [], 1.0),
        (["10H", "8S"], ["10D", "8C"], [], 0.0),
        (["10H", "7S"], ["10D", "8C"], [], -1.0),
        (["10H", "2S"], ["10D", "6C"], ["6H"], 1.0),  # the dealer exceeds 21
        (["10H", "2S"], ["10D", "6C"], ["AH"], -1.0),  # the dealer draws to 17
        (["10H", "8S"], ["AD", "6C"], [], 1.0),  # and stands on a soft 17
        (["10H", "8S"], ["AD", "2C"], ["10H", "5S"], 0.0),  # soft 13, 13, 18
        (["AH", "KS"], ["10D", "8C"], [], 1.0),  # a natural pays 1 by default
        (["AH", "KS"], ["10D", "AC"], [], 0.0),
    ],
)
def test_standing(monkeypatch, player, dealer, draws, reward):
    env = table(monkeypatch, player, dealer, draws)
    _, got, terminated, truncated, info = env.step(STAND)
    assert (got, terminated, truncated) == (reward, True, False)
    assert info["goal"] is (reward > 0)
    assert info["dealer"] == dealer + draws


def test_hitting(monkeypatch):
    env = table(monkeypatch, ["10H", "2S"], ["8D", "KC"], ["9C", "2H"])
    picture, reward, terminated, truncated, info = env.step(HIT)
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert info == {
        "player": ["10H", "2S", "9C"],
        "dealer": ["8D", "KC"],
        "player_total": 21,
        "usable_ace": False,
        "dealer_shows": 8,
        "dealer_total": 18,
        "step": 1,
        "goal": False,
    }
    after, reward, terminated, truncated, info = env.step(HIT)
    assert (reward, terminated, truncated, info["player_total"], info["goal"]) == (
        -1.0,
        True,
        False,
        23,
        False,
    )
    assert not np.array_equal(picture, after)


@pytest.mark.parametrize(
    ("player", "arguments", "reward"),
    [
        (["AH", "QS"], {"natural": 1.5}, 1.5),
        (["10H", "AS"], {"natural": 1.5}, 1.5),
        (["5H", "6S", "10D"], {"natural": 1.5}, 1.0),  # 21 with three cards
        (["9H", "10S"], {"natural": 1.5}, 1.0),
        (["AH", "QS"], {"natural": 1.5, "rules": "released"}, 1.0),  # never paid there
    ],
)
def test_naturals(monkeypatch, player, arguments, reward):
    env = table(monkeypatch, player, ["10D", "8C"], **arguments)
    assert env.step(STAND)[1] == reward


def test_the_hidden_card_changes_no_picture_before_the_end():
    env = BlackjackEnv()
    hidden = [
        env.reset(seed=0, options={"player": ["5H", "6S"], "dealer": ["8D", name]})[0]
        for name in ("KC", "2H")
    ]
    assert np.array_equal(*hidden)
    shown = env.reset(seed=0, options={"player": ["5H", "6S"], "dealer": ["9D", "KC"]})[0]
    assert not np.array_equal(hidden[0], shown)
    final = env.step(STAND)[0]
    assert not np.array_equal(final, shown)  # now it lies open
    released = BlackjackEnv(rules="released")
    first = released.reset(seed=0, options={"player": ["5H", "6S"], "dealer": ["9D", "KC"]})[0]
    assert np.array_equal(released.step(STAND)[0], first)


def test_cards_worth_ten_are_printed_as_ten_or_face():
    def seen(rules):
        env = BlackjackEnv(rules=rules)
        env.reset(seed=0)
        hands = [env.reset()[1] for _ in range(300)]
        return {name[:-1] for info in hands for name in info["player"] + info["dealer"]}

    low = {"A", *map(str, range(2, 10)), "J", "Q", "K"}
    assert seen("paper") == low | {"10"}
    assert seen("released") == low


@pytest.mark.parametrize("rules", ["paper", "released"])
def test_gymnasium_checker_is_content(rules):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(
            gym.make("vlmagent_envs:vlmagent/Blackjack-v0", rules=rules, render_mode="rgb_array").unwrapped
        )


def test_same_seed_same_rollout_without_global_randomness():
    def rollout(seed):
        env, trace = BlackjackEnv(), []
        trace.append(env.reset(seed=seed))
        for action in np.random.default_rng(1).integers(0, 2, 60):
            trace.append(env.step(action))
            if trace[-1][2]:
                trace.append(env.reset())
        return trace

    first = rollout(3)
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    for one, two in zip(first, rollout(3), strict=True):
        assert np.array_equal(one[0], two[0])
        assert one[1:] == two[1:]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert len({str(rollout(seed)[0][1]) for seed in range(8)}) == 8


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: BlackjackEnv(natural=0), r"natural must be a number from 1 to 10, but received 0"),
        (lambda: BlackjackEnv(natural="1.5"), r"natural must be a number"),
        (lambda: BlackjackEnv(rules="x"), r"rules must be"),
        (lambda: BlackjackEnv().reset(options={"player": ["AH"]}), r"two or more names"),
        (lambda: BlackjackEnv().reset(options={"deck": ["AH", "2H"]}), r"may be 'player' and 'dealer'"),
        (lambda: BlackjackEnv().step(2), r"0 \(stand\), 1 \(hit\); received 2"),
    ],
)
def test_mistakes(make, match):
    with pytest.raises(ValueError, match=match):
        make()


# --- the best way to play ---


def test_policy_is_the_known_basic_strategy():
    """Hit or stand against 2, 3, ..., 10, ace, without doubling or splitting (Sutton, Barto, figure 5.2)."""
    hard = {
        total: "".join("SH"[should_hit(total, False, shows)] for shows in range(2, 12))
        for total in range(11, 22)
    }
    soft = {
        total: "".join("SH"[should_hit(total, True, shows)] for shows in range(2, 12))
        for total in range(12, 22)
    }
    assert hard[11] == "H" * 10
    assert hard[12] == "HHSSSHHHHH"
    assert all(hard[total] == "SSSSSHHHHH" for total in range(13, 17))
    assert all(hard[total] == "S" * 10 for total in range(17, 22))
    assert all(soft[total] == "H" * 10 for total in range(12, 18))
    assert soft[18] == "SSSSSSSHHH"
    assert all(soft[total] == "S" * 10 for total in range(19, 22))


def test_exact_rates():
    best = rates()
    assert sum(best) == pytest.approx(1)
    assert best.win == pytest.approx(0.42946, abs=1e-5)
    assert best.win - best.loss == pytest.approx(-0.04656, abs=1e-5)
    for other in (lambda total, *_: total < 17, lambda total, *_: total < 12, lambda *_: False):
        worse = rates(other)
        assert worse.win - worse.loss < best.win - best.loss
        assert worse.win < best.win
    assert best.win < most_wins() < best.win + 0.003


def win_rate(hands, policy, monkeypatch):
    monkeypatch.setattr(blackjack, "blackjack_picture", lambda *_: np.zeros((300, 300, 3), np.uint8))
    env, wins = BlackjackEnv(), 0
    _, info = env.reset(seed=0)
    for _ in range(hands):
        done = False
        while not done:
            hit = policy(info["player_total"], info["usable_ace"], info["dealer_shows"])
            _, reward, done, _, info = env.step(int(hit))
        wins += reward > 0
        _, info = env.reset()
    return wins / hands


def within_noise(measured, exact, hands):
    return abs(measured - exact) < 3.5 * (exact * (1 - exact) / hands) ** 0.5


@pytest.mark.parametrize("policy", [should_hit, lambda total, *_: total < 17, lambda total, *_: total < 14])
def test_the_environment_has_the_exact_rates(policy, monkeypatch):
    assert within_noise(win_rate(6000, policy, monkeypatch), rates(policy).win, 6000)


@pytest.mark.slow
def test_the_expert_wins_as_often_as_can_be(monkeypatch):
    assert within_noise(win_rate(100_000, should_hit, monkeypatch), rates().win, 100_000)


def test_card_order_matches_the_deal():
    env = BlackjackEnv()
    _, info = env.reset(seed=0)
    assert info["dealer_shows"] == hand_total([parse_card(info["dealer"][0]).rank])[0]
    assert isinstance(parse_card(info["player"][0]), Card)
