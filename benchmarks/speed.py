"""How fast everything is, as ratios measured in turns: ``make bench``.

    python -m benchmarks.speed                          # all parts, some minutes; writes docs/performance.md and .json
    python -m benchmarks.speed --only loop --rounds 5   # one part, prints alone

Parts: ``envs`` (environment steps a second), ``collect`` (one step of 32 environments), ``update`` (one minibatch
forward, back and stepped), ``loop`` (whole updates beside the paper's schedule, the bare bound and a loop without
logging), ``start`` (of commands), ``growth`` (with environments, output length, picture tokens and the database's
size). ``collect`` and ``update`` set our own passes beside transformers'. Supervised starts come from the cache, or are
trained first. Wants an otherwise idle machine; ratios hold on a busy one too.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks import growth, parts, starting
from benchmarks.harness import machine, markdown

DOCS = Path(__file__).parent.parent / "docs"
PAGE, RECORD = DOCS / "performance.md", DOCS / "performance.json"
BLOCK = re.compile(r"(<!-- speed -->\n).*?(<!-- end -->)", re.DOTALL)
LOOPS = ("numberline", "ezpoints")

Part = Callable[[int, Sequence[str]], dict[str, Any]]
PARTS: dict[str, Part] = {
    "envs": lambda rounds, _: parts.envs(rounds),
    "collect": lambda rounds, tasks: {task: parts.collect(task, rounds) for task in tasks},
    "update": lambda rounds, tasks: {task: parts.update(task, rounds) for task in tasks},
    "loop": lambda rounds, tasks: {task: parts.whole(task, rounds) for task in tasks},
    "start": lambda rounds, _: starting.start(rounds),
    "growth": lambda rounds, _: growth.growth(rounds),
}


def measure(
    names: Sequence[str], tasks: Sequence[str], rounds: int, told: Callable[[str], None]
) -> dict[str, Any]:
    """The parts asked for, each as plain numbers."""
    found: dict[str, Any] = {"machine": machine(), "date": date.today().isoformat(), "rounds": rounds}
    for name in names:
        told(f"{name} ...")
        found[name] = PARTS[name](rounds, tasks)
    return found


def page(found: dict[str, Any]) -> str:
    """What was measured, for people: one table a part."""
    where = found["machine"]
    blocks = [
        f"Measured on {found['date']}: {where['cores']} cores ({where['processor']}), {where['memory_gib']} GiB, torch "
        f"{where['torch']}, transformers {where['transformers']}, {where['threads']} threads, load "
        f"{where['load']} when it began; medians of {found['rounds']} rounds in turns, quartiles in brackets. "
        "Milliseconds of wall time unless a column says otherwise; ratios are of processor time."
    ]
    for name, table in TABLES.items():
        if name in found:
            blocks.append(table(found[name]))
    return "\n\n".join(blocks)


def _envs(found: dict[str, Any]) -> str:
    rows = [[task, f"{each['steps_per_second']:,.0f}"] for task, each in found.items()]
    return markdown(["environment, one core", "steps a second"], rows)


def _pairs(what: str) -> Callable[[dict[str, Any]], str]:
    def table(found: dict[str, Any]) -> str:
        rows = [
            [task, _ms(each["ours"]), _ms(each["transformers"]), f"{each['ratio']:.2f}"]
            for task, each in found.items()
        ]
        return markdown([what, "ours", "transformers' own passes", "ratio"], rows)

    return table


def _loop(found: dict[str, Any]) -> str:
    rows = [
        [
            task,
            _ms(each["ours"]),
            _ms(each["paper"]),
            f"{each['times_the_papers_schedule']:.1f}",
            f"{each['times_the_bare_bound']:.2f}",
            f"{100 * each['logging_share']:.1f} %",
        ]
        for task, each in found.items()
    ]
    head = ["whole loop, an environment step", "ours", "the paper's schedule", "times as fast"]
    return markdown([*head, "times the bare bound", "logging"], rows)


def _start(found: dict[str, Any]) -> str:
    rows = [[name, _ms(each["wall"]), _ms(each["processor"])] for name, each in found.items()]
    return markdown(["start", "wall", "processor"], rows)


def _growth(found: dict[str, Any]) -> str:
    rows = [
        [name, ", ".join(f"{size}: {value:.3g}" for size, value in each["points"].items()), each["unit"]]
        for name, each in found.items()
    ]
    return markdown(["growth with", "measured", "unit"], rows)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "loop": _loop,
    "collect": _pairs("one step of 32 environments"),
    "update": _pairs("one minibatch, forward, back and stepped"),
    "envs": _envs,
    "start": _start,
    "growth": _growth,
}


def _ms(spread: dict[str, float]) -> str:
    return f"{1e3 * spread['median']:.3g} ({1e3 * spread['low']:.3g} to {1e3 * spread['high']:.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="a part, instead of all; prints alone")
    parser.add_argument("--task", action="append", help="of collect, update and loop, instead of both")
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison")
    parser.add_argument("--threads", type=int, default=0, help="torch's; 0 takes as many as a run would take")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, but is {options.rounds}")
    if options.threads:
        torch.set_num_threads(options.threads)
    names = options.only or list(PARTS)
    found = measure(
        names,
        options.task or LOOPS,
        options.rounds,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    text = page(found)
    print(text)
    if not options.only:
        RECORD.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        filled = BLOCK.sub(
            lambda match: f"{match[1]}\n{text}\n\n{match[2]}", PAGE.read_text(encoding="utf-8")
        )
        PAGE.write_text(filled, encoding="utf-8")
        print(f"\nWritten: {PAGE.name} and {RECORD.name} in docs", file=sys.stderr)


if __name__ == "__main__":
    main()
