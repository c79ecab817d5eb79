"""The other end of a worker process: starts it, asks it, notices when it dies, starts it again.

A worker is a fresh program (no fork), so it may be started beside threads and a GPU. Knows nothing of games.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO, Any

from vlmagent_envs.alfworld.backends import Reply
from vlmagent_envs.alfworld.games import GameFailedError

START_SECONDS = 300.0
"""Importing ALFWorld and starting a simulator may take long on a busy machine."""
REPLY_SECONDS = 300.0
"""A worker that says nothing for so long is taken for dead."""
_TAIL = 2000
_MODULE = "vlmagent_envs.alfworld.worker"


class WorkerLostError(Exception):
    """The worker died or fell silent; another one may be started."""


class Worker:
    """One worker process. It is started when first needed, or by ``start`` to save time.

    Args:
        settings: what ``worker.build`` reads.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = json.dumps(dict(settings))
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._stderr: IO[bytes] | None = None
        self._ready = False

    @property
    def pid(self) -> int | None:
        """Process id, None while none runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Begin to start the process, without waiting for it."""
        if self._process is not None:
            return
        ours, theirs = Pipe()
        # A file and no pipe: nobody reads it while the process runs, and a full pipe would stop it.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed by stop)
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, str(theirs.fileno()), self._settings],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._stderr,
            stderr=self._stderr,
            # The libraries iterate over sets: equal hashes give equal orders in every process. One thread is enough
            # for a game, and there are as many games as environments.
            env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # ctrl-c is for the program, which closes its workers itself
        )
        # only the worker holds its end from here on: its death ends the connection
        theirs.close()
        self._connection, self._ready = ours, False

    def send(self, *message: Any) -> None:
        """Ask something; ``receive`` has the answer.

        Raises:
            WorkerLostError: the process has died.
            GameFailedError: it could not start.
        """
        self.start()
        # the first message says that the libraries are loaded, or why they are not
        if not self._ready:
            kind, content = self._receive(START_SECONDS)
            self._raise_error(kind, content)
            self._ready = True
        assert self._connection is not None
        try:
            self._connection.send(message)
        except (BrokenPipeError, ConnectionError):
            raise self._lost() from None

    def receive(self) -> Reply:
        """The answer to what was asked last.

        Raises:
            WorkerLostError: the process died, or has said nothing for long.
            GameFailedError: the game failed.
        """
        kind, content = self._receive(REPLY_SECONDS)
        self._raise_error(kind, content)
        assert isinstance(content, Reply)
        return content

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self._connection is not None:
            self._connection.close()  # a process that waits for a command ends by itself now
        if self._process is not None:
            try:
                self._process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._stderr is not None:
            self._stderr.close()
        self._process = self._connection = self._stderr = None

    def _receive(self, seconds: float) -> tuple[str, Any]:
        assert self._connection is not None
        try:
            # a worker that hangs in a library sends nothing and does not die
            if not self._connection.poll(seconds):
                raise self._lost()
            kind, content = self._connection.recv()
            return str(kind), content
        except (EOFError, OSError):
            raise self._lost() from None

    def _raise_error(self, kind: str, content: Any) -> None:
        if kind == "error":
            self.stop()
            raise GameFailedError(f"ALFWorld failed:\n{str(content)[-_TAIL:]}")

    def _lost(self) -> WorkerLostError:
        """Clear up after a dead process; what it wrote last goes into the error."""
        words, code = "", None
        if self._process is not None:
            deadline = time.monotonic() + 1.0  # a socket may close a little before its process is gone
            while (code := self._process.poll()) is None and time.monotonic() < deadline:
                time.sleep(0.01)
        if self._stderr is not None:
            self._stderr.seek(0)
            words = self._stderr.read()[-_TAIL:].decode("utf-8", "replace").strip()
        self.stop()
        how = "fell silent" if code is None else f"ended with code {code}"
        return WorkerLostError(f"The game's process {how}. {words}".strip())
