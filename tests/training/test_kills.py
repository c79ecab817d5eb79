"""A resumed run equals an undisturbed one in weights, transitions and metrics, wherever it was killed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("forked_programs")
ROOT = Path(__file__).parents[2]
SAMPLE = ("21", "55", "101", "236")
"""Some writes: of the supervised start's progress, its result, the end of its progress; the database, checkpoints."""


def outcomes(folder: Path, *moments: str) -> list[dict[str, Any]]:
    """What ``kill_worker`` prints."""
    command = [sys.executable, "-m", "tests.training.kill_worker", str(folder), *moments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def check(found: list[dict[str, Any]]) -> None:
    """All came to what the first one did, which nobody killed."""
    undisturbed, *others = (
        {key: v for key, v in one.items() if key not in ("moment", "killed")} for one in found
    )
    assert undisturbed["leftovers"] == ""
    assert undisturbed["transitions"].startswith("96 ")
    different = [
        (one["moment"], rest) for one, rest in zip(found[1:], others, strict=True) if rest != undisturbed
    ]
    assert not different, (undisturbed, different)


def test_a_run_killed_at_a_write_ends_like_one_left_alone(tmp_path: Path):
    found = outcomes(tmp_path, *SAMPLE)
    assert [one["killed"] for one in found] == [False, *[True] * len(SAMPLE)]
    check(found)


@pytest.mark.slow
def test_a_run_killed_at_any_write_ends_like_one_left_alone(tmp_path: Path):
    found = outcomes(tmp_path, "all")
    assert len(found) > 100
    check(found)


@pytest.mark.slow
def test_a_run_killed_at_any_time_ends_like_one_left_alone(tmp_path: Path):
    moments = random.Random(0)
    found = outcomes(tmp_path, *(f"{moments.uniform(0.0, 6.0):.3f}" for _ in range(24)))
    assert sum(one["killed"] for one in found) > 3
    check(found)
