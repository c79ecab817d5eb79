"""Writes files and folders whole or not at all: nobody ever sees half of one, whenever the writing process is killed.

A file is written under a temporary name beside its place, forced to disk and renamed, which is one operation. Replacing
a folder takes two renames, because a folder can only be renamed to a name that is free; ``recover`` finishes or takes
back what was interrupted between them. Knows nothing of what is written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

BEGUN, READY, OLD, GONE = ".tmp-", ".new-", ".old-", ".gone-"
"""Beginnings of temporary names: being written; whole, but not yet in its place; being replaced; being removed."""
ABANDONED_SECONDS = 86_400.0
"""After so long without a write nobody is writing any more, whatever became of the clock in between."""
MOST_OF_A_NAME = 10_000
"""How many files of one name are numbered before something must be wrong."""


def _begun(path: Path) -> Path:
    """A name beside ``path`` that no other process or thread writes under."""
    return path.with_name(f"{BEGUN}{path.name}-{os.getpid()}-{threading.get_ident()}")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write into; it takes the place of ``path`` once all of it is on disk. Folders are made.

    Raises:
        OSError: it could not be written; what was there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # beside its place: a rename is one operation only within one file system
    temporary = _begun(path)
    try:
        with temporary.open("wb") as file:
            yield file
            # what Python still holds must be with the kernel before the kernel can be told to write it
            file.flush()
            # without it a power cut after the rename may leave an empty file under the final name
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        # gone already after the rename; a failure to clear up must not hide the error on its way
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """``whole_file`` for a text, in UTF-8."""
    with whole_file(path) as file:
        file.write(text.encode())


@contextmanager
def whole_folder(final: Path, *, replace: bool = False) -> Iterator[Path]:
    """A new folder to write into; it becomes ``final`` once everything in it is on disk. Parents are made.

    Args:
        replace: whether a folder ``final`` that is there is replaced. If not, only an empty one is.

    Raises:
        OSError: it could not be written, or ``final`` was there; what was there before is untouched.
    """
    temporary = _begun(final)
    # left by a process of the same id that was killed
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        # every file for its content, every folder for the names in it
        for file in (*temporary.rglob("*"), temporary):
            sync(file)
        if replace:
            _replace(temporary, final)
        else:
            temporary.rename(final)
        # the rename itself stands in the parent folder
        sync(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(whole: Path, final: Path) -> None:
    """Put a whole folder in the place of another. Each line leaves a state that ``recover`` understands."""
    ready, old = final.with_name(READY + final.name), final.with_name(OLD + final.name)
    # an earlier replacement may have been interrupted: its temporary names would be in the way
    recover(final)
    whole.rename(ready)
    # from here to the last rename nothing stands under the final name; `ready` tells that the new one is whole
    if final.exists():
        final.rename(old)
    ready.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def recover(final: Path) -> None:
    """Bring a folder back that a killed process was replacing: the new one where it was whole, else the old one."""
    ready, old = final.with_name(READY + final.name), final.with_name(OLD + final.name)
    if ready.is_dir():  # it was whole before it got this name
        # the process was killed before it moved the old one away
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
        ready.rename(final)
    elif old.is_dir() and not final.exists():
        old.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder that readers may be looking for: from one moment to the next there is nothing under its name."""
    # a rename first: removing a tree file by file would show readers half of it
    doomed = folder.with_name(GONE + folder.name)
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def tidy(parent: Path) -> None:
    """Finish what killed processes left below ``parent``: folders in the middle of a replacement come back, what was
    only begun or being removed goes. Only for a process that alone writes there.
    """
    # `recover` is harmless where one name has both states
    for state in (READY, OLD):
        for place in parent.glob(f"{state}*"):
            recover(parent / place.name.removeprefix(state))
    for place in (*parent.glob(f"{BEGUN}*"), *parent.glob(f"{GONE}*")):
        _remove(place)


def remove_abandoned(parent: Path) -> None:
    """``tidy`` where several processes write: only what was begun long ago goes; the rest may be being written."""
    for place in (*parent.glob(f"{BEGUN}*"), *parent.glob(f"{GONE}*")):
        with contextlib.suppress(OSError):  # another process may be removing it, too
            # the newest of all files in it: a folder's own time stands still while a large file in it is written
            newest = max(path.stat().st_mtime for path in (place, *place.rglob("*")))
            if time.time() - newest > ABANDONED_SECONDS:
                _remove(place)


def _remove(place: Path) -> None:
    # a link to a folder is removed, never what it leads to
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


def point_link(link: Path, target: str) -> None:
    """Make ``link`` a symbolic link to ``target``, in one operation.

    Raises:
        OSError: among others, where the file system has no links.
    """
    # made aside and renamed over: removing the old link first would leave a moment without any
    temporary = _begun(link)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    try:
        temporary.replace(link)
    finally:
        temporary.unlink(missing_ok=True)


def new_file(folder: Path, stem: str, suffix: str) -> Path:
    """Make an empty file ``<stem><suffix>`` that was not there; ``<stem>-2<suffix>`` and so on where it was.

    For names that are made from the time: of several processes that ask in the same second each gets a file of its
    own, since the file is made by the same call that finds its name free. Folders are made.

    Raises:
        OSError: the folder cannot be written, or holds thousands of such files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # the first free name is made, not looked for: between looking and making another process could take it
    for path in _free_names(folder, stem, suffix):
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
            return path
    raise FileExistsError(errno.EEXIST, f"{folder} already holds {MOST_OF_A_NAME} files of the name", stem)


def new_folder(parent: Path, name: str) -> Path:
    """``new_file`` for a folder."""
    parent.mkdir(parents=True, exist_ok=True)
    for path in _free_names(parent, name, ""):
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise FileExistsError(errno.EEXIST, f"{parent} already holds {MOST_OF_A_NAME} folders of the name", name)


def _free_names(folder: Path, stem: str, suffix: str) -> Iterator[Path]:
    for number in range(1, MOST_OF_A_NAME + 1):
        yield folder / (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}")


def remedy(error: OSError | Exception) -> str:
    """What to do about a file that could not be written: by the real cause, not by the likeliest."""
    # from most to least particular, by errno and not by words, which differ between systems
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space"
    if code in (errno.EACCES, errno.EPERM):
        return "Make the folder writable for this user"
    if code == errno.EROFS:
        return "The file system is read-only: choose another place"
    if code in (errno.ENOTSUP, errno.EOPNOTSUPP):
        return "The file system cannot do this: choose another place"
    return "Check that the folder is still there, is writable and has space"


def sync(path: Path) -> None:
    """Force a file or folder to disk."""
    # read-only suffices, for fsync and for folders, which cannot be opened for writing
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
