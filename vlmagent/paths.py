"""Every path the program uses, in one place.

Knows names of folders and files only; it neither reads nor writes run data.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# names, here and below, are part of the format on disk: older runs have the same
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


@dataclass(frozen=True, slots=True)
class Run(os.PathLike[str]):
    """A run's folder, and where everything in it lies. Nothing is said of whether it is there."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The folder's name, by which people call the run."""
        return self.path.name

    @property
    def config_file(self) -> Path:
        """The resolved recipe; a session of play that belongs to no run has none."""
        return self.path / CONFIG

    @property
    def database(self) -> Path:
        """What happened: SQLite, written by one process."""
        return self.path / DATABASE

    @property
    def log(self) -> Path:
        """What the training process printed."""
        return self.path / LOG

    @property
    def daemon_file(self) -> Path:
        """Which process trains the run."""
        return self.path / DAEMON

    @property
    def lock_file(self) -> Path:
        """Held by the process that trains the run."""
        return self.path / LOCK

    @property
    def checkpoints(self) -> Path:
        """Folder of ``step-N`` checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def evaluations(self) -> Path:
        """Folder of evaluations, a database each."""
        return self.path / EVALUATIONS

    @property
    def plays(self) -> Path:
        """Folder of what was played beside the run, a database a session."""
        return self.path / PLAYS

    @property
    def ranks(self) -> Path:
        """Folder in which several processes that train the run leave their words."""
        return self.path / RANKS

    def exists(self) -> bool:
        """Whether the folder holds a run: a config or a database."""
        return self.config_file.is_file() or self.database.is_file()

    def resolve(self) -> Run:
        """The same run by its absolute path, links followed."""
        return Run(self.path.resolve())


def runs_dir() -> Path:
    """The folder that holds runs: ``$VLMAGENT_RUNS``, else ``runs/`` in the working directory."""
    return Path(os.environ.get("VLMAGENT_RUNS", "runs"))


def cache_dir() -> Path:
    """Where SFT checkpoints and other re-creatable things are kept between runs.

    ``$VLMAGENT_CACHE``, else ``vlmagent`` under ``$XDG_CACHE_HOME``, else ``~/.cache/vlmagent``.
    """
    return _own_folder("VLMAGENT_CACHE", "XDG_CACHE_HOME", ".cache")


def user_dir() -> Path:
    """Where people keep settings of their own, which nothing but they writes.

    ``$VLMAGENT_CONFIG``, else ``vlmagent`` under ``$XDG_CONFIG_HOME``, else ``~/.config/vlmagent``.
    """
    return _own_folder("VLMAGENT_CONFIG", "XDG_CONFIG_HOME", ".config")


def _own_folder(variable: str, base_variable: str, usual: str) -> Path:
    explicit = os.environ.get(variable)
    if explicit:
        return Path(explicit)
    base = os.environ.get(base_variable)
    return (Path(base) if base else Path.home() / usual) / "vlmagent"


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there: what a disk's room and its permissions are asked of."""
    path = folder.absolute()
    # lexists: a link to nothing is in the way all the same
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path.resolve() if path.exists() else path


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
    # those of a checkout are what somebody edits; an installed package has no pyproject.toml above it
    if checkout.is_dir() and (package.parent / "pyproject.toml").is_file():
        return checkout
    return package / "configs"
