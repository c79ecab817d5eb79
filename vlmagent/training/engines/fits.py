"""Whether a saved optimiser belongs to the parameters that it is put back to.

torch compares the number of parameters alone: moments of other shapes are taken, and fail in the first step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vlmagent.errors import UsageError

TODO = (
    "It was written with other settings for what learns (model.lora, model.train_vision, model.value_head) or comes "
    "from another run: go on with the settings of the run itself, or start a new one from the weights with --model."
)


def check_optimizer(state: Mapping[str, Any], groups: Sequence[Sequence[Any]]) -> None:
    """Compare a saved state with the parameters of an optimiser.

    Args:
        state: as torch optimisers give it: ``state`` by a parameter's number, and ``param_groups``.
        groups: the parameters by group, in the optimiser's order.

    Raises:
        UsageError: another number of groups or parameters, or moments of another shape.
    """
    saved = [len(group["params"]) for group in state["param_groups"]]
    expected = [len(group) for group in groups]
    if saved != expected:
        raise UsageError(
            f"The saved optimiser does not fit: its groups hold {saved} parameters, and {expected} learn here. {TODO}"
        )
    parameters = [parameter for group in groups for parameter in group]
    # numbered through all groups, as torch's state_dict does
    for number, entry in state["state"].items():
        if not 0 <= int(number) < len(parameters):
            raise UsageError(
                f"The saved optimiser does not fit: it holds moments of parameter {number}, and there are "
                f"{len(parameters)}. {TODO}"
            )
        shape = _shape(parameters[int(number)])
        for name, value in entry.items():
            # step counts have no dimensions, and no shape to compare
            if isinstance(value, Tensor) and value.dim() and tuple(value.shape) != shape:
                raise UsageError(
                    f"The saved optimiser does not fit: {name} of parameter {number} has the shape "
                    f"{tuple(value.shape)}, and the parameter {shape}. {TODO}"
                )


def _shape(parameter: Any) -> tuple[int, ...]:
    """A parameter's whole shape, also where ZeRO stage 3 has left only a part of it here."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))
