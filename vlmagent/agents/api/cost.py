"""Money: a budget that cannot be overdrawn, and what an evaluation is going to cost.

Deliberately knows neither HTTP nor tasks. Amounts are US dollars.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlmagent.agents.api.endpoints import Endpoint


class Budget:
    """What may be spent. An amount is set aside before a request is sent, and settled when its cost is known.

    Args:
        limit: None for no limit.
        spent: what an earlier process of the same evaluation spent.
    """

    def __init__(self, limit: float | None, spent: float = 0.0) -> None:
        self.limit = limit
        self.spent = spent
        self._reserved = 0.0

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" of {self.limit:.4f}"
        return f"{self.spent:.4f}{limit} $"

    def reserve(self, amount: float) -> bool:
        """Set ``amount`` aside; False, and nothing set aside, when it does not fit."""
        # a rounding error of sums must not refuse a request that fits exactly
        if self.limit is not None and self.spent + self._reserved + amount > self.limit + 1e-12:
            return False
        self._reserved += amount
        return True

    def settle(self, reserved: float, actual: float) -> float:
        """Replace what was set aside by what it cost; returns the cost."""
        # requests settle in any order; rounding must not leave a negative rest
        self._reserved = max(0.0, self._reserved - reserved)
        self.spent += actual
        return actual


@dataclass(frozen=True, slots=True)
class Estimate:
    """What playing some episodes through an API will take. ``low`` and ``high`` are requests.

    Attributes:
        low_cost, high_cost: US dollars; None where the endpoint has no price.
    """

    low: int
    high: int
    low_cost: float | None
    high_cost: float | None


def estimate(endpoint: Endpoint, prompt_tokens: int, episodes: int, lengths: tuple[float, float]) -> Estimate:
    """A forecast: short answers of good play at one end, answers at the limit of poor play at the other.

    Args:
        prompt_tokens: of one prompt, without its picture.
        lengths: mean steps an episode of a good and of a poor player.
    """
    # a poor player's episodes are longer in some tasks and shorter in others
    low, high = (round(episodes * length) for length in sorted(lengths))
    if not endpoint.priced:
        return Estimate(low, high, None, None)
    tokens = prompt_tokens + endpoint.image_tokens
    # 100 tokens: about a sentence of thoughts and an action
    short = endpoint.cost(tokens, min(100, endpoint.max_output_tokens))
    return Estimate(low, high, low * short, high * endpoint.cost(tokens, endpoint.max_output_tokens))
