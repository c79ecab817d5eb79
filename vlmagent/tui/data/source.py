"""Answers questions about a run database without ever blocking the screen: one thread, one connection.

Deliberately knows no widget and no SQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from vlmagent.errors import StoreError, VlmAgentError
from vlmagent.store.reader import StoreReader

T = TypeVar("T")


class Worker:
    """Calls functions one after the other on one thread of its own.

    The thread starts with the first call and is a daemon: neither ``close`` nor the end of the program waits
    for it. Functions whose caller has lost interest are not begun.
    """

    def __init__(
        self,
        name: str = "tui-worker",
        *,
        interrupt: Callable[[], None] = lambda: None,
        finish: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing starts yet.

        Args:
            interrupt: cuts the running function short; called from another thread when nobody waits for it.
            finish: called on the thread after ``close``.
        """
        self._name = name
        self._interrupt = interrupt
        self._finish = finish
        # None at the end of the queue ends the thread
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        # guards which job is running and who still wants it, so that an interruption never hits the job after the one
        # it was meant for
        self._lock = threading.Lock()
        self._current: _Job[Any] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    async def call(self, function: Callable[[], T]) -> T:
        """What ``function`` returns or raises. Cancelling the caller interrupts it.

        Raises:
            StoreError: the worker was closed.
        """
        if self._closed:
            raise StoreError("This view of the run was already closed.")
        # only now: a screen that is opened and left at once needs no thread. A daemon, because a query may hang on a
        # lock or a network file system, which must not keep the program from ending
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        job = _Job(function)
        self._jobs.put(job)
        try:
            return await job.future
        # the screen was closed or asks something else: nobody waits for the answer any more
        except asyncio.CancelledError:
            self._forget(job)
            raise

    def close(self) -> None:
        """Cut the running function short and begin no other; returns at once. Idempotent."""
        self._closed = True
        with self._lock:
            if self._current is not None:
                self._interrupt()
        # behind what is queued: those jobs are answered with an error first, so that no caller waits for ever
        self._jobs.put(None)

    def _forget(self, job: _Job[Any]) -> None:
        with self._lock:
            job.wanted = False
            # running already: cut it short. One that waits is passed over when its turn comes
            if self._current is job:
                self._interrupt()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            with self._lock:
                # looked at under the lock: from here on a cancellation finds the job as the current one
                if not job.wanted or self._closed:
                    job.finish(error=StoreError("This view of the run was closed."))
                    continue
                self._current = job
            try:
                result, error = job.function(), None
            # whatever it is, the caller is to get it: an exception that ended this thread would leave all callers
            # waiting
            except BaseException as problem:
                result, error = None, problem
            with self._lock:
                self._current = None
            job.finish(result, error)
        # on this thread, after the last job: a connection must not be closed under a running query
        self._finish()


class _Job(Generic[T]):
    """One call: what to do, who waits for it, and whether anyone still does."""

    def __init__(self, function: Callable[[], T]) -> None:
        self.function = function
        self.wanted = True
        # made on the screen's thread, whose loop is the one to wake
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()

    def finish(self, result: Any = None, error: BaseException | None = None) -> None:
        """Wake the caller, unless it or its event loop is gone."""
        # raised by a loop that was closed: the program has ended meanwhile
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        # cancelled between the call from the thread and its turn in the loop
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Source:
    """Questions to one run database, also while it is written, replaced or gone.

    The connection is opened by the first question, and again when the file was replaced or a question failed.
    """

    def __init__(self, database: Path) -> None:
        self.database = database
        self._reader: StoreReader | None = None
        self._identity: tuple[int, int] | None = None
        self._worker = Worker(
            f"reader-{database.parent.name}", interrupt=self._cut_short, finish=self._let_go
        )

    async def query(self, function: Callable[[StoreReader], T]) -> T:
        """What ``function`` makes of the database, called with a reader on this source's own thread.

        Cancelling the caller interrupts the query.

        Raises:
            NotReadyError: the trainer has not made the tables yet.
            StoreError: the file is missing, locked, damaged or of another schema; the message is a sentence.
        """
        return await self._worker.call(lambda: self._answer(function))

    async def call(self, function: Callable[[], T]) -> T:
        """What ``function``, which needs no database, returns; also on this source's thread."""
        return await self._worker.call(function)

    def close(self) -> None:
        """Let go of the file soon; returns at once. Idempotent."""
        self._worker.close()

    def _answer(self, function: Callable[[StoreReader], T]) -> T:
        try:
            return function(self._open())
        # also after an interruption or a lock: a connection that failed is not trusted again
        except VlmAgentError:
            self._let_go()
            raise
        except Exception as error:  # what a damaged row decodes to, no one can list
            self._let_go()
            raise StoreError(
                f"The run database {self.database} holds something unexpected ({type(error).__name__}: {error})."
            ) from error

    def _open(self) -> StoreReader:
        """The reader of the file that lies there now."""
        # before opening: a file replaced in between is noticed by the next question, not missed
        identity = _identity(self.database)
        # an open file outlives its deletion: the connection would show the old run for ever
        if self._reader is not None and identity != self._identity:
            self._let_go()
        if self._reader is None:
            self._reader = StoreReader(self.database)
            self._identity = identity
        return self._reader

    def _let_go(self) -> None:
        reader = self._reader
        self._reader = None
        if reader is not None:
            reader.close()

    def _cut_short(self) -> None:
        # taken once: the other thread may let go of it between the test and the call
        reader = self._reader
        if reader is not None:
            reader.interrupt()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies at ``path``; None without one."""
    try:
        found = path.stat()
    except OSError:
        return None
    # enough to tell files apart: the old one is still open, so that its number cannot be given to the new one
    return found.st_dev, found.st_ino
