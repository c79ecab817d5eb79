"""The end of a log file that grows, read block by block from its end however large it is.

Deliberately knows no widget. Files are read: call it on a worker's thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vlmagent.paths import Run
from vlmagent.tui.text import safe

# bytes read at once: a few thousand lines, some hundredths of a second
BLOCK = 256 * 1024
# characters of a line that are kept: more than anybody reads
LINE_CHARACTERS = 2000
# bytes before the place read last, by which it is known again
_MARK = 64
# colours and cursor movements, which libraries write into logs for terminals
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


@dataclass(frozen=True, slots=True)
class LogNews:
    """What a look at a file brought.

    Attributes:
        lines: whole lines, oldest first.
        partial: the line that is still being written; "" without one.
        anew: the lines are the end of the file and replace all that was shown.
        problem: why the file cannot be read, one sentence; "" when it can.
    """

    lines: Sequence[str] = ()
    partial: str = ""
    anew: bool = False
    problem: str = ""


class LogTail:
    """Follows one file; the first look reads its last ``BLOCK``.

    Attributes:
        start: bytes of the file before the first line that was read; 0 at the beginning of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start = 0
        self._identity: tuple[int, int] | None = None
        # where the next look begins, and the bytes before it
        self._place = 0
        self._mark = b""
        self._partial = b""

    def look(self) -> LogNews:
        """What was written since the last look. Never raises."""
        try:
            with self.path.open("rb") as file:
                return self._look(file)
        except OSError as error:
            self._identity = None
            words = (
                "is not there"
                if isinstance(error, FileNotFoundError)
                else f"cannot be read: {error.strerror}"
            )
            return LogNews(anew=True, problem=f"{self.path.name} {words}.")

    def earlier(self) -> list[str]:
        """The lines before the first one, as many as a ``BLOCK`` holds; none at the beginning. Never raises."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                # replaced meanwhile: the next look begins anew
                if (status.st_dev, status.st_ino) != self._identity or not self.start:
                    return []
                begin = max(0, self.start - BLOCK)
                data = _read(file, begin, self.start)
        except OSError:
            return []
        if not data:  # emptied meanwhile
            return []
        data, self.start = _from_line(data, begin)
        # without an end of a line there: a part of one that is longer than a block
        return [_shown(line) for line in data.removesuffix(b"\n").split(b"\n")]

    def _look(self, file: BinaryIO) -> LogNews:
        status = os.fstat(file.fileno())
        size, identity = status.st_size, (status.st_dev, status.st_ino)
        known = identity == self._identity and size >= self._place and self._is_same(file)
        # more than a block came at once: what lies between would hold up everything
        anew = not known or size - self._place > BLOCK
        if anew:
            self._identity, self._place, self._partial = identity, max(0, size - BLOCK), b""
        data = _read(file, self._place, size)
        begin, self._place = self._place, self._place + len(data)
        if anew:
            data, self.start = _from_line(data, begin)
        self._mark = (self._mark + data)[-_MARK:] if not anew else data[-_MARK:]
        *lines, self._partial = (self._partial + data).split(b"\n")
        # a line without an end must not grow for ever
        self._partial = self._partial[-BLOCK:]
        return LogNews([_shown(line) for line in lines], _shown(self._partial), anew)

    def _is_same(self, file: BinaryIO) -> bool:
        """Whether what was read last still stands there: a file emptied and written anew may have grown past it."""
        return _read(file, self._place - len(self._mark), self._place) == self._mark


def _read(file: BinaryIO, begin: int, end: int) -> bytes:
    file.seek(begin)
    return file.read(end - begin)


def _from_line(data: bytes, begin: int) -> tuple[bytes, int]:
    """What stands from the first beginning of a line on, and where in the file that is."""
    # the beginning of a file is one; the inside of a line that is longer than the block is all there is to show
    cut = data.find(b"\n", 0, -1) + 1 if begin else 0
    return data[cut:], begin + cut


def _shown(line: bytes) -> str:
    """A line as a terminal would show it, without anything that a terminal obeys."""
    text = line.removesuffix(b"\r").decode("utf-8", "replace")
    # a bar of progress writes over itself
    text = _ESCAPES.sub("", text.rsplit("\r", 1)[-1]).expandtabs(4)
    return safe(text, LINE_CHARACTERS, lines=False)


def log_files(run: Run) -> list[Path]:
    """The run's own log, then those of its ranks where there are several, by their numbers. Never raises."""
    try:
        found = [path for path in run.ranks.glob("rank-*.txt") if path.stem.removeprefix("rank-").isdigit()]
    except OSError:
        found = []
    ranks = sorted(found, key=lambda path: int(path.stem.removeprefix("rank-")))
    return [run.log, *(ranks if len(ranks) > 1 else [])]
