"""Rich tables of runs and results, for the terminal. Rows in, renderables out; reads nothing itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from vlmagent.cli.grid import Column, Facts, Grid, cell
from vlmagent.evaluation.formats import answers_note
from vlmagent.evaluation.published import SOURCE, published_rows, success_rule
from vlmagent.paths import Run
from vlmagent.text import harmless

STATE_STYLE = {
    "running": "green",
    "starting": "green",
    "done": "blue",
    "stopped": "yellow",
    "failed": "red",
    "lost": "red",
}

_SHOWN = ("path", "state", "task", "model", "seed", "env_steps", "error")
"""Columns of a run's row that ``runs show`` prints."""


def eval_table(
    rows: Sequence[Mapping[str, Any]],
    over_runs: Sequence[Mapping[str, Any]] = (),
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> Group:
    """One table per task: our systems with intervals, then the paper's rows, marked as published.

    Args:
        rows: results as ``eval --json`` prints them.
        over_runs: several training runs of one system together.
        comparisons: pairs of systems on the same episodes.
    """
    parts: list[Any] = [Text()]
    for task in dict.fromkeys(str(row["task"]) for row in rows):
        # bound as a default: a function made in a loop would otherwise see the last task
        def of_task(items: Sequence[Mapping[str, Any]], task: str = task) -> list[Mapping[str, Any]]:
            return [item for item in items if item["task"] == task]

        parts.append(_task_table(task, of_task(rows), of_task(over_runs)))
        kinds = [row for row in of_task(rows) if row.get("by_type")]
        parts += [_kinds_table(kinds)] if kinds else []
        parts += [_comparison(pair) for pair in of_task(comparisons)]
    return Group(*parts)


def _task_table(
    task: str, rows: Sequence[Mapping[str, Any]], over_runs: Sequence[Mapping[str, Any]]
) -> Group:
    """What is exact about a system stands in the footnote, so that the table fits into 80 columns."""
    titles = ("success %", "95 %", "return", "reached %", "legal %")
    grid = Grid([Column("system"), *(Column(title, "number") for title in titles)])
    # only then is it needed to tell runs of one checkpoint apart
    several = len({row["run"] for row in rows if row["checkpoint"]}) > 1
    for row in rows:
        grid.add(_system(row, several), *_numbers(row))
    for row in over_runs:
        grid.add(cell(f"{row['system']}, mean of {row['runs']} runs", "bold"), *_numbers(row))
    published = published_rows(task)
    # a gap between what was measured here and what was published
    grid.sections.add(len(grid.rows))
    for entry in published:
        mean_return = "" if entry.mean_return is None else f"{entry.mean_return:.2f}"
        cells = (f"{entry.system} (published)", f"{entry.success:.1f}", "", mean_return, "", "")
        grid.add(*(cell(text, "dim") for text in cells))
    title = cell(f"{task} · rules: {rows[0]['rule_set']}", "bold")
    footnote = Text(_footnote(rows, over_runs, bool(published)), style="dim")
    return Group(title, Text(), grid, Text(), footnote)


def _numbers(row: Mapping[str, Any]) -> tuple[Text, ...]:
    low, high = row["success_ci"]
    return (
        Text(f"{100 * row['success']:.1f}", style="bold"),
        Text(f"{100 * low:.1f}–{100 * high:.1f}"),
        Text(f"{row['mean_return']:.2f}"),
        Text(f"{100 * row['goal_rate']:.1f}"),
        Text(f"{100 * row['legal_rate']:.1f}"),
    )


def _system(row: Mapping[str, Any], several_runs: bool) -> Text:
    text = cell(row["system"], "bold")
    if row["checkpoint"]:
        model = harmless(Path(str(row["model"])).name)
        seed = row.get("training_seed")
        text.append(f" {model} {row['checkpoint']}", style="dim")
        if several_runs and seed is not None:
            text.append(f" seed {seed}", style="dim")
    elif row["model"]:
        text.append(f" {harmless(str(row['model']))}", style="dim")
    return text


def _kinds_table(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Success by kind of episode, with the number of episodes: kinds differ in how often they come."""
    kinds = sorted({kind for row in rows for kind in row["by_type"]})
    grid = Grid(
        [Column("success % (episodes) by type"), *(Column(harmless(kind), "number") for kind in kinds)]
    )
    for row in rows:
        found = [row["by_type"].get(kind) for kind in kinds]
        cells = [f"{100 * kind['success']:.1f} ({kind['episodes']})" if kind else "" for kind in found]
        grid.add(_system(row, False), *(Text(text) for text in cells))
    return grid


def _comparison(row: Mapping[str, Any]) -> Text:
    """One pair in one line."""
    pair = row["pairing"]
    low, high = pair["return_difference_ci"]
    return cell(
        f"{row['second']} against {row['first']}, {pair['episodes']} shared episodes: success "
        f"{100 * pair['success_difference']:+.1f} points (McNemar p = {pair['p_value']:.2g}), return "
        f"{pair['return_difference']:+.2f} ({low:+.2f} to {high:+.2f}).",
        "dim",
    )


def _footnote(
    rows: Sequence[Mapping[str, Any]], over_runs: Sequence[Mapping[str, Any]], published: bool
) -> str:
    temperatures = {row["temperature"] for row in rows if row["temperature"] is not None}
    sampled = (
        f", sampled at temperature {', '.join(f'{t:g}' for t in sorted(temperatures))}"
        if temperatures
        else ""
    )
    episodes = ", ".join(str(n) for n in sorted({row["episodes"] for row in rows}))
    rule = success_rule(rows[0]["task"])
    notes = [f"{episodes} episodes of evaluation seed {rows[0]['seed']}{sampled}. {rule}"]
    notes += [
        f"{row['system']} over {row['runs']} runs: standard deviation {100 * row['success_std']:.1f} points of "
        f"success, {row['return_std']:.2f} of return; intervals by bootstrap over runs and episodes."
        for row in over_runs
    ]
    notes += [answers_note(row) for row in rows if row.get("requests") is not None]
    if published:
        notes.append(f"Published: {SOURCE}, a 7 B model.")
    return " ".join(notes)


def runs_table(runs: Sequence[Mapping[str, Any]]) -> Grid | Text:
    """All runs, one line each."""
    if not runs:
        return Text("No runs yet. Start one: vlmagent train numberline")
    names = (Column("run"), Column("state"), Column("task"), Column("model"))
    grid = Grid([*names, Column("steps", "number"), Column("age", "number"), Column("error", "text")])
    for run in runs:
        grid.add(
            cell(Path(str(run["path"])).name),
            _state(run.get("state") or run.get("status")),
            cell(run.get("task")),
            cell(run.get("model")),
            cell(run.get("env_steps") or 0),
            cell(_age(run.get("created_at"))),
            cell(str(run.get("error") or "").split("\n")[0], "red"),
        )
    return grid


def _state(state: object) -> Text:
    return cell(state, STATE_STYLE.get(str(state), ""))


def _age(created: float | None) -> str:
    if created is None:
        return ""
    seconds = max(time.time() - created, 0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def run_panel(run: Run, row: Mapping[str, Any]) -> Group:
    """One run in full: its row, newest numbers, checkpoints, evaluations and last events."""
    from vlmagent.errors import StoreError
    from vlmagent.store.reader import StoreReader

    known = [key for key in _SHOWN if row.get(key) is not None]
    facts = [(key, _state(row[key]) if key == "state" else cell(row[key])) for key in known]
    parts: list[Any] = [Facts(facts)]
    try:
        with StoreReader(run.database) as reader:
            parts.append(_metrics(reader.latest_metrics()))
            # checkpoints of removed folders are in the database still; only those on disk can be used
            checkpoints = [Path(c.path).name for c in reader.checkpoints() if (run.path / c.path).is_dir()]
            evaluations = [evaluation.more for evaluation in reader.evaluations()]
            events = reader.events()[-8:]
    except StoreError as error:
        return Group(*parts, cell(error, "red"))
    parts.append(cell(f"checkpoints: {', '.join(checkpoints) or 'none yet'}"))
    if evaluations:
        parts.append(eval_table(evaluations))
    for event in events:
        clock = time.strftime("%H:%M:%S", time.localtime(event.at))
        parts.append(cell(f"{clock} {event.level}: {event.text}", "dim"))
    return Group(*parts)


def _metrics(metrics: Mapping[str, Any]) -> Facts:
    """Newest value of every metric, two to a line where they fit."""
    return Facts(
        [(name, Text(_value(name, metric.value))) for name, metric in sorted(metrics.items())], across=2
    )


def _value(name: str, value: float) -> str:
    # steps are counted: 12,800 and not 1.28e+04
    return f"{value:,.0f}" if name.startswith("learnt/") else f"{value:.4g}"
