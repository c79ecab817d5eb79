"""Notices that another process of the group has died, whatever this one is waiting for.

Every process holds a connection to the first one. When a process dies its kernel closes it, when a machine goes away
the probes of TCP fail; nothing has to be sent in between, so that a busy process is never taken for a dead one.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import threading
from collections.abc import Callable

from vlmagent.errors import RunFailedError
from vlmagent.training.distributed.ranks import Ranks

# one byte: a connection that ends without it (nothing, a reset) is a death
GOODBYE = b"."
# 128 random bits, new at each start: neither a scanner nor a process of an older attempt knows them
TOKEN_BYTES = 16
# for all to connect; they have just met in `join`
MEET_SECONDS = 60.0
# so long a stranger that says nothing can hold up the others
STRANGER_SECONDS = 10.0
PROBES = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
"""A machine that is silent for 10 s is asked 4 times, every 5 s."""


class Lifeline:
    """The connections of one process; ``on_loss`` is called from a thread when one ends without a goodbye.

    Args:
        address: of the machine of the first process.

    Raises:
        RunFailedError: another process did not come.
    """

    def __init__(self, ranks: Ranks, address: str, on_loss: Callable[[], None]) -> None:
        self._on_loss = on_loss
        try:
            # a star: the first process sees every other die, and the others see it end
            self._connections = _accept(ranks) if ranks.rank == 0 else [_connect(ranks, address)]
        except OSError as error:
            raise RunFailedError(
                f"Process {ranks.rank} could not connect to the first process on {address}: {error}"
            ) from error
        for connection in self._connections:
            _probe(connection)
            # daemon: a thread that waits for ever must not hold the interpreter at its end
            threading.Thread(target=self._watch, args=(connection,), name="lifeline", daemon=True).start()

    def close(self) -> None:
        """Say goodbye: what ends now ends in order."""
        for connection in self._connections:
            try:
                connection.sendall(GOODBYE)
            except OSError:  # the other one went first
                continue

    def _watch(self, connection: socket.socket) -> None:
        try:
            # blocks until a goodbye or an end: nothing else is ever sent
            last = connection.recv(1)
        except OSError:
            last = b""  # reset, or given up by TCP's probes
        if last != GOODBYE:
            self._on_loss()


def _accept(ranks: Ranks) -> list[socket.socket]:
    """One connection from each other process; strangers are sent away."""
    # port 0: the system finds a free one, which `share` tells the others
    with socket.create_server(("", 0), backlog=ranks.world) as listener:
        listener.settimeout(MEET_SECONDS)
        token = secrets.token_bytes(TOKEN_BYTES)
        ranks.share((listener.getsockname()[1], token))
        known: list[socket.socket] = []
        while len(known) < ranks.world - 1:
            connection, _ = listener.accept()
            if _knows(connection, token):
                known.append(connection)
            else:
                connection.close()
    return known


def _knows(connection: socket.socket, token: bytes) -> bool:
    """Whether somebody who connected is of the group."""
    connection.settimeout(STRANGER_SECONDS)
    try:
        # MSG_WAITALL: TCP may deliver the token in pieces
        said = connection.recv(TOKEN_BYTES, socket.MSG_WAITALL)
    except OSError:
        return False
    # from here on silence is normal, for days
    connection.settimeout(None)
    # takes equally long for every wrong token
    return hmac.compare_digest(said, token)


def _connect(ranks: Ranks, address: str) -> socket.socket:
    # what the first process gave to `share`; the argument here is not used
    port, token = ranks.share((0, b""))
    connection = socket.create_connection((address, port), timeout=MEET_SECONDS)
    connection.sendall(token)
    connection.settimeout(None)
    return connection


def _probe(connection: socket.socket) -> None:
    """Let the kernel ask whether the other machine is still there."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
        if hasattr(socket, name):  # other systems have other names, and defaults
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
