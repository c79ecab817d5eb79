"""Which engine a run's processes train with: a local one, or DeepSpeed's over several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from vlmagent.config import DistributedConfig
from vlmagent.models.logprob import Scores
from vlmagent.training.distributed.ranks import Ranks
from vlmagent.training.distributed.zero_config import complete, read_zero_config
from vlmagent.training.engines.base import Engine
from vlmagent.training.engines.local import LocalEngine

Score = Callable[[Any], Scores]


def make_engine(
    config: DistributedConfig,
    ranks: Ranks,
    network: nn.Module,
    score: Score,
    groups: list[dict[str, Any]],
    *,
    max_grad_norm: float,
    micro_batch_size: int,
    weight_decay: float = 0.0,
) -> tuple[Engine, Score]:
    """What steps the optimiser, and ``score`` as gradients have to come from it.

    Args:
        score: runs ``network`` with gradients on a batch.
        groups: parameter groups, each with its initial ``lr``.
    """
    if ranks.world == 1:
        return LocalEngine(groups, max_grad_norm, weight_decay), score
    # imported here: one process trains without DeepSpeed being installed
    from vlmagent.training.engines.deepspeed import DeepSpeedEngine

    # micro_batch_size fills a field that DeepSpeed asks for; the loop cuts its batches itself
    settings = complete(read_zero_config(config.deepspeed), micro_batch_size)
    engine = DeepSpeedEngine(network, score, groups, settings, max_grad_norm, weight_decay)
    return engine, engine.score
