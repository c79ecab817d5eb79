"""McNemar's exact test: whether two systems succeed equally often on the same episodes.

Under equal chances the episodes in which only one of the two succeeded fall to either side like a fair coin,

    p = min(1, 2 * sum_{k <= min(b, c)} C(b + c, k) / 2^(b + c)),

with b and c the counts of the two kinds (McNemar 1947; two-sided binomial). In whole numbers and without scipy, so that
the dashboard can afford it.
"""

from __future__ import annotations

import math


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value; 1 when the two never differ."""
    trials = only_first + only_second
    tail = sum(math.comb(trials, k) for k in range(min(only_first, only_second) + 1))
    # whole numbers up to the division: beyond a thousand trials 2^trials is too large for a float
    return min(1.0, float(2 * tail / 2**trials))
