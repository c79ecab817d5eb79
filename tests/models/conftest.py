"""Tiny random checkpoints of every family, written once per test session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models import tiny_families
from vlmagent.models.hf import quiet


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny checkpoint."""
    root = tmp_path_factory.mktemp("families")
    quiet()

    def folder(family: str) -> Path:
        path = root / family
        return path if path.exists() else tiny_families.write(family, path)

    return folder
