"""What of a run's config may still change when the run goes on, and when.

A run's weights, and the steps it has logged, come from the config it was begun with. Each key is of one class: it is
fixed once training has begun, it may change between two updates, while at most one update is logged beyond the newest
checkpoint, or at any time. Knows nothing of files: ``Standing`` says how far the run is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from vlmagent.config.sections import Config
from vlmagent.errors import UsageError

BUILT_IN_MODELS = ("tiny", "sft")
"""Values of ``model.name``, ``cnn.vision`` and ``cnn.text`` that are no place of a model."""


class When(Enum):
    """When a key may change."""

    NEVER = "never"
    NOT_BEGUN = "before anything was trained"
    MOVED = "from one place of the same model to another"
    BETWEEN_UPDATES = "when no step is logged beyond the newest checkpoint"
    ONE_UPDATE = "when at most one update is logged beyond the newest checkpoint"
    ANY = "at any time"


@dataclass(frozen=True, slots=True)
class Rule:
    """When a key may change; ``why`` not at other times, as the rest of a sentence after "because"."""

    when: When
    why: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One key of a config that has another value than before; None stands for a key that is not there."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key} {shown(self.old)} -> {shown(self.new)}"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a run is.

    Attributes:
        begun: whether it has weights or steps that come from its config.
        saved: environment steps of the newest checkpoint; 0 without one.
        logged: environment steps in the database, all of them; None where it cannot be read.
    """

    begun: bool
    saved: int
    logged: int | None


_ANY = Rule(When.ANY)
_GAME = Rule(When.NOT_BEGUN, "its weights and steps come from the game as it was then")
_SIZE = Rule(When.NOT_BEGUN, "the weights it has were made with the old value")
_DRAWN = Rule(When.NOT_BEGUN, "its samples, episodes and first weights were drawn with the old value")
_SFT = Rule(When.NOT_BEGUN, "its supervised start was made with the old value")
_MOVED = Rule(When.MOVED, "its weights belong to the model it was begun with, which may only have been moved")
_SAMPLED = Rule(
    When.BETWEEN_UPDATES, "the steps of the update that it has begun to collect were made with the old value"
)
# What is logged beyond the newest checkpoint is replayed and learnt again. The steps of one update were sampled by the
# checkpoint's own weights; those of a second one by what the first made of them, with the settings of then.
_LEARNT = Rule(
    When.ONE_UPDATE,
    "it has logged more than one update beyond its newest checkpoint, and the later steps were sampled by weights that "
    "learnt with the old value",
)

RULES: Mapping[str, Rule] = {
    "task": Rule(When.NEVER, "it is a run of that task"),
    "agent": Rule(When.NEVER, "it is a run of that kind of agent"),
    "seed": _DRAWN,
    "cot": _GAME,
    "rule_set": _GAME,
    "env": _GAME,
    "model.name": _MOVED,
    "model.tiny": _SIZE,
    "model.lora": _SIZE,
    "model.train_vision": _SIZE,
    "model.tiles": Rule(When.NOT_BEGUN, "its weights learnt from pictures that were cut as then"),
    "model.dtype": _SIZE,
    "model.quantization": _SIZE,
    "model.activation_checkpointing": _ANY,
    "model.value_head": _SIZE,
    "model.device": _ANY,
    "model.threads": _ANY,
    "cnn": _SIZE,
    "cnn.vision": _MOVED,
    "cnn.text": _MOVED,
    "cnn.lr": _LEARNT,
    "cnn.final_lr": _LEARNT,
    "cnn.entropy_coef": _LEARNT,
    "sft": _SFT,
    "sft.micro_batch_size": _ANY,
    "sft.checkpoint_every": _ANY,
    "rollout.num_envs": Rule(When.NOT_BEGUN, "its checkpoints hold the states of that many environments"),
    "rollout.temperature": _SAMPLED,
    "rollout.max_new_tokens": _ANY,
    "ppo.env_steps": _LEARNT,  # the learning rate falls towards it
    # asked only where the log ends: no step that is logged is ever thrown away for it
    "ppo.stop_when": _ANY,
    "ppo.steps_per_update": _SAMPLED,
    "ppo.epochs": _LEARNT,
    "ppo.minibatch_size": _LEARNT,
    "ppo.micro_batch_size": _ANY,
    "ppo.max_tokens_per_micro_batch": _ANY,
    "ppo.lr": _LEARNT,
    "ppo.final_lr": _LEARNT,
    "ppo.schedule_updates": _LEARNT,
    "ppo.value_lr": _LEARNT,
    "ppo.critic_warmup": _LEARNT,
    "ppo.clip": _LEARNT,
    "ppo.value_coef": _LEARNT,
    "ppo.value_scale": Rule(When.NOT_BEGUN, "its critic learnt in that unit"),
    "ppo.value_clip": _LEARNT,
    "ppo.detach_value": _LEARNT,
    "ppo.kl_coef": _LEARNT,
    "ppo.entropy_coef": _LEARNT,
    "ppo.max_grad_norm": _LEARNT,
    "ppo.gamma": _LEARNT,
    "ppo.gae_lambda": _LEARNT,
    "ppo.thought_weight": _LEARNT,
    "ppo.normalize_advantages": _LEARNT,
    "ppo.target_kl": _LEARNT,
    "ppo.max_skipped": _ANY,
    "distributed": _ANY,
    "checkpoint": _ANY,
    "store": _ANY,
    "eval": _ANY,
}
"""Rules by key, or by the section that a key lies in; the longest counts. A new key of a section that is not named here
as a whole has to be added."""


