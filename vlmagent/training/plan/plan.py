"""``vlmagent train --plan``: what a run would train and take, without weights, network or a run.

Memory and time are estimates; the constants in ``memory`` and ``speed`` say what they rest on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vlmagent.config import Config
from vlmagent.errors import UsageError
from vlmagent.models.architectures import find_architecture
from vlmagent.models.families import Family
from vlmagent.models.lora import Part, count_parts
from vlmagent.models.value_head import ValueHead
from vlmagent.tasks.registry import BUILT_IN, task_from_config
from vlmagent.training.plan.hardware import REFERENCES, Hardware, find_hardware
from vlmagent.training.plan.memory import Held, held, rows_per_micro_batch
from vlmagent.training.plan.places import Host, Room, host_memory, rooms
from vlmagent.training.plan.share import Share
from vlmagent.training.plan.sizes import Sizes, Tokens, build_on_meta, built_in, count_tokens
from vlmagent.training.plan.speed import Seconds, seconds


@dataclass(frozen=True, slots=True)
class Cost:
    """A run on one kind of device: what one process takes of it.

    Attributes:
        hardware: what one process has of it.
        rows: samples of average length that go through the network together.
        host: memory of a machine with such devices; None where the device is the machine's own CPU.
    """

    hardware: Hardware
    held: Held
    time: Seconds
    rows: int
    host: Host | None

    @property
    def dtype(self) -> str:
        """Precision of the network's own weights."""
        return "bfloat16" if self.held.half else "float32"

    @property
    def fits(self) -> bool:
        """Whether one device has as much memory as the fullest moment takes."""
        return self.held.peak <= self.hardware.memory


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Everything that ``--plan`` prints.

    Attributes:
        checked: what was looked at, and what will be only when the training begins.
        rooms: on the disks.
        warnings: what would end such a run here.
        notes: what else a reader should know.
    """

    config: Config
    share: Share
    model: str
    family: str
    parts: Sequence[Part]
    value_head: int
    tokens: Tokens
    updates: int
    optimizer_steps: int
    costs: Sequence[Cost]
    rooms: Sequence[Room]
    checked: str
    warnings: Sequence[str]
    notes: Sequence[str]

    @property
    def trained(self) -> int:
        """Trained parameters of the network."""
        return sum(part.trained for part in self.parts)


def make_plan(config: Config, run_dir: Path | None = None) -> TrainingPlan:
    """What ``config`` would train and take, on this machine and on GPUs to compare with.

    Args:
        run_dir: where the run is to lie; None for the usual place.

    Raises:
        UsageError: nothing is known of the model, or the agent is none that writes.
    """
    settings = config.model
    if config.agent != "vlm":
        raise UsageError(
            "--plan knows the agent 'vlm' only: the baseline 'cnn' is a small network that trains in minutes on two "
            "CPU cores. Leave --agent out to see what the language model would take."
        )
    task = task_from_config(config)
    if settings.name == "tiny":
        architecture, processor = built_in(config, task)
    else:
        architecture, processor = find_architecture(settings.name), None
    network, family = build_on_meta(architecture, settings)
    tokens = count_tokens(config, task, architecture, family, network.config, processor)
    # nothing is computed: the head's parameters are only counted
    with torch.device("meta"):
        head = ValueHead(network.config.get_text_config().hidden_size, settings.value_head)
    value_head = sum(parameter.numel() for parameter in head.parameters())
    sizes = Sizes.of(network, value_head)
    share = Share.of(config)
    found = find_hardware()
    costs = [estimate(config, sizes, tokens, hardware) for hardware in _devices(config, found)]
    places = rooms(config, sizes, run_dir)
    # optimiser steps: an epoch's last minibatch may be smaller
    per_update = -(-config.ppo.steps_per_update // config.ppo.minibatch_size) * config.ppo.epochs
    return TrainingPlan(
        config=config,
        share=share,
        model=architecture.name,
        family=network.config.model_type,
        parts=count_parts(network),
        value_head=value_head,
        tokens=tokens,
        updates=config.num_updates,
        optimizer_steps=config.num_updates * per_update,
        costs=costs,
        rooms=places,
        checked=_checked(config),
        warnings=_warnings(costs, places),
        notes=[*_notes(config, family, network), *_notes_on_several(config, share, found)],
    )


def _devices(config: Config, found: Hardware) -> list[Hardware]:
    """The device here, and those to compare with where it is no GPU."""
    # the built-in model is made for CPUs: a large GPU says nothing about it
    others = [] if found.kind == "cuda" or config.model.name == "tiny" else list(REFERENCES)
    # a run for a GPU that is not here: this machine's CPU says nothing about it
    return others if config.model.device == "cuda" and others else [found, *others]


def estimate(config: Config, sizes: Sizes, tokens: Tokens, hardware: Hardware) -> Cost:
    """Memory and time of a run whose processes each have one such device, or their part of the CPU."""
    share = Share.of(config)
    hardware = share.device(hardware)
    memory = held(config, sizes, tokens, share, hardware)
    return Cost(
        hardware=hardware,
        held=memory,
        time=seconds(config, sizes, tokens, share, hardware),
        rows=rows_per_micro_batch(config, tokens),
        host=host_memory(config, sizes, share, memory) if hardware.kind == "cuda" else None,
    )


def _checked(config: Config) -> str:
    """What ``training.preflight`` could look at without weights, and what it will look at when they are there."""
    if config.task in BUILT_IN:
        return "nothing yet: the environment and the network are looked at when the training begins"
    return "one reset and one step of the environment; the network is looked at when the training begins"


def _warnings(costs: Sequence[Cost], places: Sequence[Room]) -> list[str]:
    """What would end such a run on this machine."""
    warnings = [
        f"Not enough room for {room.what}: about {_gb(room.needed)} would be written to {room.folder}, and "
        f"{_gb(room.free)} are free. Free some space, choose another place (--run-dir, $VLMAGENT_RUNS, "
        "$VLMAGENT_CACHE), or keep fewer checkpoints (--set checkpoint.keep_last=1 --set checkpoint.keep_every=0)."
        for room in places
        if not room.enough
    ]
    hosts = [cost.host for cost in costs if cost.hardware.here and cost.host]
    return warnings + [
        f"The machine's own memory may run out: about {_gb(host.needed)} are needed, most of it while every process "
        f"opens the weights, and there are {_gb(host.there)}."
        for host in hosts
        if host.needed > host.there
    ]


def _gb(amount: float) -> str:
    return f"{amount / 10**9:,.1f} GB"


def _notes(config: Config, family: Family, network: Any) -> list[str]:
    """What a reader should know beside the numbers."""
    settings = config.model
    counted = "tokens" if settings.name == "tiny" else "characters"
    notes = [
        f"Memory and time are estimates; prompts and outputs are counted by their {counted}, and for memory outputs "
        f"at their longest ({config.rollout.max_new_tokens:,} tokens)."
    ]
    unused = family.unused_modules(network.config)
    if unused and settings.lora.enabled and not settings.lora.skip_unused and settings.train_vision:
        # only adapters learn there: the layer's own weights are frozen
        with_adapters = sum(p.numel() for name, p in network.named_parameters() if _is_unused(unused, name))
        notes.append(
            f"{with_adapters:,} of these parameters sit in a vision layer that the model never reads and get no "
            "gradient; the paper's setting counts them. model.lora.skip_unused=true leaves them out: "
            f"{sum(part.trained for part in count_parts(network)) - with_adapters:,}."
        )
    return notes


def _notes_on_several(config: Config, share: Share, found: Hardware) -> list[str]:
    """What several processes change, and whether this machine has what they need."""
    if share.processes == 1:
        return []
    notes = ["Times leave out what processes wait for each other; ZeRO's stage 3 waits in every layer."]
    here = found.count if found.kind == "cuda" else 0
    wanted = -(-share.processes // share.machines)
    if config.model.device != "cpu" and here < wanted:
        notes.append(f"The run needs {wanted} GPUs on each machine; torch sees {here} here.")
    return notes


def _is_unused(pattern: str, name: str) -> bool:
    return "lora_" in name and re.fullmatch(pattern, name) is not None
