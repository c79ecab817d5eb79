"""Checkpoints: written whole or not at all, in open formats.

``checkpoints/step-N/`` is a policy in Hugging Face format plus ``optimizer.safetensors`` and ``trainer.json``.
A checkpoint is assembled under a temporary name, flushed to disk and renamed; ``latest`` is a symbolic link replaced in
one operation. Knows nothing of what training does with the state.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from vlmagent import paths
from vlmagent.config import CnnConfig, ModelConfig
from vlmagent.errors import StoreError, UsageError
from vlmagent.files import point_link, remedy, remove_folder, whole_folder
from vlmagent.models.cnn import CnnPolicy, is_cnn, load_cnn, save_cnn
from vlmagent.models.fitting import read_tensors
from vlmagent.models.hf import load_policy, save_policy
from vlmagent.models.policy import Policy
from vlmagent.paths import Run
from vlmagent.training.saved import SFT, list_checkpoints

Network = Policy | CnnPolicy
"""What a run's checkpoint may hold: a vision-language model, or the baseline without language."""
OPTIMIZER = "optimizer.safetensors"
TRAINER = paths.TRAINER
FORMAT = 1


@dataclass(frozen=True, slots=True)
class TrainerState:
    """Everything but the weights that continuing needs.

    Attributes:
        update_index: updates done.
        env_steps: environment steps done.
        rollout: what ``Rollout.snapshot`` gave; random states are counters in it (see ``seeding``).
        optimizer: the engine's state, or None in a checkpoint that is only for acting.
    """

    update_index: int
    env_steps: int
    rollout: Mapping[str, Any] | None
    optimizer: Mapping[str, Any] | None


def save_checkpoint(run: Run, policy: Network, state: TrainerState) -> Path:
    """Write ``checkpoints/step-<env_steps>`` and point ``latest`` at it.

    Returns:
        The checkpoint's folder.

    Raises:
        StoreError: it could not be written (disk full, read-only); what was there before is untouched.
    """
    final = run.checkpoints / f"step-{state.env_steps}"
    with _written_whole(final, latest=True) as folder:
        write_checkpoint(folder, policy, state)
    return final


def write_checkpoint(folder: Path, network: Network, state: TrainerState) -> None:
    """Write all files of a checkpoint into an existing folder."""
    if isinstance(network, CnnPolicy):
        save_cnn(network, folder)
    else:
        save_policy(network, folder)
    _save_trainer(folder, state)


@contextmanager
def _written_whole(final: Path, *, latest: bool = False) -> Iterator[Path]:
    """A new folder to write into; it takes the place of ``final`` once everything in it is on disk.

    Args:
        latest: whether ``latest`` is to point at it then.

    Raises:
        StoreError: it could not be written; what was there before is untouched.
    """
    try:
        with whole_folder(final, replace=True) as folder:
            yield folder
        # only after the rename: it never points at half a checkpoint
        if latest:
            _point_latest(final)
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"The checkpoint {final.name} could not be written to {final.parent}: {error}. "
            f"{remedy(error)}, then continue with `vlmagent train --resume RUN`."
        ) from error


def _point_latest(checkpoint: Path) -> None:
    """Let ``latest`` point at a checkpoint, for people; nothing depends on it, and some file systems have no links."""
    link = checkpoint.with_name(paths.LATEST)
    with contextlib.suppress(OSError):  # among others where a copied run has a folder of that name
        point_link(link, checkpoint.name)


def _save_trainer(folder: Path, state: TrainerState) -> None:
    groups = None
    if state.optimizer is not None:
        tensors, groups = _flatten(state.optimizer)
        save_file(tensors, folder / OPTIMIZER)
    document = {
        "format": FORMAT,
        "update_index": state.update_index,
        "env_steps": state.env_steps,
        "rollout": state.rollout,
        "param_groups": groups,
    }
    # written last: a folder that has it is complete (`saved.list_checkpoints`)
    (folder / TRAINER).write_text(json.dumps(document))


@dataclass(frozen=True, slots=True)
class SftState:
    """Where supervised fine-tuning was interrupted.

    Attributes:
        stage, step: the stage, and the optimiser steps done in it.
        curve: one record per optimiser step so far.
        optimizer: the engine's state.
    """

    stage: int
    step: int
    curve: Sequence[Mapping[str, Any]]
    optimizer: Mapping[str, Any]


def save_sft_state(run: Run, policy: Policy, state: SftState) -> None:
    """Write ``checkpoints/sft`` in place of the one before.

    Raises:
        StoreError: it could not be written; what was there before is untouched.
    """
    tensors, groups = _flatten(state.optimizer)
    document = {
        "format": FORMAT,
        "stage": state.stage,
        "step": state.step,
        "curve": list(state.curve),
        "param_groups": groups,
    }
    with _written_whole(run.checkpoints / SFT) as folder:
        # fine-tuning leaves the critic alone: a fresh one follows from the seed
        save_policy(policy, folder, value_head=False)
        save_file(tensors, folder / OPTIMIZER)
        (folder / TRAINER).write_text(json.dumps(document))


