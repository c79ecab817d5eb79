"""Every path the program uses, in one place.

Knows names of folders and files only; it neither reads nor writes run data.
"""

from __future__ import annotations

import os
from pathlib import Path

LATEST = "latest"
DATABASE = "run.db"
CONFIG = "config.yaml"
DAEMON = "daemon.json"
LOG = "log.txt"
LOCK = ".lock"
CHECKPOINTS = "checkpoints"
EVALUATIONS = "evaluations"
BASELINES = "baselines.yaml"
PLAYS = "plays"
TRAINER = "trainer.json"
RANKS = "ranks"
STOP = "stop"


def runs_dir() -> Path:
    """The folder that holds runs: ``$VLMAGENT_RUNS``, else ``runs/`` in the working directory."""
    return Path(os.environ.get("VLMAGENT_RUNS", "runs"))


def cache_dir() -> Path:
    """Where SFT checkpoints and other re-creatable things are kept between runs.

    ``$VLMAGENT_CACHE``, else ``vlmagent`` under ``$XDG_CACHE_HOME``, else ``~/.cache/vlmagent``.
    """
    explicit = os.environ.get("VLMAGENT_CACHE")
    if explicit:
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vlmagent"


def rank_log(rank: int) -> str:
    """Where one of several processes writes, under ``RANKS``."""
    return f"rank-{rank}.txt"


def rank_end(rank: int) -> str:
    """How one of several processes ended, under ``RANKS``."""
    return f"rank-{rank}.json"


def config_dir() -> Path:
    """The folder of shipped recipes: ``configs/`` of a checkout, else the copy inside the installed package."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "configs"
    if checkout.is_dir() and (package.parent / "pyproject.toml").is_file():
        return checkout
    return package / "configs"
