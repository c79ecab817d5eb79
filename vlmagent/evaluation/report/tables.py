"""The paper's tables as Markdown: ours with mean and standard deviation over seeds, the paper's in italics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vlmagent.evaluation.formats import table
from vlmagent.evaluation.published import (
    LOGPROBS,
    TYPES,
    WITH_COT,
    WITHOUT_COT,
    PublishedRow,
    published_row,
    published_rows,
)
from vlmagent.evaluation.report.catalogue import HOUSEHOLD, LABELS, NO_COT, RL, Variant
from vlmagent.evaluation.report.collect import Collection, Trained
from vlmagent.evaluation.report.sources import LOGPROB_SAMPLES, Curve
from vlmagent.evaluation.results import EvalResult
from vlmagent.evaluation.statistics import spread
from vlmagent.training.learnt import BARS

NOTHING = "—"
Number = Callable[[EvalResult], float]


def success(result: EvalResult) -> float:
    """Success in percent."""
    return 100 * result.success


def mean_return(result: EvalResult) -> float:
    """Mean episode return."""
    return result.mean_return


def mean_and_spread(values: Sequence[float], digits: int) -> str:
    """``97.5 ± 1.2``; a single value stands alone, none is a dash."""
    if not values:
        return NOTHING
    # + 0.0 turns a negative zero into a positive one
    mean = f"{round(float(np.mean(values)), digits) + 0.0:.{digits}f}"  # never -0.0
    return mean if len(values) == 1 else f"{mean} ± {spread(values):.{digits}f}"


def over_seeds(
    found: Collection, task: str, variant: Variant, number: Number, *, start: bool = False
) -> list[float]:
    """A number of every evaluated run of a variant."""
    study = found.study(task, variant)
    results = [run.start if start else run.end for run in study.runs] if study else []
    return [number(result) for result in results if result is not None]


def table1(found: Collection) -> str:
    """Sums of log-probs of thoughts and actions, in nats, where RL starts and where it ends."""
    rows = []
    for label, start in (("ours, SFT start", True), ("ours, after RL", False)):
        cells = [_logprob_cells(found, task, start) for task in found.tasks]
        rows += [
            [f"thoughts ({label})", *(c[0] for c in cells)],
            [f"action ({label})", *(c[1] for c in cells)],
        ]
    # the paper prints a sum for each task, before and after is not told apart
    for index, part in enumerate(("thoughts", "action")):
        printed = [f"*{LOGPROBS[task][index]:.1f}*" if task in LOGPROBS else NOTHING for task in found.tasks]
        rows.append([f"*{part} (published)*", *printed])
    note = f"Each of our runs: mean over the first {LOGPROB_SAMPLES} outputs of its evaluation (or all, if fewer)."
    return f"{table(['sum of log-probs', *_titles(found)], rows)}\n\n{note}"


def _logprob_cells(found: Collection, task: str, start: bool) -> tuple[str, str]:
    study = found.study(task, RL)
    results = [(run.source, run.start if start else run.end) for run in study.runs] if study else []
    sums = [source.logprobs(result) for source, result in results if result is not None]
    known = [one for one in sums if one is not None]
    return mean_and_spread([s.thought for s in known], 2), mean_and_spread([s.action for s in known], 2)


def table2(found: Collection) -> str:
    """Success of every method on every task; then the peak of the training curves, as the paper counts RL methods."""
    cards = _without_household(found)
    parts = [_methods(cards, success, 1), _peaks(cards), _reached(cards)] if cards.tasks else []
    return "\n\n".join([*parts, _alfworld(found, ("BUTLER_g", "BUTLER", *_METHODS, WITH_COT))])


def table3(found: Collection) -> str:
    """Success with and without chain of thought."""
    cards = _without_household(found)
    parts = [_with_and_without(cards), _peaks(cards), _reached(cards)] if cards.tasks else []
    return "\n\n".join([*parts, _alfworld(found, (WITH_COT, WITHOUT_COT))])


def _without_household(found: Collection) -> Collection:
    """The tasks that have one column each."""
    return replace(found, tasks=tuple(task for task in found.tasks if task != HOUSEHOLD))


def _with_and_without(found: Collection) -> str:
    rows = [_variant_row(found, variant, success, 1) for variant in (RL, NO_COT)]
    rows.append(["difference of the means", *_differences(found)])
    printed = {name: [published_row(task, name) for task in found.tasks] for name in (WITH_COT, WITHOUT_COT)}
    for name, entries in printed.items():
        rows.append([f"*{name} (published)*", *(f"*{e.success:.1f}*" if e else NOTHING for e in entries), ""])
    gaps = [
        f"*{a.success - b.success:+.1f}*" if a and b else NOTHING
        for a, b in zip(printed[WITH_COT], printed[WITHOUT_COT], strict=True)
    ]
    rows.append(["*difference (published)*", *gaps, ""])
    return table(["success %", *_titles(found), "average"], rows)


def _differences(found: Collection) -> list[str]:
    cells = []
    for task in found.tasks:
        means = [over_seeds(found, task, variant, success) for variant in (RL, NO_COT)]
        # `all`: an empty list of seeds has no mean
        cells.append(f"{np.mean(means[0]) - np.mean(means[1]):+.1f}" if all(means) else NOTHING)
    return [*cells, ""]


def table4(found: Collection) -> str:
    """Success and return of every method on every task."""
    return f"{_methods(found, success, 1)}\n\n{_methods(found, mean_return, 2)}"


_METHODS = ("CNN+RL", "GPT4-V", "Gemini", "LLaVA-sft")


def _methods(found: Collection, number: Number, digits: int) -> str:
    """One row per method: ours first, then the paper's."""
    rows = [
        _variant_row(found, variant, number, digits) for variant in found.item.variants if variant is not RL
    ]
    starts = [over_seeds(found, task, RL, number, start=True) for task in found.tasks]
    rows.append(["SFT start", *_cells(starts, digits)])
    rows.append(_variant_row(found, RL, number, digits))
    names = dict.fromkeys(name for of_task in found.baselines.values() for name in of_task)
    # in the order of their first appearance: not every baseline was evaluated on every task
    for name in names:
        results = [found.baselines.get(task, {}).get(name) for task in found.tasks]
        model = next((f" ({r.model})" for r in results if r is not None and r.model), "")
        rows.append([f"{name}{model}", *_cells([[number(r)] if r else [] for r in results], digits)])
    rows += _printed_rows(found, number, digits)
    title = "success %" if number is success else "episode return"
    return table([title, *_titles(found), "average"], rows)


