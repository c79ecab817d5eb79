"""The numbers the paper printed (Zhai et al. 2024, Tables 2-4), to stand beside ours, never mixed into them.

Success in percent; for RL methods the peak of the training curve. Another model (LLaVA-1.6, 7 B), other seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "Zhai et al. 2024, Tables 2-4"


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One method's result on one task: success in percent, mean episode return where printed."""

    system: str
    success: float
    mean_return: float | None


_SUCCESS = {
    # system: (numberline, ezpoints, points24, blackjack)
    "CNN+RL": (87.1, 0.0, 0.0, 38.8),
    "GPT4-V": (65.5, 10.5, 0.0, 25.5),
    "Gemini": (82.5, 2.0, 0.0, 30.0),
    "LLaVA-sft": (24.8, 23.0, 2.6, 23.1),
    "RL without CoT": (26.9, 29.9, 0.0, 40.4),
    "RL with CoT": (89.4, 50.0, 2.3, 40.2),
}
_RETURN = {
    "CNN+RL": (0.79, -1.02, -1.12, -0.17),
    "GPT4-V": (-0.59, -1.30, -4.39, -0.44),
    "Gemini": (0.74, -2.57, -2.68, -0.35),
    "LLaVA-sft": (-2.30, -0.50, -13.52, -0.50),
    "RL with CoT": (0.87, 4.46, -11.84, -0.13),
}
_TASKS = ("numberline", "ezpoints", "points24", "blackjack")


def published_rows(task: str) -> list[PublishedRow]:
    """The paper's rows for a task, in the paper's order; none for a task it does not have."""
    if task not in _TASKS:
        return []
    column = _TASKS.index(task)
    return [
        PublishedRow(system, rates[column], _RETURN[system][column] if system in _RETURN else None)
        for system, rates in _SUCCESS.items()
    ]
