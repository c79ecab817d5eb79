"""A saved optimiser is put back to its own parameters only."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vlmagent.errors import UsageError
from vlmagent.training.engines.local import LocalEngine


def engine(*shapes: tuple[int, ...]) -> LocalEngine:
    """One that has taken a step, with a group for the first parameters and one for the last."""
    parameters = [nn.Parameter(torch.ones(shape)) for shape in shapes]
    made = LocalEngine([{"params": parameters[:-1], "lr": 0.1}, {"params": parameters[-1:], "lr": 0.2}], 1.0)
    made.backward(sum((p.sum() for p in parameters), torch.zeros(())))
    made.step()
    return made


def test_its_own_is_taken():
    engine((2, 3), (4,)).load_state_dict(engine((2, 3), (4,)).state_dict())


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((2, 3), (3,), (4,)), r"its groups hold \[2, 1\] parameters, and \[1, 1\] learn here"),
        (((3, 2), (4,)), r"exp_avg of parameter 0 has the shape \(3, 2\), and the parameter \(2, 3\)"),
        (((2, 3), (5,)), r"exp_avg of parameter 1 has the shape \(5,\), and the parameter \(4,\)"),
    ],
)
def test_anothers_is_refused(shapes: tuple[tuple[int, ...], ...], words: str):
    ours = engine((2, 3), (4,))
    with pytest.raises(UsageError, match=words) as caught:
        ours.load_state_dict(engine(*shapes).state_dict())
    assert "model.lora, model.train_vision, model.value_head" in str(caught.value)
    assert ours.learning_rate == 0.1


def test_moments_of_a_parameter_that_is_not_there():
    state = dict(engine((2,), (4,)).state_dict())
    state["state"] = {**state["state"], 7: {"step": torch.ones(())}}
    with pytest.raises(UsageError, match="moments of parameter 7, and there are 2"):
        engine((2,), (4,)).load_state_dict(state)
