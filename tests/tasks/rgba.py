"""Somebody's task, registered as a package would, whose environment draws one channel too many."""

from __future__ import annotations

import sys
import types
from importlib import metadata
from typing import Any, ClassVar

import numpy as np
import pytest

from vlmagent.tasks import registry
from vlmagent.tasks.numberline import NumberLineTask

NAME = "opaque"
SENTENCE = (
    "The picture of 'opaque' cannot be used: it is RGBA (60 x 60 x 4). "
    "Leave the last channel out: image[..., :3]."
)


class RgbaEnv:
    """Another environment, with an opacity for each pixel."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def reset(self, *, seed: int) -> Any:
        _, info = self._env.reset(seed=seed)
        return np.zeros((60, 60, 4), dtype=np.uint8), info

    def close(self) -> None:
        self._env.close()


class RgbaTask(NumberLineTask):
    """NumberLine, but for its pictures."""

    name: ClassVar[str] = NAME
    env_id: ClassVar[str] = "opaque/Opaque-v0"

    def make_env(self) -> Any:
        """The environment that nothing can be learnt from."""
        return RgbaEnv(NumberLineTask().make_env())


def install(monkeypatch: pytest.MonkeyPatch, *others: metadata.EntryPoint) -> None:
    """Let the package seem installed, with its module to import, and no other package that brings tasks.

    Args:
        others: entry points of packages that are installed too.
    """
    module = types.ModuleType("opaque_tasks")
    module.RgbaTask = RgbaTask  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "opaque_tasks", module)
    points = [metadata.EntryPoint(NAME, "opaque_tasks:RgbaTask", registry.GROUP), *others]
    # torch looks for plug-ins of its own in the same way
    monkeypatch.setattr(metadata, "entry_points", lambda group: points if group == registry.GROUP else [])
