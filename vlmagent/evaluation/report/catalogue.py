"""What each table and figure of the paper shows: which tasks, which variants of the method, which baselines.

Knows recipes; it looks at no run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vlmagent.config import Config, available_configs, find_config, merge, read_yaml
from vlmagent.config.validation import validate
from vlmagent.errors import unknown_choice
from vlmagent.evaluation.published import TASKS

Measure = Literal["success", "return"]
THOUGHT_WEIGHTS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
"""Figure 7's values of the paper's lambda."""
SEEDS = 4
"""The paper's number of seeds (C.3)."""
LABELS = {
    "numberline": "NumberLine",
    "ezpoints": "EZPoints",
    "points24": "Points24",
    "blackjack": "Blackjack",
    "alfworld": "ALFWorld",
}
HOUSEHOLD = "alfworld"
"""A task with columns of its own, whose episodes are of several kinds."""
EQUAL_STEPS: Mapping[str, Any] = {"ppo": {"stop_when": {"success": 0}}}
"""What tables and figures change in every recipe: they compare runs of equally many environment steps."""


@dataclass(frozen=True)
class Variant:
    """A way to train: what it changes in a task's recipe."""

    name: str
    label: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


RL = Variant("rl", "RL with CoT")
NO_COT = Variant("nocot", "RL without CoT", {"cot": False})
CNN = Variant("cnn", "CNN+RL", {"agent": "cnn"})


def weighted(value: float) -> Variant:
    """The method with another weight of the thoughts."""
    return Variant(f"weight{value:g}", f"λ = {value:g}", {"ppo": {"thought_weight": value}})


@dataclass(frozen=True)
class Item:
    """One table or figure.

    Attributes:
        tasks: the paper's; those without a shipped recipe stay empty.
        more: others of the paper's, which take hours and another extra: only when they are asked for.
        variants: what is trained, once a seed.
        baselines: what is evaluated once.
        start: whether the supervised starts are evaluated too.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    variants: tuple[Variant, ...]
    baselines: tuple[str, ...] = ()
    start: bool = True
    measure: Measure = "success"
    more: tuple[str, ...] = ()

    @property
    def is_figure(self) -> bool:
        """Whether it is drawn."""
        return self.name.startswith("figure")


_OURS = ("expert", "random")
_CURVES = ("numberline", "ezpoints", "blackjack")
ITEMS = {
    item.name: item
    for item in (
        Item("table1", "Sums of thought and action log-probs", TASKS, (RL,), more=(HOUSEHOLD,)),
        Item("table2", "Success of all methods", TASKS, (CNN, NO_COT, RL), _OURS, more=(HOUSEHOLD,)),
        Item(
            "table3",
            "Success with and without chain of thought",
            TASKS,
            (RL, NO_COT),
            start=False,
            more=(HOUSEHOLD,),
        ),
        Item("table4", "Success and returns", TASKS, (CNN, RL), _OURS),
        Item("figure5", "Success during training", _CURVES, (RL, CNN), more=(HOUSEHOLD,)),
        Item(
            "figure6",
            "Training with and without chain of thought",
            _CURVES,
            (RL, NO_COT),
            start=False,
            more=(HOUSEHOLD,),
        ),
        Item(
            "figure7",
            "Training with different weights of the thoughts",
            ("numberline",),
            tuple(map(weighted, THOUGHT_WEIGHTS)),
            start=False,
        ),
        Item("figure18", "Returns during training", _CURVES, (RL, CNN), measure="return"),
    )
}


def find_item(name: str) -> Item:
    """A table or figure by name.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in ITEMS:
        raise unknown_choice("table or figure", name, ITEMS)
    return ITEMS[name]


def expected_config(task: str, variant: Variant, seed: int, overrides: Mapping[str, Any]) -> Config | None:
    """The config of a run that counts for a variant; None where no recipe ships for the task.

    Args:
        overrides: applied to every variant alike, also over ``EQUAL_STEPS``.
    """
    recipes = available_configs()
    special = f"{task}-{variant.name}"
    name = special if special in recipes else task
    if name not in recipes:
        return None
    data = merge(merge(read_yaml(find_config(name)), EQUAL_STEPS), variant.overrides)
    return validate(Config, merge(merge(data, overrides), {"seed": seed}))


def folder_name(task: str, variant: Variant, seed: int, overrides: Mapping[str, Any]) -> str:
    """Where ``reproduce`` puts a run; a weight that is the recipe's own shares the folder of the plain method."""
    plain = expected_config(task, RL, seed, overrides)
    own = expected_config(task, variant, seed, overrides)
    name = RL.name if own is not None and plain is not None and same_study(own, plain) else variant.name
    return f"{task}-{name}-seed{seed}"


def same_study(first: Config, second: Config) -> bool:
    """Whether two configs train the same thing: what only stores, evaluates or places it does not count."""
    return essence(first) == essence(second)


def essence(config: Config, *, defaults: bool = True) -> dict[str, Any]:
    """The part of a config that decides what is trained.

    Args:
        defaults: whether fields that have their default value are in it; without them a version with more fields has
            the same essence.
    """
    data = config.model_dump(mode="json", exclude_defaults=not defaults)
    for section in ("store", "checkpoint", "eval", "distributed"):
        data.pop(section, None)
    for section, keys in (("model", ("device", "threads")), ("sft", ("checkpoint_every",))):
        data[section] = {key: value for key, value in data.get(section, {}).items() if key not in keys}
    if config.agent == "vlm":
        data.pop("cnn", None)
    # off, its other settings mean nothing; and runs from before there was such a thing are of the same study
    if not config.ppo.stop_when.success:
        data.get("ppo", {}).pop("stop_when", None)
    return data


def chosen_tasks(item: Item, wanted: Sequence[str]) -> list[str]:
    """The item's tasks, or those of them that were asked for.

    Raises:
        UsageError: a task that the item does not have.
    """
    known = (*item.tasks, *item.more)
    for task in wanted:
        if task not in known:
            raise unknown_choice(f"task of {item.name}", task, known)
    return [task for task in known if task in (wanted or item.tasks)]
