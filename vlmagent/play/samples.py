"""Played steps as supervised samples: what was seen, and the response that says what was done.

A person writes no response: it is the one the task's expert would write for that action in that state, which is had
back by playing the episode again. Knows nothing of screens; never imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from vlmagent.config import Config
from vlmagent.config.validation import validate
from vlmagent.errors import StoreError, UsageError
from vlmagent.paths import Run
from vlmagent.play.table import LOGGED
from vlmagent.store.reader import StoreReader
from vlmagent.store.rows import EpisodeRow, TransitionRow
from vlmagent.tasks.base import Task
from vlmagent.tasks.registry import task_from_config
from vlmagent.text import command
from vlmagent.training.sft.dataset import write_samples
from vlmagent.types import SftSample

ANY = "all"


@dataclass(slots=True)
class Exported:
    """What an export came to.

    Attributes:
        samples: how many were written to ``data``.
        actors: everybody who played.
        left_out: one sentence for each session or episode that could not be used.
    """

    data: Path | None = None
    samples: int = 0
    actors: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)


def export_sft(run: Run, out: Path, *, actor: str = "human", successes: bool = False) -> Exported:
    """Write the steps played beside a run as a data set like ``vlmagent data`` does.

    Args:
        run: a run with sessions in ``plays/``, or a session in a folder of its own.
        actor: whose steps: ``human``, ``model``, the name of a baseline, or ``all``.
        successes: only episodes that succeeded.

    Raises:
        UsageError: there is no such step, or ``out`` is not an empty folder.
    """
    exported = Exported()
    samples = _samples(run, actor, successes, exported)
    first = next(samples, None)
    if first is None:
        raise _nothing(run, actor, successes, exported)

    def count(done: int) -> None:
        exported.samples = done

    exported.data = write_samples(chain([first], samples), f"{run.name}-play", out, count)
    return exported


def _nothing(run: Run, actor: str, successes: bool, exported: Exported) -> UsageError:
    others = ", ".join(sorted(exported.actors))
    who = f" Those who played: {others}." if others else ""
    kind = "step in a successful episode" if successes else "step"
    words = [f"{run.name} has no {kind} played by '{actor}'.{who}", *exported.left_out[:3]]
    return UsageError(" ".join([*words, f"Play some: vlmagent play TASK --human {command('--run', run)}"]))


def _samples(run: Run, actor: str, successes: bool, exported: Exported) -> Iterator[SftSample]:
    # a session in a folder of its own is a `run.db`; sessions beside a run lie in `plays/`
    for database in [run.database, *sorted(run.plays.glob("*.db"))]:
        if not database.is_file():
            continue
        try:
            yield from _of_session(database, actor, successes, exported)
        except (StoreError, UsageError) as error:
            # one damaged session must not cost the others
            exported.left_out.append(str(error))


def _of_session(database: Path, actor: str, successes: bool, exported: Exported) -> Iterator[SftSample]:
    with StoreReader(database) as reader:
        run = reader.run()
        # `or None`: without `successes` failures are wanted too, not only them
        episodes = reader.episodes(split="play", success=successes or None, order="oldest", limit=-1)
        if run is None or not episodes:
            return
        task = task_from_config(validate(Config, json.loads(run.config_json)))
        for episode in episodes:
            rows = reader.transitions(episode.id)
            exported.actors |= {_player(row) for row in rows} - {LOGGED, ""}
            if any(_is_of(row, actor) for row in rows):
                try:
                    # a list first: when the episode turns out not to repeat itself, none of its samples are given out
                    yield from list(_of_episode(task, episode, rows, actor))
                except ValueError as error:
                    exported.left_out.append(f"Episode {episode.id} of {database.name}: {error}.")


def _of_episode(
    task: Task, episode: EpisodeRow, rows: Iterable[TransitionRow], actor: str
) -> Iterator[SftSample]:
    """The samples of one episode, played again; not of actions that the rules refuse, such as a card not held.

    Raises:
        ValueError: the environment does not answer as it did then.
    """
    env = task.make_env()
    try:
        image, state = env.reset(seed=episode.seed)
        for row in rows:
            observation = task.observe(image, state)
            wanted = _is_of(row, actor) and row.legal_output
            # a model's own output stands as it was; a person's response is written by the expert, for the person's
            # action
            response = (row.output or task.expert_response(state, row.action)) if wanted else ""
            action = task.env_action(row.action, observation)
            after, reward, _, _, state = env.step(action)
            # the simplest sign that the environment has drifted: same seed and actions, other reward
            if float(reward) != row.reward:
                raise ValueError(
                    f"its environment gave {row.reward:g} in step {row.step + 1} and {reward:g} now"
                )
            if wanted and state.get("illegal") is not True:
                yield SftSample(image, row.prompt, response)
            image = after
    finally:
        env.close()


def _is_of(row: TransitionRow, actor: str) -> bool:
    """Whether a step is wanted; those repeated from another log were not played."""
    player = _player(row)
    return player not in ("", LOGGED) if actor == ANY else player == actor


def _player(row: TransitionRow) -> str:
    """Who acted, a model without its checkpoint."""
    return (row.actor or "").partition(" ")[0]
