"""Evaluates once a line is read, at a moment that all processes share; started by ``test_names``.

python -m tests.evaluation.names_process FOLDER
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from vlmagent.config import Config
from vlmagent.evaluation.evaluate import EvaluationPlan, evaluate
from vlmagent.evaluation.systems import baseline_system
from vlmagent.tasks.registry import task_from_config


def main() -> None:
    time.strftime = lambda *_: "20260101-000000"
    task = task_from_config(Config.model_validate({"task": "numberline"}))
    plan = EvaluationPlan(
        Config.model_validate({"task": "numberline"}),
        task,
        baseline_system("random", task),
        episodes=3,
        seed=0,
        folder=Path(sys.argv[1]),
    )
    print("ready", flush=True)
    sys.stdin.readline()
    print(evaluate(plan).result.database)


if __name__ == "__main__":
    main()
