"""Whether a run can go on with a changed config, asked before the config is written.

What the training process would refuse has to be found here: there it would be found only once the file says it, and
then even a plain ``--resume`` fails. Imports torch only where a changed key cannot be looked at without it.
"""

from __future__ import annotations

from pathlib import Path

from vlmagent.config import Config
from vlmagent.config.changes import Change, When, rule_of
from vlmagent.errors import RunFailedError, UsageError
from vlmagent.models.encoders import check_encoders
from vlmagent.models.locate import base_of, check_model, is_adapter, is_hub_name, locate, read_json
from vlmagent.paths import TRAINER, Run
from vlmagent.tasks.registry import task_from_config
from vlmagent.training.changes import changes_of
from vlmagent.training.distributed.hosts import check_distributed
from vlmagent.training.saved import SFT, newest_checkpoint

SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "model_type")
"""Fields of a model's ``config.json``, in each of its parts, that tell architectures apart."""


def check_admission(run: Run, config: Config, old: Config) -> list[Change]:
    """Look at ``config`` with which a run is to go on, and at nothing that it is known to have worked with.

    Args:
        old: what ``config.yaml`` says now; it counts where the database does not know better.

    Returns:
        In what it differs from what the run was trained with.

    Raises:
        UsageError: a key can no longer change, or names something that this machine does not have.
    """
    changes = changes_of(run, config, old)
    check_distributed(config)
    # only what changed: what the run is known to have worked with may be gone by now and still not be needed
    changed = {change.key for change in changes}
    if "model.device" in changed:
        _check_device(config)
    # "tiny" is built by the program itself: there is nothing to look for
    if "model.name" in changed and config.model.name != "tiny":
        check_model(config.model.name)
        _check_same_model(run, config)
    if changed & {"cnn.vision", "cnn.text"}:
        check_encoders(config.cnn)
        _check_same_encoders(run, config)
    if any(rule_of(key).when is When.NOT_BEGUN for key in changed):  # then nothing was trained yet
        _check_start(config)
    return changes


def _check_start(config: Config) -> None:
    """What a new run is asked about its task and its supervised start."""
    task = task_from_config(config)
    config.model.check_trainable()
    if config.agent == "vlm":
        from vlmagent.training.sft.samples import check_offered

        check_offered(task, config.sft)


def _check_device(config: Config) -> None:
    """Whether the device is here; on the machines of a hostfile nobody has looked yet."""
    if config.model.device != "cuda" or config.distributed.hostfile is not None:
        return
    from vlmagent.models.device import choose_device

    try:
        choose_device(config.model.device)
    except RunFailedError as error:
        raise UsageError(str(error)) from None


def _weights_of(run: Run) -> Path | None:
    """The folder of the newest weights that the run has, a supervised start in progress included."""
    sft = run.checkpoints / SFT
    return newest_checkpoint(run) or (sft if (sft / TRAINER).is_file() else None)


def _check_same_model(run: Run, config: Config) -> None:
    """Whether ``model.name`` is a place of the model that the run's weights come from.

    Adapters know the weights they belong to. Whole weights need the model no longer, and only its architecture can be
    compared, but a name that is another model's must not stand in the config.
    """
    folder, name = _weights_of(run), config.model.name
    if folder is None:
        return
    if is_adapter(folder):
        from vlmagent.models.hf import check_base

        # raises where the base is another one than the adapters were trained on
        check_base(folder, locate(base_of(folder, name)))
    elif not is_hub_name(name) and not is_adapter(Path(name)):
        # weights behind a name of the hub may not be here; an adapter's sizes are its base's, in another place
        _check_sizes(folder, Path(name))


def _check_sizes(trained: Path, named: Path) -> None:
    ours, theirs = read_json(trained / "config.json"), read_json(named / "config.json")
    # None stands for the top of the file: older and single-part models have their sizes there
    for part in (None, "text_config", "vision_config"):
        mine, other = (ours, theirs) if part is None else (ours.get(part), theirs.get(part))
        if not isinstance(mine, dict) or not isinstance(other, dict):
            continue  # a family without such a part
        for key in SIZES:
            # a key that only one of them has may be a default of another version of transformers: no proof of another
            # model
            if key in mine and key in other and mine[key] != other[key]:
                raise UsageError(
                    f"model.name = {named} is another model than the one that the weights in {trained} come from: "
                    f"{key} is {other[key]}, not {mine[key]}. Give the folder that the run's own model was moved to."
                )


def _check_same_encoders(run: Run, config: Config) -> None:
    """Whether ``cnn.vision`` and ``cnn.text`` are places of the encoders that the run's network was trained on."""
    folder = newest_checkpoint(run)
    if folder is None:
        return
    from vlmagent.models.cnn import CONFIG
    from vlmagent.models.cnn_encoders import encoder_folder

    # the CNN's own config file beside its weights, which names the encoders it was trained with
    saved = read_json(folder / CONFIG)
    encoder_folder(folder, saved, "vision", config.cnn.vision)
    if saved.get("has_text"):
        encoder_folder(folder, saved, "text", config.cnn.text)