def _printed_rows(found: Collection, number: Number, digits: int) -> list[list[str]]:
    rows = []
    for name in dict.fromkeys(entry.system for task in found.tasks for entry in published_rows(task)):
        entries = [published_row(task, name) for task in found.tasks]
        values = [_printed(entry, number) for entry in entries]
        if any(value is not None for value in values):
            cells = [NOTHING if value is None else f"*{value:.{digits}f}*" for value in values]
            rows.append([f"*{name} (published)*", *cells, ""])
    return rows


def _printed(entry: PublishedRow | None, number: Number) -> float | None:
    if entry is None:
        return None
    return entry.success if number is success else entry.mean_return


def _variant_row(found: Collection, variant: Variant, number: Number, digits: int) -> list[str]:
    return [
        variant.label,
        *_cells([over_seeds(found, task, variant, number) for task in found.tasks], digits),
    ]


def _cells(values: Sequence[Sequence[float]], digits: int) -> list[str]:
    """A cell per task and the average of the means, equally weighted as in the paper, when all tasks have one."""
    cells = [mean_and_spread(of_task, digits) for of_task in values]
    # an average over some of the tasks would stand beside the paper's over all of them
    average = float(np.mean([np.mean(v) for v in values])) if all(values) and len(values) > 1 else None
    return [*cells, "" if average is None else f"{average:.{digits}f}"]