def load_sft_state(run: Run, model: ModelConfig, seed: int) -> tuple[Policy, SftState] | None:
    """The policy and state that ``save_sft_state`` wrote, or None where there are none."""
    folder = run.checkpoints / SFT
    if not (folder / TRAINER).is_file():
        return None
    document = json.loads((folder / TRAINER).read_text())
    if document.get("format") != FORMAT:
        raise _other_format(folder, document)
    optimizer = _unflatten(read_tensors(folder / OPTIMIZER), document["param_groups"])
    state = SftState(document["stage"], document["step"], document["curve"], optimizer)
    return load_policy(folder, model, seed), state


def remove_sft_state(run: Run) -> None:
    """Remove what an interrupted fine-tuning left, once it is finished."""
    shutil.rmtree(run.checkpoints / SFT, ignore_errors=True)


def _flatten(state: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """A torch optimiser's state as named tensors and JSON groups."""
    tensors = {
        # step counts may be plain numbers; safetensors takes tensors only, contiguous ones
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for index, entry in state["state"].items()
        for name, value in entry.items()
    }
    return tensors, [dict(group) for group in state["param_groups"]]


def _unflatten(tensors: Mapping[str, torch.Tensor], groups: list[dict[str, Any]]) -> dict[str, Any]:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        # `<number of the parameter>.<name of its moment>`, as `_flatten` wrote it
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    return {"state": state, "param_groups": groups}


def load_trainer_state(folder: Path) -> TrainerState:
    """The trainer's state in a checkpoint.

    Raises:
        UsageError: it was written by a newer version, or is a plain model without trainer state.
    """
    file = folder / TRAINER
    if not file.is_file():
        raise UsageError(f"{folder} holds a model but no {TRAINER}: a run cannot continue from it.")
    document = json.loads(file.read_text())
    if document.get("format") != FORMAT:
        raise _other_format(folder, document)
    # None: a checkpoint for acting, such as the one that preflight writes
    optimizer = None
    if document["param_groups"] is not None:
        optimizer = _unflatten(read_tensors(folder / OPTIMIZER), document["param_groups"])
    return TrainerState(document["update_index"], document["env_steps"], document["rollout"], optimizer)


def _other_format(folder: Path, document: Mapping[str, Any]) -> UsageError:
    return UsageError(
        f"{folder} has checkpoint format {document.get('format')}; this version of vlmagent reads {FORMAT}."
    )


def load_checkpoint(
    folder: Path, model: ModelConfig | None = None, *, base: str | None = None
) -> tuple[Policy, TrainerState]:
    """Policy and trainer state of a checkpoint.

    Args:
        model: how the run opens its model; None takes everything as it was saved.
        base: ``model.name`` where ``model`` is None: the model that adapters belong to may have been moved.

    Raises:
        UsageError: it holds no vision-language model.
    """
    if is_cnn(folder):
        raise UsageError(
            f"{folder} holds the baseline 'cnn', which has no words. Choose a language model's run."
        )
    return load_policy(folder, model, base=base), load_trainer_state(folder)


def load_network(
    folder: Path, model: ModelConfig | None = None, cnn: CnnConfig | None = None
) -> tuple[Network, TrainerState]:
    """The network of a checkpoint, whichever kind it is, and the trainer's state.

    Args:
        model, cnn: how the run opens its model or its encoders; None takes everything as it was saved.
    """
    if is_cnn(folder):
        return load_cnn(folder, cnn), load_trainer_state(folder)
    return load_checkpoint(folder, model)


def prune(run: Run, *, keep_last: int, keep_every: int) -> list[Path]:
    """Remove all but the newest ``keep_last`` checkpoints, the start, and those of every ``keep_every`` updates.

    Args:
        keep_every: 0 keeps none for good but the start.

    Returns:
        The removed folders.
    """

    def for_good(folder: Path) -> bool:
        update = _update_of(folder)
        return update == 0 or (keep_every > 0 and update % keep_every == 0)  # update 0 is the start of RL

    # at least 1 is kept (`CheckpointConfig`): with 0 the slice would be empty and nothing be removed
    old = list_checkpoints(run)[:-keep_last]
    removed = [folder for folder in old if not for_good(folder)]
    for folder in removed:
        remove_folder(folder)
    return removed


def _update_of(checkpoint: Path) -> int:
    """Updates done when a checkpoint was written; since their length may have changed, env steps do not tell."""
    return int(json.loads((checkpoint / TRAINER).read_text())["update_index"])
