"""Trains a shipped recipe from nothing on several seeds and prints the table that the README shows.

    python benchmarks/learning.py numberline --seeds 0 1 2 3
    python benchmarks/learning.py alfworld --seeds 0 1 --episodes 300 --set env.eval_split=valid_unseen

Each seed is one `vlmagent train TASK --set seed=N --set ppo.stop_when.success=0` and one `vlmagent eval` of its
start and its end; what is already there and done is taken as it is, so that an interrupted benchmark
continues. The runs lie where `vlmagent reproduce` looks for them. `--set` changes the evaluation only. Where episodes
have kinds, a second table has each kind's success over all seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from vlmagent import paths
from vlmagent.evaluation.formats import table
from vlmagent.evaluation.report.catalogue import RL, folder_name
from vlmagent.evaluation.report.runs import REPRODUCED
from vlmagent.evaluation.statistics import wilson

MEASURED = ("SFT start: success (95 %)", "RL end: success (95 %)")
Row = tuple[int, dict[str, Any], dict[str, Any]]
"""Training seed, evaluation of the start, evaluation of the end."""


def vlmagent(*arguments: str) -> str:
    """Standard output of one command; progress goes to the terminal."""
    command = [sys.executable, "-m", "vlmagent", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def train(task: str, seed: int) -> tuple[Path, float | None]:
    """The finished run of one seed and the seconds its training took, None if it was there already."""
    run = paths.runs_dir() / REPRODUCED / folder_name(task, RL, seed, {})
    if run.exists():
        if json.loads(vlmagent("runs", "show", str(run), "--json"))["status"] != "done":
            vlmagent("train", "--resume", str(run))
        return run, None
    started = time.monotonic()
    # every seed takes all of its environment steps, whether it has learnt the task before or not
    equal = ("--set", "ppo.stop_when.success=0")
    vlmagent("train", task, "--set", f"seed={seed}", *equal, "--run-dir", str(run))
    return run, time.monotonic() - started


def evaluate(task: str, run: Path, episodes: int, overrides: list[str]) -> list[dict[str, Any]]:
    """SFT start and RL end on the same episodes."""
    arguments = [
        "--run",
        str(run),
        "--checkpoint",
        "start",
        "--checkpoint",
        "latest",
        "--episodes",
        str(episodes),
    ]
    arguments += [word for pair in overrides for word in ("--set", pair)] + ["--resume"]
    results: list[dict[str, Any]] = json.loads(vlmagent("eval", task, *arguments, "--json"))["results"]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for the evaluation")
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="add the numbers to this file, such as docs/learning.json"
    )
    options = parser.parse_args()
    rows, times = [], []
    for seed in options.seeds:
        run, seconds = train(options.task, seed)
        start, end = evaluate(options.task, run, options.episodes, options.set)
        rows.append((seed, start, end))
        if seconds is not None:
            times.append(seconds)
    print(
        f"\n{options.task}: {options.episodes} evaluation episodes a seed, {os.cpu_count()} cores, {platform.machine()}"
    )
    print(by_seed(rows))
    if rows[0][1]["by_type"]:
        print(f"\n{by_type(rows)}")
    if options.save:
        save(options.save, options.task, options.set, rows)
    if times:
        print(
            f"\nTraining took {median(times):.0f} s (median of {len(times)}; {min(times):.0f} to {max(times):.0f} s)."
        )


def save(file: Path, task: str, overrides: list[str], rows: list[Row]) -> None:
    """Put what was measured into a file, in the place of earlier numbers of the same task, evaluation and seed."""
    splits = [pair.partition("=")[2] for pair in overrides if pair.startswith("env.eval_split=")]
    evaluation = splits[-1] if splits else "valid_seen" if task == "alfworld" else ""
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    for seed, start, end in rows:
        found = {
            "task": task,
            "evaluation": evaluation,
            "seed": seed,
            "episodes": end["episodes"],
            "start": round(start["success"] * start["episodes"]),
            "end": round(end["success"] * end["episodes"]),
            "env_steps": end["env_steps"],
        }
        same = [one for one in known if all(one[key] == found[key] for key in ("task", "evaluation", "seed"))]
        known = [*(one for one in known if one not in same), found]
    lines = ",\n".join(f"  {json.dumps(one)}" for one in known)
    file.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def by_seed(rows: list[Row]) -> str:
    """A line for each training seed."""
    titles = [
        "seed",
        "SFT start: success (95 %)",
        "RL end: success (95 %)",
        "mean return",
        "reached",
        "legal",
        "env steps",
    ]
    lines = []
    for seed, start, end in rows:
        cells = [percent(start), percent(end), f"{start['mean_return']:.2f} -> {end['mean_return']:.2f}"]
        cells += [f"{100 * end['goal_rate']:.1f} %", f"{100 * end['legal_rate']:.1f} %"]
        lines.append([str(seed), *cells, str(end["env_steps"])])
    return table(titles, lines)


def by_type(rows: list[Row]) -> str:
    """A line for each kind of episode, all training seeds together."""
    lines = []
    for kind in rows[0][1]["by_type"]:
        starts, ends = zip(*((start["by_type"], end["by_type"]) for _, start, end in rows), strict=True)
        cells, episodes = [], 0
        for results in (starts, ends):
            found = [result[kind] for result in results if kind in result]
            episodes = sum(one["episodes"] for one in found)
            won = round(sum(one["success"] * one["episodes"] for one in found))
            cells.append(percent({"success": won / episodes, "success_ci": wilson(won, episodes)}))
        lines.append([kind, str(episodes), *cells])
    return table(["kind", "episodes", *MEASURED], lines)


def percent(row: dict[str, Any]) -> str:
    low, high = row["success_ci"]
    return f"{100 * row['success']:.1f} % ({100 * low:.1f}-{100 * high:.1f})"


if __name__ == "__main__":
    main()
