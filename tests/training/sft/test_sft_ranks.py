"""Supervised fine-tuning shared by two processes over gloo: equal to one, whatever the ZeRO stage."""

import importlib.util
from pathlib import Path

import pytest

from tests.training.distributed.two_processes import run_two

pytestmark = pytest.mark.usefixtures("forked_programs")


@pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="the extra 'deepspeed' is not installed"
)
def test_two_processes_equal_one(tmp_path: Path):
    """Straight through, continued from one process and by one, and out of memory."""
    said = run_two("tests.training.sft.sft_worker", str(tmp_path), "0", "1", "2", "3")
    equal = [line for line in said if line.startswith("equal")]
    assert equal == ["equal 0", "equal 1", "equal 2", "equal 3"]
