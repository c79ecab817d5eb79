"""Kills small trainings at chosen points and resumes them; started by ``test_kills`` in a process of its own.

A process of its own, because it forks: a fork of a process in which torch has already computed on several threads would
wait for threads that it does not have.

    python -m tests.training.kill_worker FOLDER [MOMENT ...]

MOMENT is the number of a write, seconds (with a dot), or ``all`` for every write that there is. Prints a line of JSON
for each: whether the run was killed there, and what it came to; the first line is the undisturbed run.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import torch

from tests.conftest import SMALL
from tests.killing import DISK, Watched, done, killed_after, killed_before
from vlmagent.config import Config
from vlmagent.paths import Run
from vlmagent.runs import folders
from vlmagent.runs.daemon import daemon_session
from vlmagent.store.connection import Database
from vlmagent.training.saved import find_checkpoint
from vlmagent.training.train import train

WRITES: Watched = (*DISK, (Database, ("write",)))
"""Every change of the disk, and every transaction of the database."""
RECIPE = {
    **SMALL,
    "sft": {**SMALL["sft"], "checkpoint_every": 2},
    "ppo": {**SMALL["ppo"], "critic_warmup": 1, "env_steps": 96, "kl_coef": 0.01},
}
TABLES = {
    "transitions": "SELECT id, episode_id, update_index, env_index, step, image_sha256, prompt, output, action, "
    "reward, terminated, truncated, value, bootstrap_value, logprob, token_ids, token_logprobs, advantage, return_ "
    "FROM transitions ORDER BY id",
    "episodes": "SELECT id, split, env_index, seed, length, episode_return, success, ended FROM episodes ORDER BY id",
    # timings differ from run to run, also of two that nobody disturbed
    "metrics": "SELECT update_index, env_steps, name, value FROM metrics WHERE name NOT LIKE 'time/%' "
    "AND name != 'rollout/env_steps_per_second' ORDER BY name, update_index",
}


def outcome(run: Run) -> dict[str, str]:
    """Digests of all that must be equal: weights and optimiser state to the bit, and the rows of each table."""
    folder = find_checkpoint(run)
    files = sorted(folder.glob("*.safetensors"))
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in files}
    connection = sqlite3.connect(f"file:{run.database}?mode=ro", uri=True)
    for name, sql in TABLES.items():
        rows = connection.execute(sql).fetchall()
        found[name] = f"{len(rows)} {hashlib.sha256(repr(rows).encode()).hexdigest()[:12]}"
    connection.close()
    found["leftovers"] = " ".join(
        sorted(p.name for p in run.checkpoints.iterdir() if p.name.startswith(".") or p.name == "sft")
    )
    return found


def trained(run: Run) -> None:
    """What the daemon does."""
    with daemon_session(run):
        assert train(run, lambda: False) == "done"


def tried(root: Path, moment: str | None) -> dict[str, Any]:
    """A run that was killed at a moment and then continued."""
    folder = root / (moment or "undisturbed")
    os.environ["VLMAGENT_CACHE"] = str(folder / "cache")
    os.environ["VLMAGENT_RUNS"] = str(folder)
    run = folders.create_run(Config.model_validate(RECIPE), folder / "run")
    killed = False
    if moment is not None and "." in moment:
        killed = killed_after(float(moment), lambda: trained(run))
    elif moment is not None:
        killed = killed_before(int(moment), lambda: trained(run), WRITES)
    if killed or moment is None:
        done(lambda: trained(run))
    return {"moment": moment, "killed": killed, **outcome(run)}


def main() -> None:
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    for moment in (None, *sys.argv[2:]):
        for one in map(str, itertools.count()) if moment == "all" else [moment]:
            found = tried(root, one)
            print(json.dumps(found), flush=True)
            shutil.rmtree(root / (one or "undisturbed"), ignore_errors=True)
            if moment == "all" and not found["killed"]:
                break  # the run has no more writes


if __name__ == "__main__":
    main()
