"""The numbers the paper printed (Zhai et al. 2024, Tables 1-4), to stand beside ours, never mixed into them.

Success in percent; for RL methods the peak of the training curve. Another model (LLaVA-1.6, 7 B), other seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "Zhai et al. 2024, Tables 2-4"
TASKS = ("numberline", "ezpoints", "points24", "blackjack")
"""The paper's gym_cards tasks, in the order of its tables."""
TYPES = ("pick", "look", "clean", "heat", "cool", "pick2")
"""ALFWorld's kinds of episode, in the order of the paper's tables."""
WITH_COT, WITHOUT_COT = "RL with CoT", "RL without CoT"


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One method's result on one task: success in percent, mean episode return where printed.

    Attributes:
        expert_data: whether the method needs expert data (Table 2 prints these in grey).
        by_type: ALFWorld's success by kind of episode; ``success`` is then the weighted average.
    """

    system: str
    success: float
    mean_return: float | None
    expert_data: bool = False
    by_type: tuple[float, ...] | None = None


_SUCCESS = {
    # system: (numberline, ezpoints, points24, blackjack)
    "CNN+RL": (87.1, 0.0, 0.0, 38.8),
    "GPT4-V": (65.5, 10.5, 0.0, 25.5),
    "Gemini": (82.5, 2.0, 0.0, 30.0),
    "LLaVA-sft": (24.8, 23.0, 2.6, 23.1),
    WITHOUT_COT: (26.9, 29.9, 0.0, 40.4),
    WITH_COT: (89.4, 50.0, 2.3, 40.2),
}
_RETURN = {
    "CNN+RL": (0.79, -1.02, -1.12, -0.17),
    "GPT4-V": (-0.59, -1.30, -4.39, -0.44),
    "Gemini": (0.74, -2.57, -2.68, -0.35),
    "LLaVA-sft": (-2.30, -0.50, -13.52, -0.50),
    WITH_COT: (0.87, 4.46, -11.84, -0.13),
}
_ALFWORLD = {
    # system: (pick, look, clean, heat, cool, pick2), weighted average
    "BUTLER_g": ((33.0, 17.0, 26.0, 70.0, 76.0, 12.0), 22.0),
    "BUTLER": ((46.0, 22.0, 39.0, 74.0, 100.0, 24.0), 37.0),
    "CNN+RL": ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), 0.0),
    "GPT4-V": ((38.2, 12.1, 18.8, 6.7, 17.8, 14.6), 19.4),
    "Gemini": ((34.6, 16.7, 0.0, 0.0, 0.0, 12.0), 13.5),
    "LLaVA-sft": ((39.2, 0.0, 14.4, 11.1, 0.0, 28.6), 17.7),
    WITHOUT_COT: ((40.5, 12.0, 2.8, 8.5, 14.4, 17.7), 16.3),
    WITH_COT: ((47.4, 14.7, 10.4, 14.4, 18.8, 18.0), 21.7),
}
LOGPROBS = {
    # Table 1: sums of the thought tokens' and of the action tokens' log-probs, in nats
    "numberline": (-3.4, 0.0),
    "blackjack": (-2.2, 0.0),
    "ezpoints": (-9.0, 0.0),
    "points24": (-37.6, 0.0),
    "alfworld": (-20.3, -0.4),
}


def published_rows(task: str) -> list[PublishedRow]:
    """The paper's rows for a task, in the paper's order; none for a task it does not have."""
    if task == "alfworld":
        return [
            PublishedRow(system, average, None, system.startswith("BUTLER"), kinds)
            for system, (kinds, average) in _ALFWORLD.items()
        ]
    if task not in TASKS:
        return []
    column = TASKS.index(task)
    return [
        PublishedRow(system, rates[column], _RETURN[system][column] if system in _RETURN else None)
        for system, rates in _SUCCESS.items()
    ]


def success_rule(task: str) -> str:
    """When an episode counts as a success, as a sentence for below a table (paper, C.2)."""
    if task == "alfworld":
        return "Success: the goal was reached."
    # what another package's task counts is its own to say
    return "Success: return > 0." if task in TASKS else "Success: as the task counts it."


def published_row(task: str, system: str) -> PublishedRow | None:
    """One method's row, or None."""
    return next((row for row in published_rows(task) if row.system == system), None)
