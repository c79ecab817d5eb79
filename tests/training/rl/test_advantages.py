"""GAE against literal arrays, worked out by hand from the equation."""

import pytest
import torch

from vlmagent.training.rl.advantages import generalized_advantages, normalize


def column(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype).unsqueeze(1)


def gae(rewards, values, next_values, terminated, truncated, gamma=0.9, gae_lambda=0.5):
    result = generalized_advantages(
        column(rewards),
        column(values),
        column(next_values),
        column(terminated, torch.bool),
        column(truncated, torch.bool),
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    return result.advantages[:, 0].tolist(), result.returns[:, 0].tolist()


def test_three_steps_with_a_terminal_state_in_the_middle():
    # deltas: 1 + 0.9*2 - 1 = 1.8;  2 - 2 = 0 (terminal);  3 + 0.9*4 - 3 = 3.6
    # A_2 = 3.6;  A_1 = 0 (the recursion is cut);  A_0 = 1.8 + 0.45 * 0 = 1.8
    advantages, returns = gae([1, 2, 3], [1, 2, 3], [2, 99, 4], [0, 1, 0], [0, 0, 0])
    assert advantages == pytest.approx([1.8, 0.0, 3.6])
    assert returns == pytest.approx([2.8, 2.0, 6.6])


def test_truncation_bootstraps_but_cuts_the_recursion():
    # step 1 truncated with V(final state) = 5: delta_1 = 2 + 0.9*5 - 2 = 4.5, nothing carried over from step 2
    # A_0 = 1.8 + 0.45 * 4.5 = 3.825
    advantages, _ = gae([1, 2, 3], [1, 2, 3], [2, 5, 4], [0, 0, 0], [0, 1, 0])
    assert advantages == pytest.approx([3.825, 4.5, 3.6])


def test_a_terminal_state_that_also_hits_the_limit_is_terminal():
    advantages, _ = gae([1, 2], [1, 2], [2, 5], [0, 1], [0, 1])
    assert advantages == pytest.approx([1.8, 0.0])


@pytest.mark.parametrize(
    ("gae_lambda", "expected"),
    [
        (0.0, [0.9, 1.9, 1.0]),  # one-step errors
        (1.0, [0.9 + 0.9 * 1.9 + 0.81 * 1.0, 1.9 + 0.9 * 1.0, 1.0]),  # Monte Carlo
        (0.95, [0.9 + 0.855 * (1.9 + 0.855 * 1.0), 1.9 + 0.855 * 1.0, 1.0]),
    ],
)
def test_lambda_from_one_step_to_monte_carlo(gae_lambda, expected):
    # values 1, 1, 1; rewards 1, 2, 2; the end terminal: deltas 0.9, 1.9, 1.0
    advantages, _ = gae([1, 2, 2], [1, 1, 1], [1, 1, 77], [0, 0, 1], [0, 0, 0], gae_lambda=gae_lambda)
    assert advantages == pytest.approx(expected)


def test_zero_discount_leaves_reward_minus_value():
    advantages, _ = gae([1, 2, 3], [3, 2, 1], [9, 9, 9], [0, 0, 0], [0, 0, 0], gamma=0.0)
    assert advantages == pytest.approx([-2, 0, 2])


def test_environments_do_not_mix():
    rewards = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    zeros = torch.zeros(2, 2)
    ends = torch.tensor([[True, False], [False, True]])
    result = generalized_advantages(rewards, zeros, zeros, ends, zeros.bool(), gamma=0.5, gae_lambda=1.0)
    assert result.advantages.tolist() == [[1.0, 2.5], [0.0, 5.0]]


def test_nan_behind_a_terminal_state_does_not_leak():
    advantages, _ = gae([1, 1], [0, 0], [0, float("nan")], [0, 1], [0, 0])
    assert advantages == pytest.approx([1.45, 1.0])


def test_shapes_that_would_broadcast_are_refused():
    one = torch.zeros(3, 1)
    with pytest.raises(ValueError, match="shape"):
        generalized_advantages(torch.zeros(3, 2), one, one, one.bool(), one.bool(), gamma=0.9, gae_lambda=0.9)


def test_normalize():
    assert normalize(torch.tensor([1.0, 2.0, 3.0])).tolist() == pytest.approx([-1.2247449, 0.0, 1.2247449])
    assert normalize(torch.tensor([5.0, 5.0])).tolist() == [0.0, 0.0]
