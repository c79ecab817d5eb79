"""The shipped recipes learn. Minutes each, hence marked slow: `make slow`."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11])
def test_numberline_from_nothing(seed: int):
    """From a half-competent SFT start to at least 198 of 200 evaluation episodes within 15,000 env steps."""

    def vlmagent(*arguments: str) -> str:
        command = [sys.executable, "-m", "vlmagent", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=3000).stdout

    vlmagent("train", "numberline", "--set", f"seed={seed}")
    document = json.loads(
        vlmagent("eval", "numberline", "--checkpoint", "start", "--checkpoint", "latest", "--json")
    )
    start, end = document["results"]
    assert 0.20 <= start["success"] <= 0.65
    assert end["success"] >= 0.99
    assert end["env_steps"] <= 15_000
    assert end["episodes"] == 200
