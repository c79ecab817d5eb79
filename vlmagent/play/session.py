"""A session of play: its tables, its log, its database. Every step is in the file before anyone sees it.

Knows nothing of screens or of the process that thinks. Use it from one thread at a time.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from pathlib import Path

import numpy as np

from vlmagent.errors import StoreError, UsageError
from vlmagent.files import new_file
from vlmagent.play.plan import Continuation, SessionPlan
from vlmagent.play.table import Moment, SessionLog, Table
from vlmagent.runs import folders
from vlmagent.runs.daemon import write_info
from vlmagent.seeding import derive, play_episode_seed
from vlmagent.store.reader import StoreReader
from vlmagent.store.restore import restore_transition
from vlmagent.store.rows import RunStatus
from vlmagent.store.writer import StoreWriter
from vlmagent.tasks.registry import task_from_config
from vlmagent.types import Decision, Transition

YOU, THEM = 0, 1
"""Tables: the person's (or the only one), the opponent's."""


class PlaySession:
    """Opens the log and begins the first episode.

    Attributes:
        database: where the log is.
        moments: where each table stands.

    Raises:
        UsageError: the state to play on from cannot be had.
        StoreError: the log cannot be written.
    """

    def __init__(self, plan: SessionPlan) -> None:
        self.plan = plan
        self.task = task_from_config(plan.config)
        self.database = _database(plan)
        self._writer = StoreWriter(self.database, journal_mode=plan.config.store.journal_mode)
        self._log = SessionLog(self._writer)
        self._count = 0
        self._seed = 0
        # what is continued from another log is no play: a session in which nothing else was done is removed again
        self._given: int | None = None  # steps that were there before anybody played; None until it has begun
        self.tables: list[Table] = []
        try:
            self._record_start()
            count = 2 if plan.mode == "versus" else 1
            self.tables = [Table(self.task, index, self._log, plan.seed) for index in range(count)]
            self._begin_first()
            self._given = self._log.steps
        except BaseException as error:
            # what was made so far, an empty folder or database, must not stay behind
            self.close("failed", str(error))
            raise

    @property
    def moments(self) -> tuple[Moment, ...]:
        """One per table."""
        return tuple(table.moment for table in self.tables)

    def begin(self, *, again: bool = False) -> tuple[Moment, ...]:
        """The next episode at every table; ``again`` deals the same one once more."""
        if not again:  # the number of new deals decides the next one, not how often each was played
            self._seed = play_episode_seed(self.plan.seed, self._count)
            self._count += 1
        for table in self.tables:
            table.begin(self._seed)
        return self.moments

    def choose(self, action: str) -> Moment | None:
        """A person's action; None when the episode is over or the action is not legal here."""
        table = self.tables[YOU]
        if table.moment.end is not None or action not in table.moment.observation.legal_actions:
            return None
        return table.choose(action)

    def take(self, index: int, decision: Decision, where: tuple[int, tuple[str, ...]]) -> Moment | None:
        """A decision made elsewhere for the state ``where`` (seed and actions); None when that has passed."""
        moment = self.tables[index].moment
        # an answer that comes after the person pressed a key, or went on to another episode
        if moment.end is not None or (moment.seed, moment.actions) != where:
            return None
        return self.tables[index].take(decision)

    def expert(self, moment: Moment) -> str | None:
        """The expert's action in a state, or None where the task has no expert for it."""
        # by step: asked twice in one state, the expert says the same
        rng = np.random.default_rng(derive(self.plan.seed, "expert", len(moment.steps)))
        try:
            return self.task.expert_action(moment.state, rng)
        except Exception:  # a plug-in without an expert may raise anything
            return None

    def note(self, text: str) -> None:
        """One line for the log."""
        self._writer.event("info", text)

    def close(self, status: RunStatus = "done", error: str | None = None) -> None:
        """End the session; one in which nobody played a step leaves nothing behind. Idempotent."""
        for table in self.tables:
            table.close()
        self.tables = []
        with contextlib.suppress(StoreError):  # closed already, or the disk is full: the steps are there
            self._writer.set_status(status, error)
            self._writer.close()
        # None: it never began, so there is nothing of anybody's in it
        if self._given is None or self._log.steps == self._given:
            self._remove()

    def _remove(self) -> None:
        # its folder was made for this session alone
        if self.plan.run is None:
            shutil.rmtree(self.database.parent, ignore_errors=True)
            return
        # the `-wal` and `-shm` beside it, too
        for file in self.database.parent.glob(f"{self.database.name}*"):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there are other sessions
            self.database.parent.rmdir()

    def _record_start(self) -> None:
        plan, config = self.plan, self.plan.config
        name = self.database.parent.name if plan.run is None else self.database.stem
        players = {"human": "human", "watch": "", "versus": "human against "}[plan.mode]
        if plan.mode != "human" and plan.opponent is not None:
            players += plan.opponent.name
        self._writer.start_run(
            name, config.task, players, json.dumps(config.model_dump(mode="json")), plan.seed
        )
        # before the first step, so that a session that is killed is listed as lost and not as starting
        self._writer.set_status("running")
        self._writer.event("info", f"play: {players}, seed {plan.seed}")

    def _begin_first(self) -> None:
        start = self.plan.start
        if start is None:
            self.begin()
            return
        self._seed, steps = _logged(start)
        for table in self.tables:
            table.begin(self._seed)
            table.repeat(steps)


def _database(plan: SessionPlan) -> Path:
    """A new file; a session without a run gets a folder of its own, which this process then holds."""
    task = plan.config.task.replace("/", "-").replace(":", "-")
    if plan.run is None:
        run = folders.create_session(plan.config.task)
        # like a training process: the dashboard then shows the session as running and not as lost
        write_info(run)
        return run.database
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{task}"
    try:
        return new_file(plan.run.plays, stem, ".db")
    except OSError as error:
        raise UsageError(
            f"The session cannot be logged in {plan.run.plays}: {error.strerror or error}."
        ) from None


def _logged(start: Continuation) -> tuple[int, list[Transition]]:
    """The seed of a logged episode and its steps before the one to play on from.

    Raises:
        UsageError: there is no such episode.
        StoreError: its log cannot be read.
    """
    with StoreReader(start.database) as reader:
        episode = reader.episode(start.episode_id)
        rows = [row for row in reader.transitions(start.episode_id) if row.step < start.step]
    # steps missing at the beginning or in the middle: from there on the state would be another one
    if episode is None or [row.step for row in rows] != list(range(len(rows))):
        raise UsageError(f"The beginning of episode {start.episode_id} is not logged in {start.database}.")
    return episode.seed, [restore_transition(row) for row in rows]
