"""The supervised start of a run: taken from the cache where its like was trained before, else trained and kept."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from vlmagent import paths
from vlmagent.config import Config
from vlmagent.files import remove_abandoned, whole_folder
from vlmagent.models.device import choose_device
from vlmagent.models.hf import build_policy, load_policy, save_policy
from vlmagent.models.locate import locate
from vlmagent.models.policy import Policy
from vlmagent.paths import Run
from vlmagent.tasks.base import Task
from vlmagent.training.checkpoint import load_sft_state, remove_sft_state
from vlmagent.training.distributed.ranks import ALONE, Ranks
from vlmagent.training.sft.samples import corpus
from vlmagent.training.sft.sft import OnProgress, SftProgress, train_sft

VERSION = 2
"""Raise when the procedure changes, so that older cached results are not taken for it."""
CURVE = "sft_curve.json"
NO_EFFECT = {"micro_batch_size", "checkpoint_every"}
"""Fields of the config that do not change the result."""
TRAINED_AS = {"lora", "train_vision", "tiles", "dtype", "quantization"}
"""Fields of the config that change what comes out of a checkpoint."""


def cache_key(config: Config, texts: list[str]) -> str:
    """Digest of all that the SFT result depends on."""
    parts = {
        "version": VERSION,
        "task": [config.task, config.cot, config.rule_set, config.env],
        "model": _model_identity(config),
        "sft": config.sft.model_dump(mode="json", exclude=NO_EFFECT),
        "seed": config.seed,
        # \0 stands in no text: different lists never join to the same one
        "texts": hashlib.sha256("\0".join(texts).encode()).hexdigest(),
    }
    # 96 bits tell results apart for good, in a name that people can handle
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _model_identity(config: Config) -> object:
    if config.model.name == "tiny":
        return config.model.tiny.model_dump(mode="json")
    folder = locate(config.model.name)
    return [
        str(folder),
        # instead of the contents, of which there may be gigabytes
        sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.glob("*.safetensors")),
        config.model.model_dump(mode="json", include=TRAINED_AS),
    ]


def sft_policy(
    config: Config,
    task: Task,
    on_progress: OnProgress,
    should_stop: Callable[[], bool] = lambda: False,
    run: Run | None = None,
    ranks: Ranks = ALONE,
    on_built: Callable[[Policy], None] = lambda policy: None,
) -> tuple[Policy, bool]:
    """The policy that RL starts from: built, fine-tuned, or taken from the cache.

    Args:
        run: folder to save progress in, and to continue from; None keeps nothing of an interrupted fine-tuning.
        ranks: the processes that fine-tune together. Cache and ``run`` are the first one's to write.
        on_built: is shown the policy before it is fine-tuned, and what it raises ends the call.

    Returns:
        The policy, in eval mode with a fresh value head, and whether it came from the cache; from there only the first
        process has it, the others the policy as it was built.
    """
    # the tokenizer has to know the captions' words, where there are captions
    with_captions = bool(config.sft.caption_samples or config.sft.caption_share)
    texts = corpus(task, with_captions, config.sft.corpus_samples)
    device = choose_device(config.model.device)
    if config.sft.all_samples == 0:
        policy = build_policy(config.model, texts, config.seed).to(device)
        on_built(policy)
        return policy, False
    folder = paths.cache_dir() / "sft" / cache_key(config, texts)
    # the first process decides for all: other machines may have another cache, or none
    if ranks.share((folder / CURVE).is_file()):
        # overwritten by the first process's weights (`Trainer._started`)
        if ranks.rank:
            return build_policy(config.model, texts, config.seed), True
        # the log has the same curve as that of the run which trained it
        for point in json.loads((folder / CURVE).read_text()):
            on_progress(SftProgress(**point))
        policy = load_policy(folder, config.model, config.seed).to(device)
        on_built(policy)
        if run:
            remove_sft_state(
                run
            )  # of a process that was killed after the result was kept, or before it was made
        return policy, True
    saved = load_sft_state(run, config.model, config.seed) if run else None
    policy, state = saved or (build_policy(config.model, texts, config.seed), None)
    policy.to(device)
    on_built(policy)
    curve = train_sft(policy, config, task, on_progress, should_stop, run=run, state=state, ranks=ranks)
    # the cache first: a kill between the two leaves the result in one place at least
    if ranks.rank == 0:
        _store_in_cache(policy, curve, folder)
        if run:
            remove_sft_state(run)
    return policy, False


def _store_in_cache(policy: Policy, curve: list[SftProgress], folder: Path) -> None:
    """Keep the result for later runs; a second process that was faster wins.

    A cache that cannot be written costs the next run its time, never this one its result.
    """
    remove_abandoned(folder.parent)  # gigabytes each, of processes that were killed here
    try:
        with whole_folder(folder) as temporary:
            save_policy(policy, temporary, value_head=False)
            (temporary / CURVE).write_text(json.dumps([asdict(point) for point in curve]))
    except OSError as error:
        if not folder.exists():
            warnings.warn(f"The supervised start is not kept for later runs: {error}", stacklevel=2)