def rule_of(key: str) -> Rule:
    """The rule of a key.

    Raises:
        KeyError: nobody has decided on it yet.
    """
    parts = key.split(".")
    # the longest rule counts: "sft.micro_batch_size" before "sft"
    for length in range(len(parts), 0, -1):
        rule = RULES.get(".".join(parts[:length]))
        if rule is not None:
            return rule
    raise KeyError(f"config.changes has no rule for '{key}'")


def differences(old: Config, new: Config) -> list[Change]:
    """The keys in which two configs differ, options of the environment included, in the order of the sections."""
    before, after = _leaves(old), _leaves(new)
    # keys of old first; options of the environment may be in one of them only
    keys = [*before, *(key for key in after if key not in before)]
    changes = (Change(key, before.get(key), after.get(key)) for key in keys)
    return [change for change in changes if change.old != change.new]


def _leaves(config: Config) -> dict[str, Any]:
    """Every value by its dotted key, as JSON has it."""
    return dict(_flat(config.model_dump(mode="json"), ""))


def _flat(section: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        # an empty mapping has no leaves: a section without options is no difference
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def steps_in_all(config: Config, done: int) -> int:
    """Environment steps at the end of a run that has done ``done`` in whole updates: as many updates follow as fit."""
    size = config.ppo.steps_per_update
    return done + max(0, config.ppo.env_steps - done) // size * size


def check_changes(run: str, old: Config, new: Config, standing: Standing) -> list[Change]:
    """Refuse what can no longer change on a run that stands where ``standing`` says.

    Args:
        run: what to call it, in the middle of a sentence.

    Returns:
        The changes, all of them allowed.

    Raises:
        UsageError: names each key that is fixed, both values, why, and what to do.
    """
    changes = differences(old, new)
    refused = [line for change in changes if (line := _refusal(run, change, old, standing))]
    if not refused and {"ppo.env_steps", "ppo.steps_per_update"} & {change.key for change in changes}:
        refused = list(_goal_refusal(run, new, standing))
    if refused:
        raise UsageError("\n".join(refused))
    return changes


def _refusal(run: str, change: Change, old: Config, standing: Standing) -> str | None:
    """Why a change is refused, or None."""
    rule = rule_of(change.key)
    # task and kind of agent stand from the moment a run is made
    if rule.when is When.ANY or (not standing.begun and rule.when is not When.NEVER):
        return None
    said = f"{change.key} = {shown(change.new)} cannot be set on {run}, which has {shown(change.old)}: "
    new_run = "Leave it out, or start a new run with it."
    if rule.when is When.MOVED:
        # from or to the built-in model is no move: these are other weights
        moved = change.old not in BUILT_IN_MODELS and change.new not in BUILT_IN_MODELS
        return None if moved else f"{said}{rule.why}. {new_run}"
    if rule.when in (When.NEVER, When.NOT_BEGUN):
        return f"{said}{rule.why}. {new_run}"
    if standing.logged is None:
        return f"{said}how far it is cannot be read from its database. Continue it once without a change."
    # what one update has logged was sampled by the checkpoint's own weights (see `_LEARNT`)
    allowed = 0 if rule.when is When.BETWEEN_UPDATES else old.ppo.steps_per_update
    beyond = standing.logged - standing.saved
    if beyond <= allowed:
        return None
    return f"{said}{rule.why} ({beyond:,} steps are logged beyond step-{standing.saved}). {_later(rule)}"


def _later(rule: Rule) -> str:
    if rule.when is When.ONE_UPDATE:
        # the checkpoint that is written when a run is stopped is at most one update behind the log
        return "Continue without it, stop the run once it has caught up, and set it then."
    return "Leave it out, or set it when the run is done, together with a higher ppo.env_steps."


def _goal_refusal(run: str, new: Config, standing: Standing) -> Iterable[str]:
    """Why a goal is too low: the steps that are logged are never thrown away, but learnt from in whole updates."""
    # nothing is logged, how much cannot be read, or the goal lies beyond it
    if not standing.begun or standing.logged is None or steps_in_all(new, standing.saved) >= standing.logged:
        return
    size = new.ppo.steps_per_update
    # rounded up to whole updates from the checkpoint on
    least = standing.saved + -(-(standing.logged - standing.saved) // size) * size
    yield (
        f"ppo.env_steps = {new.ppo.env_steps} is less than {run} has done: {standing.logged:,} steps. "
        f"With ppo.steps_per_update = {size} it must be at least {least}."
    )


def shown(value: Any) -> str:
    """A value as a config file and ``--set`` have it."""
    return value if isinstance(value, str) else json.dumps(value)
