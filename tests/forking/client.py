"""``python -m`` for shell scripts: has ``server`` fork the program, waits for it and ends as it did.

python -I -S tests/forking/client.py SOCKET MODULE [ARGUMENT ...]
"""

from __future__ import annotations

import os
import signal
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from tests.forking import wire


def main() -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        cwd = os.getcwd()  # noqa: PTH109  (pathlib is slow to load)
        request = wire.Request(sys.argv[2:], dict(os.environ), cwd, wire.umask(), [0, 1, 2])
        wire.send(connection, request, request.files)
        pid = wire.receive_number(connection)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _frame: os.kill(pid, number))
        code = wire.receive_number(connection)
    if code < 0:  # by a signal, which a shell tells from an exit code
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


main()
