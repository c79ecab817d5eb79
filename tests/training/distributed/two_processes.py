"""A module run as two processes that know of each other, as launchers set them up."""

import os
import subprocess
import sys
from pathlib import Path

from vlmagent.runs.supervisor import free_port

ROOT = Path(__file__).parents[3]
PATIENCE = 400


def run_two(module: str, *arguments: str) -> list[str]:
    """Lines that the first one wrote; both must end well."""
    port = str(free_port())
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "DS_ACCELERATOR": "cpu"},
                **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"},
            },
        )
        for rank in range(2)
    ]
    said = [worker.communicate(timeout=PATIENCE)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    return said[0].splitlines()
