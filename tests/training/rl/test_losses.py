"""PPO's losses against literal arrays."""

import math

import pytest
import torch

from vlmagent.training.rl.losses import explained_variance, masked_mean, policy_loss, sequence_kl, value_loss


def test_ratio_one_gives_minus_the_mean_advantage():
    logprobs = torch.tensor([-1.0, -2.0])
    loss, clip_fraction = policy_loss(logprobs, logprobs, torch.tensor([3.0, 1.0]), clip=0.2)
    assert float(loss) == pytest.approx(-2.0)
    assert float(clip_fraction) == 0.0


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective"),
    [
        (1.5, 2.0, 1.2 * 2.0),  # gain is clipped
        (0.5, 2.0, 0.5 * 2.0),  # a worse policy is not flattered
        (1.5, -2.0, 1.5 * -2.0),  # neither is a loss
        (0.5, -2.0, 0.8 * -2.0),
    ],
)
def test_clipped_surrogate_in_each_quadrant(ratio, advantage, objective):
    loss, fraction = policy_loss(
        torch.tensor([math.log(ratio)]), torch.zeros(1), torch.tensor([advantage]), clip=0.2
    )
    assert float(loss) == pytest.approx(-objective)
    assert float(fraction) == 1.0


def test_no_gradient_where_the_clip_binds():
    logprobs = torch.tensor([math.log(1.5), 0.0], requires_grad=True)
    policy_loss(logprobs, torch.zeros(2), torch.tensor([1.0, 1.0]), clip=0.2).loss.backward()
    assert logprobs.grad.tolist() == pytest.approx([0.0, -0.5])


def test_broadcasting_is_refused():
    with pytest.raises(ValueError, match="same shape"):
        policy_loss(torch.zeros(3), torch.zeros(3), torch.zeros(3, 1), clip=0.2)
    with pytest.raises(ValueError, match="same shape"):
        value_loss(torch.zeros(3, 1), torch.zeros(3), torch.zeros(3), 0.0)


def test_value_loss_plain_and_clipped():
    values, returns, old = torch.tensor([3.0]), torch.tensor([10.0]), torch.tensor([0.0])
    assert float(value_loss(values, returns, old, 0.0)) == pytest.approx(0.5 * 49)
    # moved at most 1 from the old value: the error of 1.0 against 10 is the larger one
    assert float(value_loss(values, returns, old, 1.0)) == pytest.approx(0.5 * 81)


def test_kl_sums_tokens_and_ignores_padding():
    new = torch.tensor([[-1.0, -2.0, 55.0]])
    old = torch.tensor([[-1.0, -1.0, -9.0]])
    mask = torch.tensor([[True, True, False]])
    assert sequence_kl(new, old, mask).tolist() == pytest.approx([math.exp(-1.0)])  # exp(d) - 1 - d at d = -1


def test_masked_mean():
    assert float(masked_mean(torch.tensor([1.0, 3.0, 100.0]), torch.tensor([True, True, False]))) == 2.0
    assert float(masked_mean(torch.tensor([1.0]), torch.tensor([False]))) == 0.0


def test_explained_variance():
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(torch.full((3,), 2.0), returns) == pytest.approx(0.0)
    assert math.isnan(explained_variance(returns, torch.ones(3)))
