"""Which metrics are charted, under which names, and how their values are written.

Deliberately knows no run and no widget but the chart's frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlmagent.text import number, percent
from vlmagent.tui.data.drawing import Frame
from vlmagent.tui.data.raster import short


@dataclass(frozen=True, slots=True)
class ChartSpec:
    """One chart: its key, title and metric; ``hint`` says what the numbers are.

    Attributes:
        can_log: whether a logarithmic scale says anything: not of rates, which keep their whole range, nor of what is
            mostly negative.
    """

    key: str
    title: str
    metric: str
    frame: Frame
    hint: str
    can_log: bool = False

    @property
    def sft(self) -> bool:
        """Whether it belongs to the supervised start."""
        return self.metric.startswith("sft/")


def _share(value: float) -> str:
    return f"{100 * value:.3g}%"


# rates whose whole range means something keep it, so that heights can be compared between charts and over time
_RATE = Frame(0.0, 1.0, percent, _share)
_FREE = Frame(write=number)
# never negative, and 0 means something: only the upper end follows the values
_FROM_ZERO = Frame(low=0.0, write=number)
# shares that stay small: on a scale up to 100 % they would be a line at the bottom
_RATE_FREE = Frame(low=0.0, write=percent, tick=_share)
_SMALL = Frame(low=0.0, write=short)

CHARTS = (
    ChartSpec("success", "success", "rollout/success", _RATE, "of the update's episodes"),
    ChartSpec("return", "return", "rollout/return", _FREE, "mean of the update's episodes"),
    ChartSpec("legal", "legal outputs", "rollout/legal_rate", _RATE, "of all outputs"),
    ChartSpec("kl", "KL", "ppo/kl", _FROM_ZERO, "old || new, nats per output", can_log=True),
    ChartSpec("clip", "clipped", "ppo/clip_fraction", _RATE_FREE, "of all samples", can_log=True),
    ChartSpec(
        "value", "value loss", "ppo/value_loss", _FROM_ZERO, "squared error of the critic", can_log=True
    ),
    ChartSpec("thought", "thought log-prob", "rollout/thought_logprob", _FREE, "sum per output, nats"),
    ChartSpec("action", "action log-prob", "rollout/action_logprob", _FREE, "sum per output, nats"),
    ChartSpec(
        "tokens", "output tokens", "rollout/output_tokens", _FROM_ZERO, "mean per output", can_log=True
    ),
    ChartSpec("entropy", "entropy", "ppo/entropy", _FREE, "nats per output token", can_log=True),
    ChartSpec(
        "speed",
        "env steps/s",
        "rollout/env_steps_per_second",
        _FROM_ZERO,
        "collecting and learning",
        can_log=True,
    ),
    ChartSpec("lr", "learning rate", "ppo/learning_rate", _SMALL, "of the network", can_log=True),
    ChartSpec("sft-loss", "SFT loss", "sft/loss", _FROM_ZERO, "nats per token", can_log=True),
    ChartSpec("sft-lr", "SFT learning rate", "sft/learning_rate", _SMALL, "of the network", can_log=True),
)
"""All charts in the order they are shown; the first are what one looks at first."""
BY_KEY = {spec.key: spec for spec in CHARTS}
RL_KEYS = tuple(spec.key for spec in CHARTS if not spec.sft)
SFT_KEYS = tuple(spec.key for spec in CHARTS if spec.sft)
