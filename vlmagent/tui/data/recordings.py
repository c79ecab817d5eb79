"""What a run has recorded episodes of: its training, its evaluations, the games people played; one database each.

Deliberately knows no widget.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.store.browse import Filter, count_episodes
from vlmagent.store.reader import StoreReader
from vlmagent.text import percent
from vlmagent.tui.data.evaluations import read_evaluations
from vlmagent.tui.text import counted
from vlmagent.types import Split

NAMES: dict[Split, str] = {"train": "training", "eval": "evaluation", "play": "play"}
FACTS: dict[Split, str] = {
    "train": "the episodes the run learnt from",
    "eval": "the episodes that were evaluated",
    "play": "the games that were played",
}


@dataclass(frozen=True, slots=True)
class Recording:
    """A database of episodes: a name, and more words for a list."""

    database: Path
    name: str
    facts: str


def read_recordings(run: Run) -> list[Recording]:
    """The run's own database, then evaluations and plays, each newest first; never raises."""
    evaluations = [Recording(one.database, one.name, one.facts) for one in read_evaluations(run)]
    return [_own(run.database), *evaluations, *map(_play, _play_files(run))]


def split_of(reader: StoreReader) -> Split:
    """What kind of episodes a database holds; training before the first one."""
    # a database holds one kind only, so that any episode tells; a folder of play has one in place of a run's own
    newest = reader.episodes(limit=1)
    return newest[0].split if newest else "train"


def _own(database: Path) -> Recording:
    split: Split = "train"
    try:
        with StoreReader(database) as reader:
            split = split_of(reader)
    except StoreError:
        pass  # whoever opens it will be told
    return Recording(database, NAMES[split], FACTS[split])


def _play_files(run: Run) -> list[Path]:
    """Databases of the games played with this run, newest first."""
    try:
        return sorted(run.plays.glob("*.db"), reverse=True)
    except OSError:
        return []


def _play(database: Path) -> Recording:
    try:
        with StoreReader(database) as reader:
            info = reader.run()
            played, won = count_episodes(reader, Filter()), count_episodes(reader, Filter(success=True))
    except StoreError as error:
        return Recording(database, f"play {database.stem}", str(error))
    # when it was opened, as people remember games; the file's name where that is not known
    began = time.strftime("%d %b %H:%M", time.localtime(info.created_at)) if info else database.stem
    parts = [info.model] if info and info.model else []
    parts.append(counted(played, "episode"))
    if played:
        parts.append(f"success {percent(won / played)}")
    return Recording(database, f"play {began}", " · ".join(parts))
