"""The engine of one process: its optimiser's kernel is its own business."""

from __future__ import annotations

import copy

import torch

from vlmagent.training.engines.local import LocalEngine


def engine(parameter: torch.nn.Parameter) -> LocalEngine:
    return LocalEngine([{"params": [parameter], "lr": 0.1}], 10.0)


def test_a_state_of_torchs_plain_adamw_goes_on_as_if_it_were_our_own() -> None:
    """As earlier versions saved it; what is saved now opens there too."""
    plain, ours = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    optimizer = torch.optim.AdamW([plain], lr=0.1, weight_decay=0.0)
    for gradient in ([1.0, 2.0], [0.5, -1.0]):
        plain.grad = torch.tensor(gradient)
        optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    assert saved["param_groups"][0]["fused"] is None
    ours.data = plain.data.clone()
    going_on = engine(ours)
    going_on.load_state_dict(saved)
    assert going_on.optimizer.param_groups[0]["fused"]
    for parameter in (plain, ours):
        parameter.grad = torch.tensor([3.0, 1.0])
    optimizer.step()
    going_on.step()
    torch.testing.assert_close(ours, plain, atol=1e-7, rtol=0)
    assert going_on.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
