"""Forks programs from a process that has imported everything and computed nothing.

    python -m tests.forking.server CONTROL LISTENER PADDING

CONTROL is the descriptor of a socket to the process that starts programs, LISTENER that of a listening socket for
``client``. PADDING makes room for the command line of the programs.

Each program is a process like any other: its own environment, folder, files, session, signal handlers, command line and
exit code. It is the child of who asked for it (see ``popen``). What it starts itself, it has forked by a helper of its
own: a copy of this process from before the program began, since a process that has computed must not be forked.

What a fork cannot repeat is the start of an interpreter: variables that are read when Python, or a library, is loaded.
``popen.forkable`` leaves programs to the ordinary way whose variables differ there.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import importlib
import importlib.util
import io
import os
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

from tests.forking import popen, wire

MODULES = (
    *("vlmagent.cli.main", "vlmagent.training.train", "vlmagent.training.distributed.shared_store"),
    *(
        "vlmagent.runs.merge",
        "vlmagent.runs.rank_process",
        "vlmagent.runs.supervisor",
        "vlmagent.play.server",
    ),
    *("vlmagent.evaluation.evaluate", "vlmagent.tui.app", "vlmagent.tui.play_app"),
)
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Meant for the programs, to whose group of processes a helper belongs. The end of the socket ends it."""
HIGH = 500
"""Descriptors from here on are in nobody's way while others take the numbers that a program wants."""


def main() -> None:
    control, listener = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    load()
    wire.send_number(control, os.getpid())
    server: socket.socket | None = listener
    while True:
        request, files = wait(control, server)
        # from here on it is the new process
        control.close()
        if server is not None:
            server.close()
        if request.session:
            os.setsid()
        ours, control = socket.socketpair()
        server = None
        if os.fork():
            break
        # the helper, which waits for requests of this program
        ours.close()
        for file in files:
            os.close(file)
    control.close()
    become(request, files, ours)
    run(request.arguments[0])


def run(module: str) -> NoReturn:
    """Run the program and end as an interpreter ends, but for taking all that was imported apart.

    That would take longer than most programs: every object is touched, and with it copied.
    """
    code = 0
    sys.modules.pop(module, None)  # runpy would warn of a module that is run after it was imported
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        # the interpreter ends by the signal itself then
        raise
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  (waits for threads that are no daemons)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # lost output is an error of the program
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120
    os._exit(code & 0xFF)


def load() -> None:
    """Import what programs need; nothing may compute, and no thread may be started."""
    for name in MODULES:
        importlib.import_module(name)
    # it looks for a GPU when it is imported, and remembers what it found
    if importlib.util.find_spec("deepspeed") is not None and popen.PRESET.items() <= os.environ.items():
        importlib.import_module("deepspeed")
    threads = os.listdir("/proc/self/task")  # noqa: PTH208
    assert len(threads) == 1, "an import has started threads: this process can no longer be forked"
    gc.collect()
    gc.freeze()  # pages that the collector does not touch stay shared


def wait(control: socket.socket, listener: socket.socket | None) -> tuple[wire.Request, list[int]]:
    """Start programs until nobody asks any more. Returns only in a new process, which has to become the program."""
    sources = [control] if listener is None else [control, listener]
    while True:
        ready, _, _ = select.select(sources, [], [])
        reap()
        if control in ready:
            asked = wire.receive(control)
            if asked is None:
                os._exit(0)
            if adopted(control):
                return asked
        else:
            connection, _ = listener.accept()  # type: ignore[union-attr]  (the only other one that can be ready)
            with connection:
                asked = wire.receive(connection)
                if asked is not None and watched(connection):
                    return asked
        for file in asked[1] if asked else ():
            os.close(file)


def reap() -> None:
    """Take leave of those that watched a program of ``client``."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def adopted(control: socket.socket) -> bool:
    """Fork a process whose parent has ended, so that who asks (``popen.adopting``) becomes its parent.

    Returns:
        Whether this is the new process.
    """
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.close(writing)
            return True
        os.write(writing, b"%d" % pid)
        os._exit(0)
    os.close(writing)
    os.waitpid(between, 0)
    with open(reading, "rb") as pipe:  # noqa: PTH123
        wire.send_number(control, int(pipe.read()))
    return False


def watched(connection: socket.socket) -> bool:
    """Fork a process that another one waits for, which tells the client how it ended.

    Returns:
        Whether this is the new process.
    """
    if os.fork():
        return False
    pid = os.fork()
    if pid == 0:
        return True
    wire.send_number(connection, pid)
    wire.send_number(connection, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def become(request: wire.Request, files: list[int], helper: socket.socket) -> None:
    """Take on all that makes a process this one and no other."""
    helper = socket.socket(fileno=lifted(helper.detach()))
    lifts = [lifted(file) for file in files]
    for file, number in zip(lifts, request.files, strict=True):
        os.dup2(file, number, inheritable=True)
        os.close(file)
    os.chdir(request.cwd)
    os.umask(request.umask)
    before = os.environ.get("PYTHONPATH", "")
    os.environ.clear()
    os.environ.update(request.environment)
    path(before, request.environment.get("PYTHONPATH", ""), request.cwd)
    streams()
    for number in IGNORED:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    show(request)
    seed()
    sys.argv = ["-m", *request.arguments[1:]]
    importlib.invalidate_caches()
    popen.install(popen.Server(helper))


def lifted(file: int) -> int:
    """The same open file under a high number."""
    number = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(file)
    return number


def path(before: str, after: str, cwd: str) -> None:
    """As Python makes ``sys.path`` for ``-m``: the folder, PYTHONPATH, the rest."""
    old = [str(Path(one).absolute()) for one in before.split(os.pathsep) if one]
    rest = sys.path[1:]
    if rest[: len(old)] == old:
        del rest[: len(old)]
    new = [str(Path(one).absolute()) for one in after.split(os.pathsep) if one]
    sys.path[:] = [cwd, *new, *rest]


def streams() -> None:
    """Standard streams as Python opens them, over the new descriptors 0, 1 and 2."""
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    encoding = encoding or "utf-8"
    raw = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = open(0, encoding=encoding, errors=errors or "strict", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    for number, name in ((1, "stdout"), (2, "stderr")):
        binary = open(number, "wb", buffering=0 if raw else -1, closefd=False)  # noqa: SIM115
        stream = io.TextIOWrapper(
            binary,
            encoding=encoding,
            errors="backslashreplace" if number == 2 else errors or "strict",
            write_through=raw,
            line_buffering=number == 2 or os.isatty(number),
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def show(request: wire.Request) -> None:
    """Write command line and environment where the system shows them to others, over those of this process."""
    places = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:49]
    texts = (
        [sys.executable, "-m", *request.arguments],
        [f"{name}={value}" for name, value in request.environment.items()],
    )
    starts, ends = places[::2], places[1::2]
    for start, end, text in zip(map(int, starts), map(int, ends), texts, strict=True):
        written = "".join(f"{one}\0" for one in text).encode("utf-8", "surrogateescape")[: end - start - 1]
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, written, len(written))


def seed() -> None:
    """A new process draws its own numbers; ``random`` sees to that itself."""
    sys.modules["numpy"].random.seed()
    sys.modules["torch"].default_generator.seed()


if __name__ == "__main__":
    main()
