"""Which device a policy runs on."""

from __future__ import annotations

import torch

from vlmagent.errors import RunFailedError


def choose_device(name: str) -> torch.device:
    """The device that ``model.device`` names.

    Raises:
        RunFailedError: ``cuda`` without a GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise RunFailedError("model.device = cuda, but torch sees no GPU. Use model.device=auto or cpu.")
    return torch.device(name)
