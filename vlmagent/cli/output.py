"""Standard output and standard error, made so that no character and no closed pipe ends a command.

Called by the one entry point, before anything is printed; consoles that are made later write through the same streams.
JSON needs nothing of this: it is written in ASCII.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from pathlib import Path
from typing import TextIO

from vlmagent.text import plain_characters

STAND_IN = "vlmagent.stand-in"
"""Name of the codec error handler that writes ``text.STAND_INS``."""

# the errno values of a reader that has gone, a full disk or quota, a dead device, a closed descriptor, a file that is
# as large as it may be
_BROKEN = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT, errno.EFBIG)


class OutputError(Exception):
    """Standard output takes nothing more: the reader has gone, or the disk behind it is full."""


def prepare_output() -> None:
    """Let both streams write any text in whatever encoding they have; give those that are closed a place to write to.

    Where the caller closed a stream, the next file that is opened, such as a run's database, would get its number, and
    whatever a library prints would go into that file.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    codecs.register_error(STAND_IN, _stand_in)
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # anything else is a test's, or an embedding program's
            stream.reconfigure(errors=STAND_IN)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """What an encoding lacks, in characters that every encoding has."""
    if not isinstance(error, UnicodeEncodeError):
        # the handler is also asked when bytes are decoded: for that there is no stand-in
        raise error
    return plain_characters(error.object[error.start : error.end]), error.end


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def flush_output() -> None:
    """Write what is left.

    Raises:
        OutputError: standard output is broken.
    """
    try:
        # ValueError: the stream was closed
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        raise broken_output(error) from None


def is_of_output(error: OSError) -> bool:
    """Whether an error came from writing to a stream: errors of files that the program opens name them."""
    return error.filename is None and error.errno in _BROKEN


def broken_output(error: Exception) -> OutputError:
    """The error to end with; what is still to be written goes nowhere, or the interpreter would complain of it."""
    # the interpreter flushes standard output once more at its end and would print a second error
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return OutputError(getattr(error, "strerror", None) or str(error))
