"""The evaluations of a run: one database each, beside the run's own.

Deliberately knows no widget.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from vlmagent import paths
from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.store.browse import Filter, count_episodes
from vlmagent.store.reader import StoreReader
from vlmagent.text import percent
from vlmagent.tui.text import counted

# the checkpoint before the first update of RL
START = "step-0"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One system that played some episodes.

    Attributes:
        problem: why its database cannot be read; "" when it can.
        done: whether all its episodes were played.
    """

    run: Run
    database: Path
    system: str = ""
    checkpoint: str | None = None
    env_steps: int | None = None
    episodes: int = 0
    success: float | None = None
    mean_return: float | None = None
    seed: int | None = None
    at: float = 0.0
    done: bool = False
    problem: str = ""

    @property
    def name(self) -> str:
        """System and checkpoint, such as ``rl step-8704``; the file's name when they are not known."""
        return " ".join(filter(None, (self.system, self.checkpoint))) or self.database.stem

    @property
    def facts(self) -> str:
        """What lists say beside the name: episodes, success, seed, time; or why it cannot be read."""
        if self.problem:
            return self.problem
        parts = [counted(self.episodes, "episode")]
        if self.success is not None:
            parts.append(f"success {percent(self.success)}")
        if self.seed is not None:
            parts.append(f"seed {self.seed}")
        parts.append(time.strftime("%d %b %H:%M", time.localtime(self.at)) if self.done else "not finished")
        return " · ".join(parts)


def evaluation_files(run: Run) -> list[Path]:
    """The run's evaluation databases, newest first."""
    try:
        # names begin with the time of their making
        return sorted(run.evaluations.glob("*.db"), reverse=True)
    except OSError:
        return []


def read_evaluation(run: Run, database: Path) -> Evaluation:
    """What an evaluation's own database says of it; never raises."""
    try:
        with StoreReader(database) as reader:
            # written when all episodes were played: without it the evaluation goes on, or was ended
            row = next(iter(reader.evaluations()), None)
            info = reader.run()
            if row is None:
                played = count_episodes(reader, Filter())
                return Evaluation(
                    run,
                    database,
                    info.model if info else "",
                    episodes=played,
                    seed=info.seed if info else None,
                )
            return Evaluation(
                run,
                database,
                row.system or "",
                row.checkpoint,
                row.env_steps,
                row.episodes or 0,
                row.success,
                row.mean_return,
                row.seed,
                row.at,
                done=True,
            )
    except StoreError as error:
        return Evaluation(run, database, problem=str(error))


def read_evaluations(run: Run) -> list[Evaluation]:
    """All evaluations of a run, newest first."""
    return [read_evaluation(run, database) for database in evaluation_files(run)]


def pick(evaluations: list[Evaluation], checkpoint: str | None) -> Evaluation | None:
    """The newest finished evaluation of a checkpoint: its name, ``start``, or ``latest`` for the furthest one.

    None as checkpoint means any checkpoint, the furthest first; baselines come last.
    """
    # without a finished episode there is nothing to compare
    usable = [found for found in evaluations if not found.problem and found.episodes]
    if checkpoint in (None, paths.LATEST):
        # by environment steps, not by time: an earlier checkpoint may have been evaluated later
        furthest = max((found.env_steps or 0 for found in usable if found.checkpoint), default=None)
        of_checkpoints = [
            found for found in usable if found.checkpoint and (found.env_steps or 0) == furthest
        ]
        # `usable` is sorted, so that the first is the newest; baselines have no checkpoint and are asked for by None
        # alone
        return next(iter(of_checkpoints or (usable if checkpoint is None else [])), None)
    wanted = START if checkpoint == "start" else checkpoint
    return next((found for found in usable if found.checkpoint == wanted), None)
