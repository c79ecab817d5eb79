"""Evaluation results as JSON, CSV and Markdown. Rows in, text out; reads nothing itself."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vlmagent.evaluation.published import SOURCE, published_rows, success_rule
from vlmagent.evaluation.results import FinishedEvaluation, comparisons, over_runs

COLUMNS = (
    "task", "system", "rule_set", "model", "checkpoint", "training_seed", "runs", "episodes", "success", "success_low",
    "success_high", "success_std", "mean_return", "return_low", "return_high", "return_std", "goal_rate", "legal_rate",
    "mean_length", "env_steps", "seed", "temperature", "errors", "refusals", "cut", "empty",
    "requests", "cost", "published",
)  # fmt: skip
"""Of the CSV. Rates are fractions; ``published`` is 1 for numbers printed in the paper."""


def document(evaluations: Sequence[FinishedEvaluation]) -> dict[str, Any]:
    """Everything an evaluation command found, for ``--json`` and for the other formats."""
    return {
        "results": [asdict(evaluation.result) for evaluation in evaluations],
        "over_runs": [asdict(row) for row in over_runs(evaluations)],
        "comparisons": [asdict(row) for row in comparisons(evaluations)],
    }


def as_json(found: Mapping[str, Any]) -> str:
    """One JSON document; NaN and infinities, for which JSON has no words, are null."""
    # `allow_nan=False` makes a forgotten NaN an error here and not one of whoever reads it
    return json.dumps(_finite(found), indent=2, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def as_csv(found: Mapping[str, Any]) -> str:
    """One line per system, then those over several runs, then the paper's."""
    rows = [_flat(row) for row in (*found["results"], *found["over_runs"])]
    # once a task, however many systems were evaluated on it
    for task in dict.fromkeys(row["task"] for row in found["results"]):
        rows += [
            {
                "task": task, "system": entry.system, "success": entry.success / 100,
                "mean_return": entry.mean_return, "published": 1,
            }
            for entry in published_rows(task)
        ]  # fmt: skip
    out = io.StringIO()
    # `ignore`: rows over runs and single ones have different fields
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = {**row, "published": 0}
    for name in ("success", "return"):
        flat[f"{name}_low"], flat[f"{name}_high"] = row[f"{name}_ci"]
    # an empty cell: spreadsheets read "nan" as text
    return {key: "" if isinstance(v, float) and math.isnan(v) else v for key, v in flat.items()}


def as_markdown(found: Mapping[str, Any]) -> str:
    """One table per task; what was published is written in italics and marked."""
    parts = []
    for task in dict.fromkeys(row["task"] for row in found["results"]):
        ours = [row for row in (*found["results"], *found["over_runs"]) if row["task"] == task]
        lines = [_line(_name(row), row) for row in ours]
        for entry in published_rows(task):
            mean_return = "" if entry.mean_return is None else f"*{entry.mean_return:.2f}*"
            lines.append(
                [f"*{entry.system} (published)*", "", f"*{entry.success:.1f}*", "", mean_return, "", "", ""]
            )
        heading = f"### {task} (rules: {ours[0]['rule_set']}, evaluation seed {ours[0]['seed']})"
        answers = [_cell(answers_note(row)) for row in ours if row.get("requests") is not None]
        titles = ["system", "episodes", "success %", "95 %", "return", "95 %", "reached %", "legal %"]
        notes = [*answers, f"Published: {SOURCE}, a 7 B model. {success_rule(task)}"]
        parts.append(f"{heading}\n\n{table(titles, lines)}\n\n{' '.join(notes)}")
    return "\n\n".join(parts)


def answers_note(row: Mapping[str, Any]) -> str:
    """What an API's answers were and cost, as one sentence.

    Counts that an older version did not store are left out: they are not zero.
    """
    counts = {"refusals": "refused", "empty": "empty", "cut": "cut off at the limit of tokens"}
    found = [f"{row[name]} {words}" for name, words in counts.items() if row.get(name) is not None]
    if row.get("cut"):
        found[-1] += " (--max-output-tokens raises it)"
    drawn = "; their actions were drawn at random" if any(row.get(name) for name in counts) else ""
    missing = f" {row['errors']} episodes have no result." if row["errors"] else ""
    spent = f"{row['requests']} requests, {row['cost']:.4f} $"
    return f"{row['system']}: {spent}; of the answers {', '.join(found)}{drawn}.{missing}"


def _name(row: Mapping[str, Any]) -> str:
    if row.get("runs"):
        return f"{row['system']}, mean of {row['runs']} runs"
    parts = [row["system"], row.get("checkpoint") or row.get("model") or ""]
    if row.get("training_seed") is not None:
        parts.append(f"seed {row['training_seed']}")
    return " ".join(part for part in parts if part)


def _line(name: str, row: Mapping[str, Any]) -> list[str]:
    low, high = row["success_ci"]
    return_low, return_high = row["return_ci"]
    return [
        name,
        str(row["episodes"]),
        f"{100 * row['success']:.1f}",
        f"{100 * low:.1f}–{100 * high:.1f}",
        f"{row['mean_return']:.2f}",
        f"{return_low:.2f} to {return_high:.2f}",
        f"{100 * row['goal_rate']:.1f}",
        f"{100 * row['legal_rate']:.1f}",
    ]


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left, numbers to the right."""
    lines = ["| " + " | ".join(titles) + " |", "|---" + "|---:" * (len(titles) - 1) + "|"]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text that cannot break out of its cell."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
