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

from vlmagent.published import SOURCE, published_rows

STATE_STYLE = {
    "running": "green",
    "starting": "green",
    "done": "blue",
    "stopped": "yellow",
    "failed": "red",
    "lost": "red",
}


def eval_table(rows: Sequence[Mapping[str, Any]]) -> Group:
    """One table per task: our systems with intervals, then the paper's rows, marked as published."""
    tasks = dict.fromkeys(str(row["task"]) for row in rows)
    return Group(*(_task_table(task, [row for row in rows if row["task"] == task]) for task in tasks))


def _task_table(task: str, rows: Sequence[Mapping[str, Any]]) -> Group:
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
    for row in rows:
        low, high = row["success_ci"]
        table.add_row(
            _system(row),
            Text(f"{100 * row['success']:.1f}", style="bold"),
            f"{100 * low:.1f}–{100 * high:.1f}",
            f"{row['mean_return']:.2f}",
            f"{100 * row['goal_rate']:.1f}",
            f"{100 * row['legal_rate']:.1f}",
        )
    published = published_rows(task)
    if published:
        table.add_section()
    for entry in published:
        mean_return = "" if entry.mean_return is None else f"{entry.mean_return:.2f}"
        table.add_row(
            f"{entry.system} (published)", f"{entry.success:.1f}", "", mean_return, "", "", style="dim"
        )
    return Group(table, Text(_footnote(rows, bool(published)), style="dim"))


def _system(row: Mapping[str, Any]) -> Text:
    text = Text(str(row["system"]), style="bold")
    if row["checkpoint"]:
        text.append(f" {row['model']} {row['checkpoint']}", style="dim")
    return text


def _footnote(rows: Sequence[Mapping[str, Any]], published: bool) -> str:
    temperatures = {row["temperature"] for row in rows if row["temperature"] is not None}
    sampled = (
        f", sampled at temperature {', '.join(f'{t:g}' for t in sorted(temperatures))}"
        if temperatures
        else ""
    )
    episodes = ", ".join(str(n) for n in sorted({row["episodes"] for row in rows}))
    note = f"{episodes} episodes of evaluation seed {rows[0]['seed']}{sampled}. Success: return > 0."
    return f"{note} Published: {SOURCE}, a 7 B model." if published else note


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


def run_panel(path: Path, row: Mapping[str, Any]) -> Group:
    """One run in full: its row, newest numbers, checkpoints, evaluations and last events."""
    from vlmagent import paths
    from vlmagent.errors import StoreError
    from vlmagent.store.reader import StoreReader

    head = Table.grid(padding=(0, 2))
    for key in ("path", "state", "task", "model", "seed", "env_steps", "error"):
        if row.get(key) is not None:
            style = STATE_STYLE.get(str(row[key]), "") if key == "state" else ""
            head.add_row(Text(key, style="dim"), Text(str(row[key]), style=style))
    parts: list[Any] = [head]
    try:
        with StoreReader(path / paths.DATABASE) as reader:
            parts += [_metrics_table(reader.latest_metrics())]
            checkpoints = [Path(c.path).name for c in reader.checkpoints() if (path / c.path).is_dir()]
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
