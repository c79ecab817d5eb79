"""What an update needs of an optimiser, wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor


class Engine(Protocol):
    """Accumulates gradients, clips them and steps; owns the optimiser's state and the learning rates.

    Over several processes every method is called by all of them, equally often and in the same order.
    """

    @property
    def learning_rate(self) -> float:
        """Current learning rate of the first parameter group."""

    @property
    def averages_each_pass(self) -> bool:
        """Whether going back waits for the other processes: all must then do it equally often, and one that runs out of
        memory in the middle leaves them waiting. Otherwise gradients stay here until ``step``."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of one micro-batch's loss, already scaled by its share of this process's minibatch.

        Except where ``averages_each_pass``, it may be called by each process as often as it likes, but at least once.
        """

    def step(self) -> float:
        """Clip to the maximum norm, step, clear the gradients.

        Returns:
            The gradients' norm before clipping; not finite means that nothing was changed.
        """

    def discard(self) -> None:
        """Clear the accumulated gradients without stepping, also those of a pass that was broken off."""

    def set_lr_factor(self, factor: float) -> None:
        """Every group's learning rate becomes ``factor`` times its initial one."""

    def freeze(self, group: int, frozen: bool) -> None:
        """Keep one parameter group from learning until it is released."""

    def restart(self, lr: float) -> None:
        """Forget the moments; every group begins anew at ``lr``."""

    def whole(self) -> AbstractContextManager[None]:
        """While open, every weight is complete here: for sampling and saving, not for gradients."""

    def state_dict(self) -> Mapping[str, Any]:
        """The optimiser's state, as torch optimisers give it; complete in the first process only."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave, whichever engine and number of processes it came from.

        Raises:
            UsageError: it is of other parameters.
        """

    def close(self) -> None:
        """Leave the network as it is without an engine: whole, in every process."""
