"""The cache of supervised starts: what killed processes left in it does not stay for good."""

import os
import time

from tests.conftest import SMALL
from vlmagent import files, paths
from vlmagent.config import Config
from vlmagent.tasks.registry import task_from_config
from vlmagent.training.sft.cache import CURVE, sft_policy


def test_what_a_killed_process_left_goes_after_a_day() -> None:
    config = Config.model_validate({**SMALL, "sft": {"samples": 16, "batch_size": 16, "corpus_samples": 50}})
    cache = paths.cache_dir() / "sft"
    old, young = cache / f"{files.BEGUN}a-1-2", cache / f"{files.BEGUN}b-3-4"
    for folder in (old, young):
        folder.mkdir(parents=True)
    day_ago = time.time() - files.ABANDONED_SECONDS - 60
    os.utime(old, (day_ago, day_ago))
    _, cached = sft_policy(config, task_from_config(config), lambda progress: None)
    assert not cached
    assert not old.exists()
    assert young.exists()
    assert len(list(cache.glob(f"*/{CURVE}"))) == 1
