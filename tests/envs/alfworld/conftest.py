"""A small generated household, and one environment with one process for all tests that only play."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vlmagent_envs.alfworld.available import missing_packages
from vlmagent_envs.alfworld.env import AlfworldEnv

COUNTS = {"train": 2, "valid_seen": 1, "valid_unseen": 1}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the household is kept; everything that needs it needs ALFWorld."""
    if missing_packages() is not None:
        pytest.skip("needs the extra: pip install 'vlmagent[alfworld]'")
    return tmp_path_factory.mktemp("alfworld")


@pytest.fixture(scope="session")
def shared_env(cache: Path) -> Iterator[AlfworldEnv]:
    env = AlfworldEnv(cache=cache, games_per_type=COUNTS)
    yield env
    env.close()


@pytest.fixture
def env(shared_env: AlfworldEnv) -> Iterator[AlfworldEnv]:
    """The environment, its settings as they were made."""
    kept = dict(vars(shared_env))
    yield shared_env
    for name in ("split", "eval_split", "task_types", "rules", "labels", "expert", "max_steps", "root"):
        setattr(shared_env, name, kept[name])
