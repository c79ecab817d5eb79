"""Learning-rate schedules: pure functions of the step."""

from __future__ import annotations

import math


def warmup_cosine(step: int, total: int, warmup: float, final_ratio: float) -> float:
    """Learning-rate factor of a step: linear up over the share ``warmup`` of all steps, then a cosine down."""
    rising = warmup * total
    # step + 1: a first step at rate 0 would be wasted
    if step < rising:
        return (step + 1) / rising
    # at least 1 step to fall over, where warmup is nearly all
    return cosine_factor(int(step - rising), max(int(total - rising), 1), final_ratio)


def cosine_factor(update: int, total: int, final_ratio: float) -> float:
    """Learning-rate factor after ``update`` of ``total`` updates: from 1 down to ``final_ratio``, then flat.

    factor = final + (1 - final) * (1 + cos(pi * update / total)) / 2. Stepped once per PPO update, as in the paper.
    """
    progress = min(update / max(total, 1), 1.0)
    return final_ratio + (1 - final_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
