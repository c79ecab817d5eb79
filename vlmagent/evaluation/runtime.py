"""How long a reproduction will take: from earlier runs of the same kind, else from a miniature one made for it."""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmagent.config import Config, load_config
from vlmagent.errors import RunFailedError, StoreError, UsageError
from vlmagent.evaluation.report.runs import Library
from vlmagent.evaluation.reproduce import Work
from vlmagent.runs import folders, launch
from vlmagent.store.reader import StoreReader
from vlmagent.store.study import Durations, durations
from vlmagent.types import SFT_STAGES

STEPS_PER_EPISODE = 5
"""Assumed for evaluations, whose episodes were not played yet."""
# how much of a recipe is trained to measure its speed
PROBED_BATCHES, PROBED_UPDATES = 8, 2


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds per sample of supervised fine-tuning, and per environment step of RL, its updates included."""

    sample: float
    step: float


def seconds_needed(works: Sequence[Work], library: Library) -> float:
    """Seconds of all works one after the other."""
    speeds: dict[Hashable, Speed] = {}
    total = 0.0
    for work in works:
        config = work.config
        kind = _kind(config)
        if work.run is None:
            continue  # expert and chance: seconds
        if kind not in speeds:
            speeds[kind] = known_speed(config, library) or probe(config)
        total += _seconds(work, speeds[kind])
    return total


def _kind(config: Config) -> Hashable:
    """What decides how long a sample or a step takes."""
    return config.task, config.agent, config.cot, config.model.name, config.distributed.processes


def _seconds(work: Work, speed: Speed) -> float:
    config, seconds = work.config, 0.0
    if work.train:
        seconds += sft_samples(config) * speed.sample + config.ppo.env_steps * speed.step
    # an evaluation's step costs at most what one of training does: it leaves out the update
    played = len(work.checkpoints) * work.conditions.episodes * STEPS_PER_EPISODE
    return seconds + played * speed.step


def sft_samples(config: Config) -> int:
    """Samples of all stages of the supervised start."""
    # encoders that are not fine-tuned come ready-made
    if config.agent == "cnn" and "sft" not in (config.cnn.vision, config.cnn.text):
        return 0
    return config.sft.all_samples


def known_speed(config: Config, library: Library) -> Speed | None:
    """The slowest of the finished runs of the same task and kind; None without one.

    A start that came from the cache took no time, so that only the slowest run tells how long one takes.
    """
    found: list[Speed] = []
    for run in library.runs:
        try:
            other = load_config(run.config_file)
            if _kind(other) != _kind(config):
                continue
            with StoreReader(run.database) as reader:
                speed = _speed(durations(reader))
        except (UsageError, StoreError):
            continue
        if speed is not None:
            found.append(speed)
    if not found:
        return None
    return Speed(max(speed.sample for speed in found), max(speed.step for speed in found))


def _speed(measured: Durations) -> Speed | None:
    if not measured.env_steps or math.isnan(measured.updates):
        return None
    sample = (
        0.0 if math.isnan(measured.sft) or not measured.sft_samples else measured.sft / measured.sft_samples
    )
    return Speed(sample, measured.updates / measured.env_steps)


def probe(config: Config) -> Speed:
    """Train a miniature of a recipe in a folder of its own, and measure it.

    Raises:
        RunFailedError: it does not run at all.
    """
    # assumed: a sample of any stage takes as long as one of the main stage
    sft = config.sft.model_copy(
        update={
            **dict.fromkeys(SFT_STAGES, 0),
            "samples": PROBED_BATCHES * config.sft.batch_size,
        }
    )
    ppo = config.ppo.model_copy(update={"env_steps": PROBED_UPDATES * config.ppo.steps_per_update})
    small = config.model_copy(update={"sft": sft, "ppo": ppo})
    with tempfile.TemporaryDirectory(prefix="vlmagent-probe-") as place:
        run = folders.create_run(small, Path(place) / "run")
        # its own cache: a start taken from the user's would cost no time and tell nothing
        environment = {**os.environ, "VLMAGENT_RUNS": place, "VLMAGENT_CACHE": f"{place}/cache"}
        environment["PYTHONIOENCODING"] = "utf-8"
        done = subprocess.run(
            launch.daemon_command(run),
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            last = " ".join(done.stderr.strip().splitlines()[-3:])
            raise RunFailedError(f"A miniature of the recipe for {config.task} does not run: {last}")
        with StoreReader(run.database) as reader:
            speed = _speed(durations(reader))
    if speed is None:
        raise RunFailedError(f"A miniature of the recipe for {config.task} measured nothing.")
    return speed
