"""What ``train --plan`` prints: the plan's numbers as text and one table. Reads nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from vlmagent.cli.grid import Column, Grid, cell
from vlmagent.text import duration

if TYPE_CHECKING:
    from vlmagent.training.plan.plan import Cost, TrainingPlan

# decimal, as disks and cards are sold
MB = 10**6
GB = 10**9


def plan_view(plan: TrainingPlan) -> Group:
    """Model, data and work; then memory and time by device."""
    lines = [Text(f"{plan.model} ({plan.family}) on {plan.config.task}", style="bold"), Text()]
    lines += [Text(line) for line in (*_model(plan), *_work(plan))]
    lines.append(Text())
    after = [Text(f"Warning: {warning}", style="yellow") for warning in plan.warnings]
    after += [Text(note, style="dim") for note in plan.notes]
    return Group(*lines, _costs(plan), Text(), *(Text(line) for line in _places(plan)), Text(), *after)


def _model(plan: TrainingPlan) -> list[str]:
    total = sum(part.total for part in plan.parts)
    trained = [f"{part.name} {part.trained:,}" for part in plan.parts if part.trained]
    return [
        f"trainable parameters   {plan.trained:,} of {total:,} in the model",
        *(f"                       {line}" for line in trained),
        f"value head             {plan.value_head:,} more",
    ]


def _work(plan: TrainingPlan) -> list[str]:
    tokens, config = plan.tokens, plan.config
    ppo = config.ppo
    rows = {cost.rows for cost in plan.costs}
    return [
        f"tokens per sample      about {tokens.total:,}: picture {tokens.picture:,}, prompt about {tokens.prompt:,}, "
        f"output about {tokens.output:,}",
        f"micro-batch            {max(rows):,} samples ({max(rows) * tokens.total:,} tokens), "
        f"minibatch {ppo.minibatch_size:,}",
        f"supervised start       {config.sft.samples:,} samples, "
        # division rounded up: the last batch may be smaller
        f"{-(-config.sft.samples // config.sft.batch_size):,} steps of {config.sft.batch_size:,}",
        f"PPO                    {plan.updates:,} updates of {ppo.steps_per_update:,} env steps, "
        f"{plan.optimizer_steps:,} optimiser steps",
        *_sooner(plan),
        *_shares(plan),
    ]


def _sooner(plan: TrainingPlan) -> list[str]:
    """What may end PPO before that."""
    stop = plan.config.ppo.stop_when
    if not stop.success:
        return []
    return [
        f"fewer of them          once success is {100 * stop.success:g} % over {stop.episodes:,} episodes"
    ]


def _shares(plan: TrainingPlan) -> list[str]:
    """What each of several processes does."""
    share, config = plan.share, plan.config
    if share.processes == 1:
        return []
    machines = f" on {share.machines} machines" if share.machines > 1 else ""
    return [
        f"processes              {share.processes:,}{machines}, ZeRO stage {share.stage}",
        f"each of them           {share.part(config.rollout.num_envs):,} environments, "
        f"{share.part(config.ppo.minibatch_size):,} samples of a minibatch, "
        f"{share.part(config.sft.batch_size):,} of a fine-tuning batch",
    ]


def _costs(plan: TrainingPlan) -> Grid:
    columns = [Column("estimated, per process" if plan.share.processes > 1 else "estimated")]
    for cost in plan.costs:
        where = "here" if cost.hardware.here else "to compare"
        name = cost.hardware.name
        if cost.hardware.kind == "cuda" and plan.share.processes > 1:
            name = f"{plan.share.processes} x {name}"
        columns.append(Column(f"{name}\n({where})", "number"))
    grid = Grid(columns)
    for label, write in _ROWS:
        # a line of zeros in every column says nothing
        if label in _OPTIONAL and not any(_OPTIONAL[label](cost) for cost in plan.costs):
            continue
        grid.add(cell(label), *(cell(write(plan, cost)) for cost in plan.costs))
    return grid


def _places(plan: TrainingPlan) -> list[str]:
    """What is written where, what the machine's own memory has to hold, what was looked at."""
    lines = [
        f"on disk                {_memory(room.needed)} for {room.what}, in {room.folder} ({_memory(room.free)} free)"
        for room in plan.rooms
    ]
    host = next((cost.host for cost in plan.costs if cost.host), None)  # the same for every kind of GPU
    if host is not None:
        lines.append(
            f"memory of the machine  {_memory(host.loading)} while the weights are opened, {_memory(host.training)} "
            "later (encoded pictures, a checkpoint being written)"
        )
    return [*lines, f"checked                {plan.checked}"]


def _memory(amount: float | None) -> str:
    if amount is None:
        return "-"
    if 0 < amount < GB / 10:  # the built-in model's numbers would all be 0.0 GB
        return f"{amount / MB:,.1f} MB"
    return f"{amount / GB:,.1f} GB"


def _time(cost: Cost, time: float) -> str:
    return duration(time) if cost.fits else "-"


def _tuning(cost: Cost) -> float | None:
    tuning = cost.held.tuning_pass
    return None if tuning is None else tuning.total


Row = tuple[str, Callable[["TrainingPlan", "Cost"], str]]

_EXCHANGE = "exchange of gradients"
_OPTIONAL: dict[str, Callable[[Cost], float]] = {
    _EXCHANGE: lambda cost: cost.held.memory.exchange,
    "reference of ppo.kl_coef": lambda cost: cost.held.reference,
    "kept picture features, at most": lambda cost: cost.held.pictures,
    "adapters again in bfloat16": lambda cost: cost.held.casts,
}
"""Lines that most plans would show zeros in."""
_ROWS: tuple[Row, ...] = (
    ("precision of the weights", lambda plan, cost: cost.dtype),
    ("weights, adapters, value head", lambda plan, cost: _memory(cost.held.memory.weights)),
    ("their gradients, float32", lambda plan, cost: _memory(cost.held.memory.gradients)),
    ("AdamW's two moments, float32", lambda plan, cost: _memory(cost.held.memory.optimizer)),
    *((name, lambda plan, cost, of=of: _memory(of(cost))) for name, of in _OPTIONAL.items()),
    ("sampling: keys and values", lambda plan, cost: _memory(cost.held.sampling.cache)),
    ("sampling: at its fullest", lambda plan, cost: _memory(cost.held.sampling.total)),
    ("learning: kept activations", lambda plan, cost: _memory(cost.held.learning.activations)),
    ("learning: float32 logits", lambda plan, cost: _memory(cost.held.learning.logits)),
    ("learning: at its fullest", lambda plan, cost: _memory(cost.held.learning.total)),
    ("supervised start: the same", lambda plan, cost: _memory(_tuning(cost))),
    ("peak with a reserve", lambda plan, cost: _memory(cost.held.peak)),
    ("memory there is", lambda plan, cost: _memory(cost.hardware.memory)),
    ("does it fit", lambda plan, cost: "yes" if cost.fits else "no"),
    ("one update: collecting", lambda plan, cost: _time(cost, cost.time.collect)),
    ("one update: learning", lambda plan, cost: _time(cost, cost.time.update)),
    ("the supervised start", lambda plan, cost: _time(cost, cost.time.sft)),
    (
        "all PPO updates",
        lambda plan, cost: _time(cost, plan.updates * (cost.time.collect + cost.time.update)),
    ),
)
