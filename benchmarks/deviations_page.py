"""Fills the table of settings in docs/deviations.md from the recipes themselves; the words around it stay.

    python benchmarks/deviations_page.py

A block of the page begins with a line ``<!-- settings -->`` and ends with ``<!-- end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlmagent.config import find_config, load_config

PAGE = Path(__file__).parents[1] / "docs" / "deviations.md"
BLOCK = re.compile(r"(<!-- settings -->\n).*?(<!-- end -->)", re.DOTALL)
TASKS = ("numberline", "ezpoints", "points24", "blackjack", "alfworld")
SECTIONS = ("rollout", "ppo")
"""What the paper states of its method; sizes of the network and of the supervised start go with the model."""
NO_EFFECT = ("ppo.micro_batch_size", "ppo.max_tokens_per_micro_batch", "ppo.stop_when.episodes")
"""How the work is cut up, which changes nothing that is learnt; and what means nothing without its bar."""


def leaves(section: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Keys with dots, and values."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", value


def settings(recipe: str) -> dict[str, Any]:
    """All settings of the method in a recipe."""
    config = load_config(find_config(recipe)).model_dump(mode="json")
    return {key: value for name in SECTIONS for key, value in leaves(config[name], name)}


def table() -> str:
    """Every setting in which one of our recipes differs from the paper's of the same task, in Markdown."""
    paper = {task: settings(f"paper/{task}") for task in TASKS}
    ours = {task: settings(task) for task in TASKS}
    rows = [["setting", *TASKS], ["---"] * (1 + len(TASKS))]
    for key in [key for key in paper[TASKS[0]] if key not in NO_EFFECT]:
        cells = [
            shown(ours[task][key]) + ("" if same else f" ({shown(paper[task][key])})")
            for task in TASKS
            for same in [ours[task][key] == paper[task][key]]
        ]
        if any(ours[task][key] != paper[task][key] for task in TASKS):
            rows.append([f"`{key}`", *cells])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["Ours, and in brackets the paper's where it is another.", "", *lines])


def shown(value: Any) -> str:
    """A setting as the recipes write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def filled(page: str) -> str:
    """The page with its table built anew."""
    return BLOCK.sub(lambda match: f"{match[1]}\n{table()}\n\n{match[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"Written: {PAGE}")
