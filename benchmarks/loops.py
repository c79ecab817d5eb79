"""Whole training loops to be timed: ours, and the schedule of the paper's code, on the same model and the same store.

The paper's code plays one environment, writes an output, scores it again, and learns from one sample at a time. Here
that is the same program with ``rollout.num_envs=1``, ``ppo.micro_batch_size=1``, outputs scored again, and
transformers' own forward pass and ``generate`` throughout.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bare import Call, Recorder
from vlmagent.config import Config, dump_config, find_config, load_config
from vlmagent.models.policy import Policy
from vlmagent.paths import Run
from vlmagent.store.writer import StoreWriter
from vlmagent.tasks.base import Task
from vlmagent.tasks.registry import task_from_config
from vlmagent.training.checkpoint import TrainerState
from vlmagent.training.learners import initial_network
from vlmagent.training.loop import PpoLoop

PAPERS_SCHEDULE = {
    "rollout": {"num_envs": 1},
    # few steps: one by one they cost the same however many there are
    "ppo": {"micro_batch_size": 1, "steps_per_update": 32, "minibatch_size": 32},
}


@dataclass(frozen=True, slots=True)
class Timed:
    """One environment step of a loop with its share of learning: wall and processor seconds."""

    wall: float
    processor: float


class _ScoredAgain(Policy):
    """A policy whose outputs are scored a second time after they were written."""

    @property
    def exact(self) -> bool:
        """Never: see ``make_agent``."""
        return False


class _Clocked(StoreWriter):
    """A writer that notes when each update ended."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.marks: list[tuple[float, float]] = []

    def metrics(self, update_index: int, env_steps: int, values: Mapping[str, float]) -> None:
        """See ``StoreWriter``."""
        self.marks.append((time.perf_counter(), time.process_time()))
        super().metrics(update_index, env_steps, values)


class _Mute(_Clocked):
    """The same, of which nothing is written: what is left when logging costs nothing."""

    def episode_started(self, episode: Any) -> None:
        """Not written."""

    def transition(self, transition: Any) -> None:
        """Not written."""

    def episode_ended(self, end: Any) -> None:
        """Not written."""

    def advantages(self, *_: Any) -> None:
        """Not written."""

    def commit(self) -> None:
        """Nothing to commit."""


def config_of(task: str, over: Mapping[str, Any], updates: int) -> Config:
    """The shipped recipe for so many updates, whatever it has learnt by then."""
    shipped = load_config(find_config(task))
    ppo = {"steps_per_update": shipped.ppo.steps_per_update, **over.get("ppo", {})}
    ppo["env_steps"] = updates * ppo["steps_per_update"]
    ppo["stop_when"] = {"success": 0}
    return load_config(find_config(task), {**over, "ppo": ppo})


def start(config: Config) -> tuple[Task, Policy]:
    """The task and its supervised start, from the cache or trained now."""
    task = task_from_config(config)
    with tempfile.TemporaryDirectory() as folder:
        network, _ = initial_network(config, task, lambda _: None, lambda: False, Run(Path(folder)))
    assert isinstance(network, Policy)
    return task, network


def loop(
    task_name: str, updates: int, *, paper: bool = False, mute: bool = False, record: list[Call] | None = None
) -> Timed:
    """Train from the supervised start; the first update is not counted.

    Args:
        updates: so many, at least 2.
        paper: by the schedule of the paper's code.
        mute: without logging.
        record: is given the passes of the updates that count.
    """
    config = config_of(task_name, PAPERS_SCHEDULE if paper else {}, updates)
    task, network = start(config)
    if paper:
        network.__class__ = _ScoredAgain
        network.passes = network.padded_passes()
    recorder = Recorder(network.passes)
    if record is not None:
        network.passes = recorder
    with tempfile.TemporaryDirectory() as folder, _own_run(Path(folder)) as run:
        run.config_file.write_text(dump_config(config))
        with (_Mute if mute else _Clocked)(run.database) as writer:
            settings = json.dumps(config.model_dump(mode="json"))
            writer.start_run("benchmark", task_name, "tiny", settings, config.seed)
            begun: list[int] = []

            def note() -> bool:
                if len(writer.marks) == 1 and not begun:
                    begun.append(len(recorder.calls))
                return False

            with PpoLoop(run, config, task, network, TrainerState(0, 0, None, None), writer, note) as going:
                going.run()
            marks = writer.marks
    if record is not None:
        record += recorder.calls[begun[0] :]
    steps = (len(marks) - 1) * config.ppo.steps_per_update
    return Timed((marks[-1][0] - marks[0][0]) / steps, (marks[-1][1] - marks[0][1]) / steps)


@contextlib.contextmanager
def _own_run(folder: Path) -> Iterator[Run]:
    """A run's folder, and runs of its own around it."""
    before = os.environ.get("VLMAGENT_RUNS")
    os.environ["VLMAGENT_RUNS"] = str(folder)
    run = Run(folder / "run")
    run.path.mkdir()
    try:
        yield run
    finally:
        if before is None:
            del os.environ["VLMAGENT_RUNS"]
        else:
            os.environ["VLMAGENT_RUNS"] = before
