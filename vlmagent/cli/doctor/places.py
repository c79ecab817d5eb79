"""Checks of the folders that the program writes to, and of SQLite, which runs are kept in."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from vlmagent import paths
from vlmagent.cli.doctor.findings import Finding, State

AREA = "Places"
LITTLE, TOO_LITTLE = 5 * 2**30, 100 * 2**20
"""Free bytes: a run of the built-in model takes some 100 MB, the checkpoints of a large one many GB."""
NETWORK = (
    "9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs",
    "smb2", "smb3", "smbfs", "webdav",
)  # fmt: skip
"""Types of file systems that lie on another machine."""
_NETWORK_FUSE = ("ceph", "glusterfs", "rclone", "s3fs", "smb", "sshfs", "webdav")
_JOURNAL = "--set store.journal_mode=delete"
_found = partial(Finding, AREA)


def check_runs_folder() -> Iterator[Finding]:
    """Where runs go, and whether their databases can live there."""
    yield from _folder("Runs folder", paths.runs_dir(), "VLMAGENT_RUNS", holds_databases=True)


def check_cache_folder() -> Iterator[Finding]:
    """Where supervised starts and other things are kept between runs."""
    yield from _folder("Cache folder", paths.cache_dir(), "VLMAGENT_CACHE", holds_databases=False)


def check_database() -> Iterator[Finding]:
    """Whether SQLite has what is needed, tried where the runs are."""
    from vlmagent.errors import StoreError
    from vlmagent.store.trial import sqlite_features, try_database

    features = sqlite_features()
    if not features.fts5:
        todo = "Use a Python whose SQLite has it, such as python.org's, uv's or conda's."
        text = f"{features.version} has no full-text search (FTS5), which every run database uses."
        yield _found("SQLite", State.PROBLEM, text, todo, essential=True)
        return
    text = f"{features.version} with full-text search"
    # the folder may not be there yet: the one above it lies on the same disk
    where = paths.existing(paths.runs_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=".vlmagent-doctor-", dir=where) as folder:
            try_database(Path(folder))
    except StoreError as error:
        text = f"{text}, but a run database cannot be made in {where}: {error}"
        yield _found("SQLite", State.PROBLEM, text, _choose("VLMAGENT_RUNS"), essential=True)
    except OSError:
        yield _found("SQLite", State.OK, text)  # that folder has a line of its own
    else:
        yield _found("SQLite", State.OK, f"{text}; a run database can be made")


def _folder(name: str, folder: Path, variable: str, holds_databases: bool) -> Iterator[Finding]:
    problem = _not_writable(folder)
    if problem is not None:
        text = f"{folder.absolute()} cannot be written: {problem}."
        yield _found(name, State.PROBLEM, text, _choose(variable), essential=True)
        return
    where = paths.existing(folder)
    free, kind = shutil.disk_usage(where).free, file_system(where)
    text = f"{folder.absolute()}{'' if folder.is_dir() else ' (made when needed)'}, {_size(free)} free"
    if free < TOO_LITTLE:
        yield _found(
            name,
            State.PROBLEM,
            text,
            f"Free some space, or choose another disk: export {variable}=FOLDER",
            essential=True,
        )
    elif holds_databases and is_network(kind):
        text = f"{text}, on a network disk ({kind}), where SQLite's WAL does not work."
        todo = f"vlmagent train TASK {_JOURNAL}, or a local disk: export {variable}=FOLDER"
        yield _found(name, State.PROBLEM, text, todo)
    elif str(folder).startswith("~"):
        # a shell expands ~ only unquoted and at the beginning; quoted it arrives here as a name
        todo = f'export {variable}="$HOME"{shlex.quote(str(folder)[1:])}'
        yield _found(name, State.NOTE, f"{text}: '~' is taken for a folder's name", todo)
    elif free < LITTLE:
        yield _found(
            name, State.NOTE, text, f"For large models choose another disk: export {variable}=FOLDER"
        )
    else:
        yield _found(name, State.OK, f"{text}{f', {kind}' if kind else ''}")


def _choose(variable: str) -> str:
    return f"Make it writable, or choose another place: export {variable}=FOLDER"


def _not_writable(folder: Path) -> str | None:
    """Why nothing can be written to a folder, or to the one that it would be made in; None when it can."""
    try:
        where = paths.existing(folder)
        if not where.is_dir():
            return f"{where} is {'a link to nothing' if where.is_symlink() else 'a file'}"
        with contextlib.suppress(FileNotFoundError):
            folder.lstat()  # a name may be too long
        # written and forced to disk: quotas and network disks may refuse no earlier
        with tempfile.TemporaryFile(dir=where) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return None


def file_system(folder: Path) -> str:
    """The type of the file system that a folder is on; "" when not known."""
    import psutil

    here = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    deepest = max(enumerate(here), key=lambda item: (len(item[1].mountpoint), item[0]), default=None)
    return deepest[1].fstype if deepest else ""


def is_network(kind: str) -> bool:
    """Whether a type of file system lies on another machine."""
    kind = kind.lower()
    return kind in NETWORK or (kind.startswith("fuse.") and any(word in kind for word in _NETWORK_FUSE))


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
