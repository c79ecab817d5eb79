"""The measurement of a full-size iteration, at a size that a CPU does in seconds."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_iteration.py"


def test_it_runs_on_a_cpu():
    command = [sys.executable, str(SCRIPT), "--size", "tiny", "--transitions", "8", "--envs", "4"]
    result = subprocess.run(
        [*command, "--output-tokens", "5", "--epochs", "1", "--micro-tokens", "400"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = json.loads(result.stdout)
    assert found["transitions"] == 8
    assert found["tokens"]["picture"] == 16
    assert found["activation_checkpointing"] is True
    assert found["update_transitions_per_second"] > 0
    assert found["times_the_papers_speed"] > 0
