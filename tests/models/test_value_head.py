"""The critic: its unit, its calibration, and heads that earlier versions wrote."""

import pytest
import torch

from vlmagent.models.value_head import ValueHead


@pytest.fixture
def head() -> ValueHead:
    torch.manual_seed(0)
    built = ValueHead(4, [8])
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return built


def test_values_are_in_units_of_the_scale(head: ValueHead):
    hidden = torch.randn(5, 4)
    plain = head(hidden)
    head.scale.fill_(20.0)
    assert plain.shape == (5,)
    assert torch.allclose(head(hidden), 20 * plain)


def test_one_step_moves_the_value_by_the_scale(head: ValueHead):
    """Adam's steps are of the learning rate's size: only the unit decides how far the value gets."""
    hidden, moved = torch.randn(5, 4), []
    for scale in (1.0, 20.0):
        other = ValueHead(4, [8])
        other.load_state_dict(head.state_dict())
        other.scale.fill_(scale)
        optimizer = torch.optim.Adam(other.parameters(), lr=1e-3)
        before = other(hidden).detach()
        (0.5 * ((other(hidden) - 1000.0) / scale).pow(2).mean()).backward()
        optimizer.step()
        moved.append(float((other(hidden) - before).detach().mean()))
    assert moved[1] == pytest.approx(20 * moved[0], rel=0.01)


def test_it_is_saved_with_its_scale_and_earlier_ones_have_one(head: ValueHead):
    head.scale.fill_(7.0)
    head.calibrate(torch.randn(9, 4) * 3 + 1)
    loaded = ValueHead(4, [8])
    loaded.load_state_dict(head.state_dict())
    hidden = torch.randn(3, 4)
    assert torch.equal(loaded(hidden), head(hidden))
    earlier = {name: tensor for name, tensor in head.state_dict().items() if name != "scale"}
    loaded.load_state_dict(earlier)
    assert float(loaded.scale) == 1.0


def test_constant_features_do_not_blow_up(head: ValueHead):
    head.calibrate(torch.ones(6, 4))
    assert torch.isfinite(head(torch.ones(2, 4) + 1e-4)).all()
