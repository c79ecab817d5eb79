"""Finds and creates the folders of runs. Knows nothing of processes and databases; never imports torch."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vlmagent import paths
from vlmagent.errors import UsageError, nearest
from vlmagent.files import new_folder
from vlmagent.paths import Run
from vlmagent.text import command

# building the config's models takes as long as all of Textual: whoever lists and replays runs needs none of them
if TYPE_CHECKING:
    from vlmagent.config import Config


def all_runs(root: Path | None = None) -> list[Run]:
    """All runs in a folder, newest first.

    Args:
        root: that folder; None for the runs folder.
    """
    try:
        # the link `latest` leads to a run that is listed under its own name, and would be here twice
        entries = [
            Run(entry)
            for entry in (root or paths.runs_dir()).iterdir()
            # folders that are being written, and those that `doctor` tries the disk with, begin with a dot
            if not entry.is_symlink() and not entry.name.startswith(".")
        ]
    except OSError:
        return []
    return sorted((run for run in entries if run.exists()), key=created_at, reverse=True)


def resolve_run(name: str | os.PathLike[str] | None = None) -> Run:
    """The run that a user named, by its absolute path.

    Args:
        name: a path, a run's name or the unique beginning of one; None, ``latest`` and ``runs/latest`` mean
            the newest.

    Raises:
        UsageError: there is no such run; says what is missing and which runs there are.
    """
    # a name that is exactly the link's means "the newest", also where the link is broken or was copied as a folder
    text = paths.LATEST if name is None else str(name)
    if text in (paths.LATEST, f"runs/{paths.LATEST}", str(paths.runs_dir() / paths.LATEST)):
        return _latest_run()
    # a path as it stands goes before a name under the runs folder; a file in a run's folder (RUN/run.db) means the run
    for folder in (Path(text), paths.runs_dir() / text):
        if Run(folder).exists():
            return Run(folder).resolve()
        if folder.is_file() and Run(folder.parent).exists():
            return Run(folder.parent).resolve()
    if Path(text).is_dir():
        raise UsageError(
            f"{text} is no run: it has neither {paths.CONFIG} nor {paths.DATABASE}. {_known_runs()}"
        )
    # last the beginning of a name: names begin with the time, so a day or a minute is often enough
    matches = [run for run in all_runs() if run.name.startswith(text)]
    if len(matches) == 1:
        return matches[0].resolve()
    if matches:
        names = ", ".join(run.name for run in matches[:5])
        raise UsageError(f"'{text}' is the beginning of several runs: {names}. Write more of the name.")
    close = nearest(text, [run.name for run in all_runs()])
    hint = f" Did you mean '{close}'?" if close else ""
    raise UsageError(f"There is no run '{text}'.{hint} {_known_runs()}")


def create_run(config: Config, run_dir: Path | None = None, *, suffix: str = "") -> Run:
    """Make the folder of a new run and write its config.

    Args:
        run_dir: where; None makes ``<time>-<task><suffix>`` under the runs folder.

    Raises:
        UsageError: ``run_dir`` holds something already, or the place is not writable.
    """
    from vlmagent.config import dump_config

    try:
        run = Run(_new_folder(config.task + suffix) if run_dir is None else _given_folder(run_dir))
        # "x", not "w": of two processes that were given one folder only one may begin, the other gets FileExistsError
        with run.config_file.open("x", encoding="utf-8") as file:
            file.write(dump_config(config))
    except OSError as error:
        if run_dir is not None and isinstance(error, FileExistsError):  # another process was faster
            raise _holds_a_run(run_dir) from None
        place = run_dir or paths.runs_dir()
        raise UsageError(
            f"The run folder {place} could not be written: {error.strerror or error}. "
            "Choose another place with --run-dir or $VLMAGENT_RUNS."
        ) from None
    return run.resolve()


def create_session(task: str) -> Run:
    """Make the folder ``<time>-<task>-play`` for a session of play that belongs to no run.

    It gets no config: it can be listed and replayed, not trained.

    Raises:
        UsageError: the place is not writable.
    """
    try:
        return Run(_new_folder(f"{task}-play")).resolve()
    except OSError as error:
        raise UsageError(
            f"No folder could be made in {paths.runs_dir()}: {error.strerror or error}. "
            "Set $VLMAGENT_RUNS to another place."
        ) from None


def _latest_run() -> Run:
    """The run that was started last, as the link says; the newest one where no link leads to a run.

    A folder of that name is what a copy made with links followed has: no new run changes it, so it says nothing.
    """
    link = Run(paths.runs_dir() / paths.LATEST)
    if link.path.is_symlink() and link.exists():
        return link.resolve()
    runs = all_runs()
    # in a runs folder that was copied, `latest` may be a folder: its file times say nothing of which run is newest
    runs = [run for run in runs if run.name != paths.LATEST] or runs
    # a session of play has no config and cannot go on: it is the answer only where there is no real run
    runs = [run for run in runs if run.config_file.is_file()] or runs
    if not runs:
        raise UsageError(
            f"There is no run under {paths.runs_dir()} yet. Start one: vlmagent train numberline"
        )
    return runs[0].resolve()


def _known_runs() -> str:
    names = [run.name for run in all_runs()[:5]]
    if not names:
        return f"There are no runs under {paths.runs_dir()}; start one: vlmagent train numberline"
    return f"Newest runs: {', '.join(names)}."


def created_at(run: Run) -> float:
    """Unix seconds at which a run got its first file; 0.0 for a folder without any."""
    # the config is written first and keeps its time when it is changed (`launch.update_config`); the database, which
    # changes all the time, only counts for sessions of play, which have no config
    for file in (run.config_file, run.database):
        with contextlib.suppress(OSError):
            return file.stat().st_mtime
    return 0.0


def _new_folder(task: str) -> Path:
    """Make ``<time>-<task>``; a number is added when another process was faster."""
    # tasks of other packages are called `module:EnvId`: whatever a shell or a file system may stumble over becomes a
    # dash
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", task).strip("-.") or "task"
    return new_folder(paths.runs_dir(), f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}")


def _given_folder(folder: Path) -> Path:
    if folder.is_dir() and Run(folder).exists():
        raise _holds_a_run(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--run-dir {folder} is not an empty folder. Choose a new one.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _holds_a_run(folder: Path) -> UsageError:
    return UsageError(
        f"--run-dir {folder} already holds a run. Continue it with "
        f"`{command('vlmagent', 'train', '--resume', folder)}`, or choose a new folder."
    )
