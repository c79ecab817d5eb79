"""``subprocess.Popen`` for programs of this repository: forked by ``server`` where that comes to the same.

    with forking():
        subprocess.run([sys.executable, "-m", "vlmagent", ...])

While it is installed, everything that starts ``python -m vlmagent`` gets a forked process, the program itself included
(its daemons, its ranks). Everything else, and every system but Linux, goes the ordinary way.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.forking import wire

ROOT = Path(__file__).parents[2]
PROGRAMS = ("vlmagent", "tests")
"""The first part of the names of modules that can be forked."""
READ_AT_START = (
    "PYTHON",
    "LC_",
    "LANG",
    "OMP_NUM_THREADS",
    "HF_",
    "TRANSFORMERS_",
    "TEXTUAL",
    "CUDA_",
    "LD_",
)
"""Beginnings of variables that count when Python or a library is loaded."""
READ_LATER = ("PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONDONTWRITEBYTECODE")
"""But these do not, or ``server`` repeats what they do."""
PRESET = {} if Path("/dev/nvidia0").exists() else {"DS_ACCELERATOR": "cpu"}
"""What DeepSpeed finds by itself, where there is nothing else."""
ROOM = 32_000
"""Bytes for the command line and for the environment of a program."""
_PR_SET_CHILD_SUBREAPER = 36
ORIGINAL = subprocess.Popen


class Server:
    """The other end of ``server``, or of a program's helper."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = threading.Lock()  # the socket's, and that of being a reaper
        self.environment = dict(os.environ)
        """What libraries saw when they were loaded; in a program what they would have seen, which is the same."""

    def start(self, request: wire.Request, files: list[int]) -> int:
        """The pid of a new child of this process.

        Raises:
            OSError, EOFError: the server is gone.
        """
        with self._lock, adopting():
            wire.send(self._control, request, files)
            return wire.receive_number(self._control)


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Processes below this one whose parent ends become its children, not init's."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no reaper")
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


_server: Server | None = None


class ForkedPopen(ORIGINAL):  # type: ignore[type-arg]
    """Waiting, pipes, signals and exit codes are those of ``subprocess``: only the start differs."""

    def _execute_child(self, *arguments: Any) -> None:
        names = ORIGINAL._execute_child.__code__.co_varnames[1 : 1 + len(arguments)]
        given = dict(zip(names, arguments, strict=True))
        environment = dict(os.environ if given["env"] is None else given["env"])
        if _server is None or not forkable(given, environment, _server.environment):
            super()._execute_child(*arguments)
            return
        standard = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        kept = [int(number) for number in given["pass_fds"]]
        request = wire.Request(
            [str(one) for one in given["args"][2:]],
            environment,
            os.path.abspath(given["cwd"] or "."),  # noqa: PTH100  (resolves nothing)
            wire.umask(),
            [0, 1, 2, *kept],
            given["start_new_session"],
        )
        files = [number if one == -1 else one for number, one in enumerate(standard)]
        try:
            self.pid = _server.start(request, [*files, *kept])
        except (OSError, EOFError):  # the server is gone: slower, but no other result
            super()._execute_child(*arguments)
            return
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[name] for name in ends))


def forkable(given: dict[str, Any], environment: dict[str, str], loaded: dict[str, str]) -> bool:
    """Whether a forked process would be the one that is asked for."""
    command = given["args"]
    if not isinstance(command, Sequence) or isinstance(command, str | bytes) or len(command) < 3:
        return False
    if command[0] != sys.executable or command[1] != "-m" or str(command[2]).split(".")[0] not in PROGRAMS:
        return False
    unusual = ("executable", "preexec_fn", "shell", "startupinfo")
    ids = [given.get(name) for name in ("gid", "gids", "uid", "umask", "process_group")]
    if any(given[name] for name in unusual) or not given["close_fds"] or set(ids) - {None, -1}:
        return False
    if not Path(given["cwd"] or ".").is_dir() or len(given["pass_fds"]) > wire.MOST_FILES - 3:
        return False
    accelerator = environment.get("DS_ACCELERATOR", "cpu")
    return accelerator == "cpu" and read_at_start(environment) == read_at_start(loaded)


def read_at_start(environment: dict[str, str]) -> dict[str, str]:
    """Of an environment, what counts when Python or a library is loaded."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_AT_START) and name not in READ_LATER
    }


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[Server, Path]]:
    """A server of this process, and the path of the socket that ``client`` needs, which is in ``folder``.

    Raises:
        RuntimeError: it could not be started.
    """
    listening, log = folder / "socket", folder / "log"
    ours, theirs = socket.socketpair()
    with ours, socket.socket(socket.AF_UNIX) as listener, log.open("wb") as output:
        listener.bind(str(listening))
        listener.listen()
        numbers = (theirs.fileno(), listener.fileno())
        # waiting threads do not spin in the program either; it sees to that before it loads torch
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **PRESET, "FORKING_ROOM": "x" * ROOM}
        command = [sys.executable, "-m", "tests.forking.server", *map(str, numbers), "x" * ROOM]
        server = Server(ours)
        process = ORIGINAL(
            command,
            cwd=ROOT,
            env=environment,
            pass_fds=numbers,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        theirs.close()
        try:
            wire.receive_number(ours)
        except EOFError:
            process.wait()
            raise RuntimeError(f"The fork server did not start:\n{log.read_text()}") from None
        yield server, listening
    process.wait()


def install(server: Server | None) -> None:
    """Let ``server`` fork whatever this process starts from here on; None: no longer."""
    global _server
    _server = server
    subprocess.Popen = ORIGINAL if server is None else ForkedPopen  # type: ignore[misc]
