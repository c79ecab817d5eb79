"""Fixtures that many tests share: a tiny random policy, a config that trains in seconds, a cache of its own."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forking import popen
from vlmagent.config import Config

# Before torch is imported, and for every process that a test starts: tests run side by side, one core each, and threads
# that wait for each other on busy cores cost several times what they save.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SMALL = {
    "task": "numberline",
    "model": {
        "tiny": {
            "vision_width": 32,
            "vision_layers": 1,
            "width": 32,
            "layers": 1,
            "heads": 2,
            "vision_heads": 2,
        },
        "value_head": [16],
        "threads": 1,
    },
    "sft": {"samples": 64, "batch_size": 16, "lr": 2e-3},
    "rollout": {"num_envs": 4, "max_new_tokens": 24, "temperature": 0.7},
    "ppo": {
        "env_steps": 96,
        "steps_per_update": 32,
        "minibatch_size": 16,
        "micro_batch_size": 8,
        "epochs": 2,
    },
    "checkpoint": {"keep_last": 2, "keep_every": 0},
    "eval": {"episodes": 8, "num_envs": 4},
}
"""A whole run of it takes about two seconds."""


def pytest_collection_finish() -> None:
    """Let the garbage collector look at what tests make, not again and again at all that they import.

    With torch and transformers that is millions of objects: looking at them took a fifth of the time of a test that
    drives the dashboard.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs, caches and settings of a test go to its own temporary folder."""
    monkeypatch.setenv("VLMAGENT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("VLMAGENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VLMAGENT_CONFIG", str(tmp_path / "config"))


@pytest.fixture
def small_config() -> Config:
    """A NumberLine recipe that trains in seconds."""
    return Config.model_validate(SMALL)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[tuple[popen.Server, Path] | None]:
    """One for all tests of this worker, started by the first that wants it; None where a system has no such thing."""
    if sys.platform != "linux":
        yield None
        return
    # not a folder of pytest's: the path of a socket has to be short
    with tempfile.TemporaryDirectory(prefix="fork") as folder, popen.serving(Path(folder)) as server:
        yield server


@pytest.fixture(scope="module")
def forked_programs(fork_server: tuple[popen.Server, Path] | None) -> Iterator[None]:
    """Programs of this repository that a module's tests start do not import torch anew (see ``tests/forking``)."""
    popen.install(None if fork_server is None else fork_server[0])
    yield
    popen.install(None)


@pytest.fixture
def real_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a module with ``forked_programs``: the test whose programs start as those of users do."""
    monkeypatch.setattr("subprocess.Popen", popen.ORIGINAL)
