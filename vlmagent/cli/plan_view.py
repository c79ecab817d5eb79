"""What ``train --plan`` prints: the plan's numbers as text and one table. Reads nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from vlmagent.cli.grid import Column, Grid, cell
from vlmagent.text import duration

if TYPE_CHECKING:
    from vlmagent.training.plan.plan import Cost, Plan

GB = 10**9


def plan_view(plan: Plan) -> Group:
    """Model, data and work; then memory and time by device."""
    lines = [Text(f"{plan.model} ({plan.family}) on {plan.config.task}", style="bold"), Text()]
    lines += [Text(line) for line in (*_model(plan), *_work(plan))]
    lines.append(Text())
    return Group(*lines, _costs(plan), Text(), *(Text(note, style="dim") for note in plan.notes))


def _model(plan: Plan) -> list[str]:
    total = sum(part.total for part in plan.parts)
    trained = [f"{part.name} {part.trained:,}" for part in plan.parts if part.trained]
    return [
        f"trainable parameters   {plan.trained:,} of {total:,} in the model",
        *(f"                       {line}" for line in trained),
        f"value head             {plan.value_head:,} more",
    ]


def _work(plan: Plan) -> list[str]:
    tokens, config = plan.tokens, plan.config
    ppo = config.ppo
    rows = {cost.rows for cost in plan.costs}
    return [
        f"tokens per sample      about {tokens.total:,}: picture {tokens.picture:,}, prompt about {tokens.prompt:,}, "
        f"output about {tokens.output:,}",
        f"micro-batch            {max(rows):,} samples ({max(rows) * tokens.total:,} tokens), "
        f"minibatch {ppo.minibatch_size:,}",
        f"supervised start       {config.sft.samples:,} samples, "
        f"{-(-config.sft.samples // config.sft.batch_size):,} steps of {config.sft.batch_size:,}",
        f"PPO                    {plan.updates:,} updates of {ppo.steps_per_update:,} env steps, "
        f"{plan.optimizer_steps:,} optimiser steps",
        *_shares(plan),
    ]


def _shares(plan: Plan) -> list[str]:
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


def _costs(plan: Plan) -> Grid:
    columns = [Column("estimated, per process" if plan.share.processes > 1 else "estimated")]
    for cost in plan.costs:
        where = "here" if cost.hardware.here else "to compare"
        name = cost.hardware.name
        if cost.hardware.kind == "cuda" and plan.share.processes > 1:
            name = f"{plan.share.processes} x {name}"
        columns.append(Column(f"{name}\n({where})", "number"))
    grid = Grid(columns)
    for label, write in _ROWS:
        if label == _EXCHANGE and plan.share.processes == 1:
            continue
        grid.add(cell(label), *(cell(write(plan, cost)) for cost in plan.costs))
    return grid


def _memory(amount: float) -> str:
    return f"{amount / GB:,.1f} GB"


def _time(cost: Cost, seconds: float) -> str:
    return duration(seconds) if cost.fits else "-"


_EXCHANGE = "exchange of gradients"
_ROWS = (
    ("precision of the weights", lambda plan, cost: cost.dtype),
    ("weights and adapters", lambda plan, cost: _memory(cost.memory.weights)),
    ("their gradients", lambda plan, cost: _memory(cost.memory.gradients)),
    ("the optimiser's state", lambda plan, cost: _memory(cost.memory.optimizer)),
    (_EXCHANGE, lambda plan, cost: _memory(cost.memory.exchange)),
    ("generating, above that", lambda plan, cost: _memory(cost.generation)),
    ("micro-batch, above that", lambda plan, cost: _memory(cost.micro_batch)),
    ("peak with a reserve", lambda plan, cost: _memory(cost.peak)),
    ("memory there is", lambda plan, cost: _memory(cost.hardware.memory)),
    ("does it fit", lambda plan, cost: "yes" if cost.fits else "no"),
    ("one update: collecting", lambda plan, cost: _time(cost, cost.collect)),
    ("one update: learning", lambda plan, cost: _time(cost, cost.update)),
    ("the supervised start", lambda plan, cost: _time(cost, cost.sft)),
    ("all PPO updates", lambda plan, cost: _time(cost, plan.updates * (cost.collect + cost.update))),
)
