"""The other end of the pipe: starts the process that thinks, sends requests, hands on what it says.

Never blocks its caller and never imports torch. Knows nothing of what the messages mean.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing import Pipe

from vlmagent.config import Config
from vlmagent.paths import Run
from vlmagent.play.messages import Begin, Died, Event, Finished, Request, Think
from vlmagent.runs.threads import WAITING
from vlmagent.text import harmless

# of its log, in one sentence on the screen: the last line of a traceback and what led to it
SAID_LINES = 3


class ThinkingProcess:
    """One run of ``play.server``.

    Args:
        config: what is played.
        run: whose newest checkpoint thinks; None for a baseline.
        baseline: a baseline's name; None for a run.
        on_event: called with every event, on a thread of this object. The last event is ``Died``, unless it was
            closed.
    """

    def __init__(
        self, config: Config, run: Run | None, baseline: str | None, on_event: Callable[[Event], None]
    ) -> None:
        self._on_event = on_event
        self._closed = False
        # not a pipe: nobody would read it until the end, and a full one would block the process
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process)
        self._connection, other = Pipe()
        # this end of the other side is closed after the start: only then does the process's death end the pipe
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vlmagent.play.server", str(other.fileno())],
                # only this descriptor is inherited besides the standard ones
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                # waiting threads must not spin: the screen and a training run need the cores too
                env={**WAITING, **os.environ},
            )
        self._outbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        for target in (self._read, self._write):
            # daemons: they may wait in `recv` for ever, and the program must be able to end
            threading.Thread(target=target, name=f"play{target.__name__}", daemon=True).start()
        self.send(Begin(config, None if run is None else str(run), baseline))

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, request: Request) -> None:
        """Send a request soon; to a process that has ended it is lost, which ``Died`` tells."""
        self._outbox.put(request)

    def close(self) -> None:
        """End the process at once: it holds nothing that could be lost. Idempotent."""
        # before the kill: its death must not be told as an accident
        self._closed = True
        # ends the writing thread
        self._outbox.put(None)
        self._process.kill()
        self._process.wait()

    def _write(self) -> None:
        """On a thread of its own: a picture may not fit into the pipe while the process is busy."""
        while (request := self._outbox.get()) is not None:
            try:
                self._connection.send(request)
            except OSError:
                # the process is gone; the reading thread tells it
                return
            except Exception as error:  # what a plug-in's state raises when it is pickled, no one can list
                # a question must be answered, even with a problem: whoever asks one at a time would wait for ever
                if isinstance(request, Think):
                    problem = f"The state cannot be sent to another process ({type(error).__name__}: {error})"
                    self._on_event(Finished(request.number, problem))

    def _read(self) -> None:
        # EOFError: the process ended, by itself or by `close`
        with contextlib.suppress(EOFError, OSError):
            while True:
                event = self._connection.recv()
                if not self._closed:
                    self._on_event(event)
        code = self._process.wait()
        self._connection.close()
        if not self._closed:
            self._on_event(Died(self._last_words(code)))
        self._log.close()

    def _last_words(self, code: int) -> str:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()[-SAID_LINES:]
        return f"The process that thinks {how}." + (f" It said: {harmless(' '.join(said))}" if said else "")
