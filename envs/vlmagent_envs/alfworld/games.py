"""Which games there are: the generated household in its cache folder, or the real games on this machine.

Both lie in the folders that ALFWorld's own environments scan:
``<root>/{train,valid_seen,valid_unseen}/<task>/<trial>/{game.tw-pddl, traj_data.json, initial_state.pddl}``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vlmagent_envs.alfworld.household import ALFRED_TYPES, TASK_TYPES
from vlmagent_envs.alfworld.problems import SPLITS, Problem, Split, draw_problem, game, pddl, trajectory

GAME, TRAJECTORY, STATE = "game.tw-pddl", "traj_data.json", "initial_state.pddl"
VERSION = 1
"""Raise when the same seed gives other games, so that an older cache is not taken for them."""
PER_TYPE: Mapping[Split, int] = {"train": 100, "valid_seen": 20, "valid_unseen": 20}
"""Generated games of each task type."""
_NOT_PLAYED = ("movable", "Sliced")
"""Games with these words in their path are left out by ALFWorld itself."""


class AlfworldError(RuntimeError):
    """Something that ALFWorld needs is missing; the message says what, and how to get it."""


class GameFailedError(AlfworldError):
    """A game or the simulator failed at its work; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Game:
    """One game on disk.

    Attributes:
        folder: holds its files.
        task_type: by what ``traj_data.json`` says; its path may say otherwise.
        thing, target, lamp: types in lower case, as in the game's texts; "" where the task has none.
    """

    folder: Path
    task_type: str
    thing: str
    target: str
    lamp: str


def household(cache: Path, seed: int, per_type: Mapping[Split, int] | None = None) -> Path:
    """The root folder of the generated games, written when it is not there yet.

    Args:
        cache: folder for what can be made again.
        seed: another seed gives another household.
        per_type: games of each task type in each split.
    """
    counts = {**PER_TYPE, **(per_type or {})}
    domain, grammar = game_logic()
    # whatever decides what is in the files, ALFWorld's own logic included: another version of it gets another folder
    parts = json.dumps([VERSION, seed, counts, domain, grammar], sort_keys=True)
    root = cache / f"mini-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"
    if root.is_dir():
        return root
    # written beside its place and renamed: another process never finds a household that is half written
    temporary = root.with_name(f".tmp-{root.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    for split in SPLITS:
        for task_type in TASK_TYPES:
            for number in range(counts[split]):
                problem = draw_problem(split, task_type, seed, number)
                _write(problem, temporary / split / problem.folder / f"trial_{number:05d}", domain, grammar)
    try:
        temporary.rename(root)
    except OSError:  # another process was faster
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def _write(problem: Problem, folder: Path, domain: str, grammar: str) -> None:
    name = folder.name
    folder.mkdir(parents=True)
    (folder / GAME).write_text(game(problem, name, domain, grammar), encoding="utf-8")
    (folder / STATE).write_text(pddl(problem, name), encoding="utf-8")
    (folder / TRAJECTORY).write_text(json.dumps(trajectory(problem, name)), encoding="utf-8")


@lru_cache(maxsize=1)
def game_logic() -> tuple[str, str]:
    """ALFWorld's PDDL domain and its grammar of texts, read from the installed package without importing it.

    Raises:
        AlfworldError: it is not installed.
    """
    found = importlib.util.find_spec("alfworld")
    if found is None or not found.submodule_search_locations:
        raise AlfworldError("The package alfworld is not installed. Run: pip install alfworld")
    data = Path(found.submodule_search_locations[0]) / "data"
    return (data / "alfred.pddl").read_text(encoding="utf-8"), (data / "alfred.twl2").read_text(
        encoding="utf-8"
    )


def data_root(folder: str | None) -> Path:
    """Where the real games lie.

    Args:
        folder: as ALFWorld's ``$ALFWORLD_DATA``, or its ``json_2.1.1``; None takes the variable, or ALFWorld's default.

    Raises:
        AlfworldError: there are no games; says how to get them.
    """
    root = data_folder(folder)
    for candidate in (root / "json_2.1.1", root):
        if any((candidate / split).is_dir() for split in SPLITS):
            return candidate
    raise AlfworldError(
        f"There are no ALFWorld games in {root}. To get them, run 'alfworld-download', which comes with "
        "the package alfworld; it writes to $ALFWORLD_DATA, or to ~/.cache/alfworld without it. "
        "If you have them elsewhere, set ALFWORLD_DATA or env.data to the folder that holds json_2.1.1; "
        "`vlmagent doctor` says what is found there. The generated household needs none: env.world=mini"
    )


def data_folder(folder: str | None = None) -> Path:
    """Where ``data_root`` looks: ``folder``, else ``$ALFWORLD_DATA``, else ALFWorld's default."""
    chosen = folder or os.environ.get("ALFWORLD_DATA")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "alfworld"


def count_games(root: Path, split: str) -> int:
    """Text games of a split by their files' names alone: fast, and not fewer than ``find_games`` finds."""
    files = (root / split).glob(f"*/*/{GAME}")
    return sum(not any(word in str(file.relative_to(root)) for word in _NOT_PLAYED) for file in files)


def has_data(folder: str | None) -> bool:
    """Whether ``data_root`` would find the real games."""
    try:
        data_root(folder)
    except AlfworldError:
        return False
    return True


def find_games(root: Path, split: str, task_types: Sequence[str], *, thor: bool = False) -> tuple[Game, ...]:
    """The playable games of a split, in the order of their paths.

    Args:
        thor: games for real frames, which need no ``game.tw-pddl``.

    Raises:
        AlfworldError: there is none.
    """
    games = tuple(game for game in _scan(root, split, thor) if game.task_type in task_types)
    if not games:
        types = "" if len(task_types) == len(TASK_TYPES) else f" of the types {', '.join(task_types)}"
        there = [name for name in SPLITS if (root / name).is_dir()]
        raise AlfworldError(
            f"There are no games{types} in {root / split}. Splits with games: {', '.join(there) or 'none'}. "
            "Choose with env.split and env.eval_split."
        )
    return games


@lru_cache(maxsize=16)
def _scan(root: Path, split: str, thor: bool) -> tuple[Game, ...]:
    """Every game that ALFWorld's own environment would play."""
    # sorted: the order in which a disk lists folders is not the same everywhere
    games = []
    for file in sorted((root / split).rglob(TRAJECTORY)):
        if any(word in str(file.relative_to(root)) for word in _NOT_PLAYED):
            continue
        if not thor and not _solvable(file.with_name(GAME)):
            continue
        about = json.loads(file.read_text(encoding="utf-8"))
        task_type = next((ours for ours, name in ALFRED_TYPES.items() if name == about["task_type"]), None)
        if task_type is not None:
            names = (
                about["pddl_params"][key].lower()
                for key in ("object_target", "parent_target", "toggle_target")
            )
            games.append(Game(file.parent, task_type, *names))
    return tuple(games)


def _solvable(file: Path) -> bool:
    """Whether a game's file is there and says that it can be solved, which it does at its end."""
    if not file.is_file():
        return False
    # there are thousands of these files, and all but the end of each is its logic
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - 64))
        if b'"solvable": true' in opened.read():
            return True
    return bool(json.loads(file.read_text(encoding="utf-8")).get("solvable"))
