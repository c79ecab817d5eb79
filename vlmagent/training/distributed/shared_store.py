"""The one database of a run that several processes train: the first one writes, the others send.

Whole steps of all environments arrive together, in the order in which one process would have written them; sending
waits until the first process took it, and that one for its own writer's queue. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vlmagent.store.writer import StoreWriter
from vlmagent.training.distributed.ranks import Ranks
from vlmagent.types import EpisodeEnd, EpisodeStart, Transition


class _Warning(NamedTuple):
    text: str


_Record = EpisodeStart | EpisodeEnd | Transition | _Warning


class SharedWriter:
    """What a trainer asks of ``StoreWriter``, in every process of a run; implements ``Sink``.

    ``commit``, ``flush`` and ``advantages`` must be called by all processes together. Of the rest, the first process's
    calls count, and the warnings of all.

    Args:
        path: the database.
        writer: in the first process, and only there.
    """

    def __init__(self, ranks: Ranks, path: Path, writer: StoreWriter | None) -> None:
        if (writer is not None) != (ranks.rank == 0):
            raise ValueError("the first process writes, and only it")
        self.path = path
        self._ranks = ranks
        self._writer = writer
        self._records: list[_Record] = []

    def episode_started(self, episode: EpisodeStart) -> None:
        """To be sent with the next commit."""
        self._records.append(episode)

    def transition(self, transition: Transition) -> None:
        """To be sent with the next commit."""
        self._records.append(transition)

    def episode_ended(self, episode: EpisodeEnd) -> None:
        """To be sent with the next commit."""
        self._records.append(episode)

    def commit(self) -> None:
        """Bring everything since the last commit together and make it one transaction."""
        own, self._records = self._records, []
        # by rank, which is the order of the environments: as one process would have written
        for records in self._ranks.gather(own):
            for record in records:
                self._write(record)
        if self._writer is not None:
            self._writer.commit()

    def flush(self, *, sync: bool = True) -> None:
        """Commit; when the first process returns it is all in the file, and on the disk if ``sync``."""
        self.commit()
        if self._writer is not None:
            self._writer.flush(sync=sync)

    def advantages(
        self, update_index: int, ids: Sequence[int], advantages: Sequence[float], returns: Sequence[float]
    ) -> None:
        """Record advantages and returns of every process's transitions."""
        # all send, and only the first process receives
        for theirs in self._ranks.gather((ids, advantages, returns)):
            if self._writer is not None:
                self._writer.advantages(update_index, *theirs)

    def event(self, level: str, text: str) -> None:
        """Record one line for people."""
        if self._writer is not None:
            self._writer.event(level, text)
        elif level == "warning":
            # other lines are the same in every process; warnings (of memory, of a game) are its own
            self._records.append(_Warning(f"process {self._ranks.rank}: {text}"))

    def metrics(self, update_index: int, env_steps: int, values: Mapping[str, float]) -> None:
        """Record measured numbers."""
        if self._writer is not None:
            self._writer.metrics(update_index, env_steps, values)

    def checkpoint(self, env_steps: int, path: Path | str) -> None:
        """Record that a checkpoint was saved."""
        if self._writer is not None:
            self._writer.checkpoint(env_steps, path)

    def _write(self, record: _Record) -> None:
        assert self._writer is not None
        match record:
            case EpisodeStart():
                self._writer.episode_started(record)
            case EpisodeEnd():
                self._writer.episode_ended(record)
            case Transition():
                self._writer.transition(record)
            case _Warning(text):
                self._writer.event("warning", text)
