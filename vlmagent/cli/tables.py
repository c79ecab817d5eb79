"""Rich tables of runs and results, for the terminal. Rows in, renderables out; reads nothing itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

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
    parts: list[Any] = []
    for task in dict.fromkeys(str(row["task"]) for row in rows):

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
    """Fits into 80 columns: what is exact about a system stands in the footnote."""
    table = Table(
        title=f"{task} · rules: {rows[0]['rule_set']}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        padding=(0, 0, 0, 1),
    )
    table.add_column("system", no_wrap=True)
    for name in ("success %", "95 %", "return", "reached %", "legal %"):
        table.add_column(name, justify="right", no_wrap=True)
    several = len({row["run"] for row in rows if row["checkpoint"]}) > 1
    for row in rows:
        table.add_row(_system(row, several), *_numbers(row))
    for row in over_runs:
        title = Text(f"{row['system']}, mean of {row['runs']} runs", style="bold")
        table.add_row(title, *_numbers(row))
    published = published_rows(task)
    if published:
        table.add_section()
    for entry in published:
        mean_return = "" if entry.mean_return is None else f"{entry.mean_return:.2f}"
        table.add_row(
            f"{entry.system} (published)", f"{entry.success:.1f}", "", mean_return, "", "", style="dim"
        )
    return Group(table, Text(_footnote(rows, over_runs, bool(published)), style="dim"))


def _numbers(row: Mapping[str, Any]) -> tuple[Text | str, ...]:
    low, high = row["success_ci"]
    return (
        Text(f"{100 * row['success']:.1f}", style="bold"),
        f"{100 * low:.1f}–{100 * high:.1f}",
        f"{row['mean_return']:.2f}",
        f"{100 * row['goal_rate']:.1f}",
        f"{100 * row['legal_rate']:.1f}",
    )


def _system(row: Mapping[str, Any], several_runs: bool) -> Text:
    text = Text(harmless(str(row["system"])), style="bold")
    if row["checkpoint"]:
        seed = (
            f" seed {row['training_seed']}" if several_runs and row.get("training_seed") is not None else ""
        )
        text.append(f" {Path(str(row['model'])).name} {row['checkpoint']}{seed}", style="dim")
    elif row["model"]:
        text.append(f" {harmless(str(row['model']))}", style="dim")
    return text


def _kinds_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Success by kind of episode, with the number of episodes: kinds differ in how often they come."""
    kinds = sorted({kind for row in rows for kind in row["by_type"]})
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("success % (episodes) by type")
    for kind in kinds:
        table.add_column(kind, justify="right")
    for row in rows:
        found = [row["by_type"].get(kind) for kind in kinds]
        cells = [f"{100 * k['success']:.1f} ({k['episodes']})" if k else "" for k in found]
        table.add_row(_system(row, False), *cells)
    return table


def _comparison(row: Mapping[str, Any]) -> Text:
    """One pair in one line."""
    pair = row["pairing"]
    low, high = pair["return_difference_ci"]
    return Text(
        f"{row['second']} against {row['first']}, {pair['episodes']} shared episodes: success "
        f"{100 * pair['success_difference']:+.1f} points (McNemar p = {pair['p_value']:.2g}), return "
        f"{pair['return_difference']:+.2f} ({low:+.2f} to {high:+.2f}).",
        style="dim",
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


def runs_table(runs: Sequence[Mapping[str, Any]]) -> Table | Text:
    """All runs, one line each."""
    if not runs:
        return Text("No runs yet. Start one: vlmagent train numberline")
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("run", "state", "task", "model", "steps", "age", ""):
        right = name in ("steps", "age")
        table.add_column(name, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    for run in runs:
        state = str(run.get("state") or run.get("status"))
        table.add_row(
            escape(Path(str(run["path"])).name),
            Text(state, style=STATE_STYLE.get(state, "")),
            escape(str(run.get("task") or "")),
            escape(str(run.get("model") or "")),
            str(run.get("env_steps") or 0),
            _age(run.get("created_at")),
            Text(str(run.get("error") or "").split("\n")[0], style="red"),
        )
    return table


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

    head = Table.grid(padding=(0, 2))
    for key in ("path", "state", "task", "model", "seed", "env_steps", "error"):
        if row.get(key) is not None:
            style = STATE_STYLE.get(str(row[key]), "") if key == "state" else ""
            head.add_row(Text(key, style="dim"), Text(str(row[key]), style=style))
    parts: list[Any] = [head]
    try:
        with StoreReader(run.database) as reader:
            parts += [_metrics_table(reader.latest_metrics())]
            checkpoints = [Path(c.path).name for c in reader.checkpoints() if (run.path / c.path).is_dir()]
            evaluations = [evaluation.more for evaluation in reader.evaluations()]
            events = reader.events()[-8:]
    except StoreError as error:
        return Group(*parts, Text(str(error), style="red"))
    parts.append(Text(f"checkpoints: {', '.join(checkpoints) or 'none yet'}"))
    if evaluations:
        parts.append(eval_table(evaluations))
    for event in events:
        clock = time.strftime("%H:%M:%S", time.localtime(event.at))
        parts.append(Text(f"{clock} {event.level}: {event.text}", style="dim"))
    return Group(*parts)


def _metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Newest value of every metric, two to a line."""
    table = Table.grid(padding=(0, 2))
    cells = [(name, f"{metric.value:.4g}") for name, metric in sorted(metrics.items())]
    for start in range(0, len(cells), 2):
        table.add_row(*(Text(text) for cell in cells[start : start + 2] for text in cell))
    return table
