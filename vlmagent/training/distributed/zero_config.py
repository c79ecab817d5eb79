"""DeepSpeed's own configuration files: found, checked and completed. Never imports deepspeed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmagent import paths
from vlmagent.errors import UsageError, unknown_choice

RECIPE_DECIDES = {
    "optimizer": "ppo.lr and ppo.value_lr",
    "scheduler": "ppo.final_lr and ppo.schedule_updates",
    "fp16": "model.dtype",
    "bf16": "model.dtype",
    "amp": "model.dtype",
    "torch_autocast": "model.dtype",
}
"""Sections that would contradict the recipe when switched on, and what says the same there."""
STAGES = (0, 1, 2, 3)


def zero_names() -> list[str]:
    """Names of the shipped files, such as ``zero2``."""
    return sorted(file.stem for file in (paths.config_dir() / "deepspeed").glob("*.json"))


def read_zero_config(name: str) -> dict[str, Any]:
    """The file behind a path or a shipped name, as it is.

    Raises:
        UsageError: there is none, it is not JSON, or it holds something that the recipe decides.
    """
    path = Path(name)
    # a path first: a file of the user's may have a shipped name
    if not path.is_file():
        path = paths.config_dir() / "deepspeed" / f"{name.removesuffix('.json')}.json"
    if not path.is_file():
        raise unknown_choice("DeepSpeed config", name, zero_names(), "A path to a JSON file works too.")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"The DeepSpeed config {path} could not be read as JSON: {error}") from None
    if not isinstance(settings, dict):
        raise UsageError(
            f"The DeepSpeed config {path} should hold an object, but holds {type(settings).__name__}."
        )
    _check(settings, path)
    return settings


def _check(settings: Mapping[str, Any], path: Path) -> None:
    for section, instead in RECIPE_DECIDES.items():
        value = settings.get(section)
        # `optimizer` and `scheduler` know no `enabled`: they count by being there; "auto" leaves it to the recipe
        active = value.get("enabled", True) is True if isinstance(value, dict) else False
        if active:
            raise UsageError(
                f"The DeepSpeed config {path} sets '{section}', which the recipe decides ({instead}). "
                "Remove the section."
            )
    stage = _stage(settings)
    if stage not in STAGES:
        raise UsageError(
            f"zero_optimization.stage = {stage!r} in {path} is not valid. Valid choices: 0, 1, 2, 3."
        )
    offload = settings.get("zero_optimization", {}).get("offload_optimizer", {}).get("device", "none")
    # DeepSpeed spells it "none", JSON null
    if offload not in ("none", None):
        raise UsageError(
            f"zero_optimization.offload_optimizer in {path} needs an optimiser of DeepSpeed's own, which has to be "
            "compiled; this program steps torch's AdamW. Remove the section; a higher stage saves memory too."
        )
    _refuse_overlap(settings, stage, path)


def _refuse_overlap(settings: Mapping[str, Any], stage: int, path: Path) -> None:
    # DeepSpeed asserts this without a word of what is wrong
    if stage < 2 and settings.get("zero_optimization", {}).get("overlap_comm") is True:
        raise UsageError(
            f"zero_optimization.overlap_comm = true in {path} needs stage 2 or 3, and the stage is {stage}: below that "
            "nothing is sent while gradients are made. Remove it."
        )


def _stage(settings: Mapping[str, Any]) -> Any:
    zero = settings.get("zero_optimization", {})
    return zero.get("stage", 0) if isinstance(zero, dict) else zero


def complete(settings: Mapping[str, Any], micro_batch_size: int) -> dict[str, Any]:
    """The settings with what training here needs in the place of what is missing or ``auto``.

    The caller accumulates and clips by the recipe; sums of gradients are kept in float32 since in bfloat16 they lose a
    quarter of their norm over some hundred micro-batches.
    """
    kept = {
        key: value
        for key, value in settings.items()
        if value != "auto" and key not in (*RECIPE_DECIDES, "train_batch_size", "gradient_accumulation_steps")
    }
    zero = dict(kept.get("zero_optimization", {}))
    zero = {key: value for key, value in zero.items() if value != "auto"}
    zero.setdefault("overlap_comm", False)
    return {
        # practically never: the run's own log says how far it is
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
        **kept,
        "zero_optimization": zero,
        "train_micro_batch_size_per_gpu": micro_batch_size,
        # `step` is the boundary of a batch, however many backward passes came before it
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        # `_CheckedAdamW` is not on DeepSpeed's list of tested optimisers
        "zero_allow_untested_optimizer": True,
        "data_types": {"grad_accum_dtype": "fp32"},
    }
