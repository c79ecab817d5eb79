"""Run as a process: tries the built-in model on NumberLine and prints, as one line of JSON, how that went.

Not imported by anything: torch may crash or hang here without harm.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

TASK = "numberline"
TEXTS = 200
"""Texts that its tokenizer is trained on: a tenth of a recipe's, for a tenth of the time."""


def main() -> None:
    """Print ``problem``, a sentence or null, and where there is none the ``bytes`` of a checkpoint and ``seconds``."""
    from vlmagent.errors import VlmAgentError

    try:
        told = _try()
    except VlmAgentError as error:
        # other errors end the process with a traceback, whose last line is shown
        told = {"problem": str(error)}
    print(json.dumps(told))


def _try() -> dict[str, Any]:
    from vlmagent.models.hf import build_policy
    from vlmagent.paths import Run
    from vlmagent.tasks.recipes import recipe_of
    from vlmagent.tasks.registry import task_from_config
    from vlmagent.training.preflight import check_network
    from vlmagent.training.sft.samples import corpus

    config = recipe_of(TASK, {})
    task = task_from_config(config)
    policy = build_policy(config.model, corpus(task, False, TEXTS), config.seed)
    # after building: only what every run does in its look ahead is timed
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vlmagent-doctor-") as folder:
        size = check_network(config, task, policy, Run(Path(folder)))
    return {"problem": None, "bytes": size, "seconds": time.monotonic() - started}


if __name__ == "__main__":
    main()
