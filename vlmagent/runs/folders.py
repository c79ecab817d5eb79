"""Finds and creates the folders of runs. Knows nothing of processes and databases; never imports torch."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

from vlmagent import paths
from vlmagent.config import Config, dump_config
from vlmagent.errors import UsageError, nearest


def is_run(folder: Path) -> bool:
    """Whether ``folder`` holds a run: a config or a database."""
    return (folder / paths.CONFIG).is_file() or (folder / paths.DATABASE).is_file()


def run_folders() -> list[Path]:
    """All runs under the runs folder, newest first."""
    try:
        entries = [entry for entry in paths.runs_dir().iterdir() if not entry.is_symlink() and is_run(entry)]
    except OSError:
        return []
    return sorted(entries, key=created_at, reverse=True)


def resolve_run(name: str | Path | None = None) -> Path:
    """The folder of a run, absolute.

    Args:
        name: a path, a run's name or the unique beginning of one; None, ``latest`` and ``runs/latest`` mean
            the newest.

    Raises:
        UsageError: there is no such run; says what is missing and which runs there are.
    """
    text = paths.LATEST if name is None else str(name)
    if text in (paths.LATEST, f"runs/{paths.LATEST}", str(paths.runs_dir() / paths.LATEST)):
        return _latest_run()
    for folder in (Path(text), paths.runs_dir() / text):
        if is_run(folder):
            return folder.resolve()
        if folder.is_file() and is_run(folder.parent):
            return folder.parent.resolve()
    if Path(text).is_dir():
        raise UsageError(
            f"{text} is no run: it has neither {paths.CONFIG} nor {paths.DATABASE}. {_known_runs()}"
        )
    matches = [folder for folder in run_folders() if folder.name.startswith(text)]
    if len(matches) == 1:
        return matches[0].resolve()
    if matches:
        names = ", ".join(folder.name for folder in matches[:5])
        raise UsageError(f"'{text}' is the beginning of several runs: {names}. Write more of the name.")
    close = nearest(text, [folder.name for folder in run_folders()])
    hint = f" Did you mean '{close}'?" if close else ""
    raise UsageError(f"There is no run '{text}'.{hint} {_known_runs()}")


def create_run(config: Config, run_dir: Path | None = None, *, suffix: str = "") -> Path:
    """Make the folder of a new run and write its config.

    Args:
        run_dir: where; None makes ``<time>-<task><suffix>`` under the runs folder.

    Raises:
        UsageError: ``run_dir`` holds something already, or the place is not writable.
    """
    try:
        folder = _new_folder(config.task + suffix) if run_dir is None else _given_folder(run_dir)
        with (folder / paths.CONFIG).open("x", encoding="utf-8") as file:
            file.write(dump_config(config))
    except FileExistsError:
        raise _holds_a_run(run_dir or paths.runs_dir()) from None
    except OSError as error:
        place = run_dir or paths.runs_dir()
        raise UsageError(
            f"The run folder {place} could not be written: {error.strerror or error}. "
            "Choose another place with --run-dir or $VLMAGENT_RUNS."
        ) from None
    return folder.resolve()


def create_session(task: str) -> Path:
    """Make the folder ``<time>-<task>-play`` for a session of play that belongs to no run.

    It gets no config: it can be listed and replayed, not trained.

    Raises:
        UsageError: the place is not writable.
    """
    try:
        return _new_folder(f"{task}-play").resolve()
    except OSError as error:
        raise UsageError(
            f"No folder could be made in {paths.runs_dir()}: {error.strerror or error}. "
            "Set $VLMAGENT_RUNS to another place."
        ) from None


def _latest_run() -> Path:
    link = paths.runs_dir() / paths.LATEST
    if is_run(link):
        return link.resolve()
    folders = run_folders()
    folders = [folder for folder in folders if (folder / paths.CONFIG).is_file()] or folders
    if not folders:
        raise UsageError(
            f"There is no run under {paths.runs_dir()} yet. Start one: vlmagent train numberline"
        )
    return folders[0].resolve()


def _known_runs() -> str:
    names = [folder.name for folder in run_folders()[:5]]
    if not names:
        return f"There are no runs under {paths.runs_dir()}; start one: vlmagent train numberline"
    return f"Newest runs: {', '.join(names)}."


def created_at(folder: Path) -> float:
    """Unix seconds at which a run's folder got its first file; 0.0 for a folder without any."""
    for name in (paths.CONFIG, paths.DATABASE):
        with contextlib.suppress(OSError):
            return (folder / name).stat().st_mtime
    return 0.0


def _new_folder(task: str) -> Path:
    """Make ``<time>-<task>``; a number is added when another process was faster."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", task).strip("-.") or "task"
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}"
    paths.runs_dir().mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = paths.runs_dir() / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise UsageError(
        f"{paths.runs_dir()} already holds a thousand runs named {name}. Choose another --run-dir."
    )


def _given_folder(folder: Path) -> Path:
    if folder.is_dir() and is_run(folder):
        raise _holds_a_run(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--run-dir {folder} is not an empty folder. Choose a new one.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _holds_a_run(folder: Path) -> UsageError:
    return UsageError(
        f"--run-dir {folder} already holds a run. Continue it with `vlmagent train --resume {folder}`, "
        "or choose a new folder."
    )


# The daemon, from outside


# Looking at runs


# Copying
