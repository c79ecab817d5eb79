"""One request to start a program, as it travels over a Unix socket: a pickle, with the open files of the program.

Light on purpose: ``client`` imports it for every command of a shell script.
"""

from __future__ import annotations

import pickle
import socket
import struct

_LENGTH = struct.Struct("!I")
_NUMBER = struct.Struct("!i")
MOST_FILES = 64


class Request:
    """What a program is started with: what ``subprocess.Popen`` would be given.

    Args:
        arguments: behind ``python -m``: a module's name and its arguments.
        environment: all of it.
        files: the descriptors, as the program numbers them.
        session: whether it gets a session of its own.
    """

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        cwd: str,
        umask: int,
        files: list[int],
        session: bool = False,
    ) -> None:
        self.arguments = arguments
        self.environment = environment
        self.cwd = cwd
        self.umask = umask
        self.files = files
        self.session = session


def send(connection: socket.socket, request: Request, files: list[int]) -> None:
    """Send a request and the open files (as the sender numbers them) that become ``request.files``."""
    text = pickle.dumps(request)
    socket.send_fds(connection, [_LENGTH.pack(len(text))], files)
    connection.sendall(text)


def receive(connection: socket.socket) -> tuple[Request, list[int]] | None:
    """The next request and its open files as they are numbered here; None once the sender is gone."""
    head, files, _, _ = socket.recv_fds(connection, _LENGTH.size, MOST_FILES)
    if not head:
        return None
    head += _exactly(connection, _LENGTH.size - len(head))
    return pickle.loads(_exactly(connection, *_LENGTH.unpack(head))), files


def send_number(connection: socket.socket, number: int) -> None:
    """A pid, or how a process ended."""
    connection.sendall(_NUMBER.pack(number))


def receive_number(connection: socket.socket) -> int:
    """Raises EOFError when the sender is gone."""
    return int(_NUMBER.unpack(_exactly(connection, _NUMBER.size))[0])


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise EOFError("the other side is gone")
        found += part
    return found


def umask() -> int:
    """This process's, which can only be read by setting it, but for where the system shows it."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123  (pathlib is slow to load)
        for line in file:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