def _titles(found: Collection) -> list[str]:
    return [LABELS.get(task, task) for task in found.tasks]


def _peaks(found: Collection) -> str:
    """The highest point of each run's training curve: what the paper prints for RL methods."""
    rows = []
    for variant in found.item.variants:
        cells = []
        for task in found.tasks:
            study = found.study(task, variant)
            peaks = [_peak(run) for run in study.runs] if study else []
            cells.append(mean_and_spread([100 * peak for peak in peaks if peak is not None], 1))
        rows.append([variant.label, *cells])
    return "Peak of the training curve, as the paper counts (ours):\n\n" + table(
        ["success %", *_titles(found)], rows
    )


def _peak(run: Trained) -> float | None:
    curve = run.source.curve("success")
    return curve.peak if curve else None


def _reached(found: Collection) -> str:
    """How soon: environment steps until each run's training curve first stood at a bar."""
    rows = []
    for variant in found.item.variants:
        cells = []
        for task in found.tasks:
            study = found.study(task, variant)
            curves = [run.source.curve("success") for run in study.runs] if study else []
            cells += [_steps_to(bar, [curve for curve in curves if curve is not None]) for bar in BARS]
        rows.append([variant.label, *cells])
    heads = [f"{title} {100 * bar:.0f} %" for title in _titles(found) for bar in BARS]
    return "Environment steps until the training curve first stood at (ours):\n\n" + table(
        ["env steps", *heads], rows
    )


def _steps_to(bar: float, curves: Sequence[Curve]) -> str:
    """Over the seeds that came so far, and how many these are where not all did."""
    steps = [at for at in (curve.reaches(bar) for curve in curves) if at is not None]
    cell = mean_and_spread(steps, 0)
    return cell if len(steps) in (0, len(curves)) else f"{cell} ({len(steps)} of {len(curves)})"


def _alfworld(found: Collection, systems: Sequence[str]) -> str:
    """ALFWorld by kind of episode: ours if it was asked for, and the paper's."""
    rows = _our_household(found) if HOUSEHOLD in found.tasks else []
    for name in systems:
        entry = published_row(HOUSEHOLD, name)
        if entry is not None and entry.by_type is not None:
            mark = " (expert data)" if entry.expert_data else ""
            cells = [f"*{value:.1f}*" for value in (*entry.by_type, entry.success)]
            rows.append([f"*{name}{mark} (published)*", *cells])
    return "ALFWorld:\n\n" + table(["success %", *TYPES, "weighted average"], rows)


def _our_household(found: Collection) -> list[list[str]]:
    """Our rows: a kind's success, and that of all episodes, which weights the kinds by how often they came."""
    lines: list[tuple[str, list[EvalResult]]] = []
    # the same for all rows; "mini" where nothing was trained yet
    world = "mini"
    for variant in found.item.variants:
        study = found.study(HOUSEHOLD, variant)
        runs = study.runs if study else ()
        world = next((str(run.source.config.env.get("world", world)) for run in runs), world)
        if variant is RL and found.item.start:
            lines.append(("SFT start", [run.start for run in runs if run.start]))
        lines.append((variant.label, [run.end for run in runs if run.end]))
    lines += [(name, [result]) for name, result in found.baselines.get(HOUSEHOLD, {}).items()]
    rows = []
    for label, results in lines:
        kinds = [
            [100 * r.by_type[kind]["success"] for r in results if r.by_type and kind in r.by_type]
            for kind in TYPES
        ]
        cells = [mean_and_spread(values, 1) for values in [*kinds, [success(r) for r in results]]]
        rows.append([f"{label} (ours, world: {world})", *cells])
    return rows


TABLES = {"table1": table1, "table2": table2, "table3": table3, "table4": table4}
