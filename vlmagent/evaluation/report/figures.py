"""The paper's figures: training curves over seeds, drawn with matplotlib, and the same numbers as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlmagent.errors import UsageError
from vlmagent.evaluation.formats import table
from vlmagent.evaluation.report.catalogue import LABELS, RL, Variant
from vlmagent.evaluation.report.collect import Collection
from vlmagent.evaluation.report.sources import WINDOW, Curve
from vlmagent.evaluation.report.tables import NOTHING, mean_and_spread

# points of a band, evenly over the steps that all seeds cover
POINTS = 120
# those of them that the table below a figure shows
SHOWN = 5
_COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")


@dataclass(frozen=True, slots=True)
class Band:
    """Curves of several seeds on common env steps (K,): mean and standard deviation (0 for a single seed)."""

    steps: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    seeds: int


def band(curves: Sequence[Curve]) -> Band | None:
    """Several seeds' curves together, over the steps that all of them cover."""
    if not curves:
        return None
    # each curve begins when its first window is full, and ends with its run: outside, some seeds would be missing
    low = max(float(curve.steps[0]) for curve in curves)
    high = min(float(curve.steps[-1]) for curve in curves)
    if high <= low:
        return None
    steps = np.linspace(low, high, POINTS)
    rows = np.stack([np.interp(steps, curve.steps, curve.values) for curve in curves])
    # n - 1, as in the tables; one seed has no spread
    std = rows.std(0, ddof=1) if len(curves) > 1 else np.zeros(POINTS)
    return Band(steps, rows.mean(0), std, len(curves))


def curves_of(found: Collection, task: str, variant: Variant) -> list[Curve]:
    """The training curves of a variant's runs."""
    study = found.study(task, variant)
    return [run.curve for run in study.runs if run.curve is not None] if study else []


def markdown(found: Collection, pictures: Sequence[Path]) -> str:
    """The figure's numbers: the curves at a few points, their peaks."""
    scale, digits = (100, 1) if found.item.measure == "success" else (1, 2)
    parts = [f"![{found.item.title}]({picture.name})" for picture in pictures if picture.suffix == ".png"]
    for task in found.recipes:
        rows: list[list[str]] = []
        titles: list[str] = []
        for variant in found.item.variants:
            curves = curves_of(found, task, variant)
            both = band(curves)
            if both is None:
                rows.append([variant.label, *[NOTHING] * (SHOWN + 1)])
                continue
            # evenly over the band, both ends included
            marks = np.linspace(0, POINTS - 1, SHOWN).astype(int)
            titles = titles or [f"step {both.steps[mark]:,.0f}" for mark in marks]
            cells = [
                _cell(scale * both.mean[mark], scale * both.std[mark], both.seeds, digits) for mark in marks
            ]
            rows.append([variant.label, *cells, mean_and_spread([scale * c.peak for c in curves], digits)])
        unit = "success %" if found.item.measure == "success" else "return"
        heading = [unit, *(titles or [""] * SHOWN), "peak"]
        parts.append(f"### {LABELS.get(task, task)}\n\n{table(heading, rows)}")
    note = f"Moving average over the last {WINDOW} training episodes; mean ± standard deviation over seeds."
    return "\n\n".join([*parts, note])


def _cell(mean: float, std: float, seeds: int, digits: int) -> str:
    return f"{mean:.{digits}f}" if seeds == 1 else f"{mean:.{digits}f} ± {std:.{digits}f}"


def draw(found: Collection, out: Path) -> list[Path]:
    """Draw the figure as PNG and SVG into ``out``; nothing when there is no curve yet.

    Raises:
        UsageError: matplotlib is not installed.
    """
    tasks = [task for task in found.recipes if any(curves_of(found, task, v) for v in found.item.variants)]
    if not tasks:
        return []
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            "Drawing figures needs matplotlib, which is not installed. Install it: pip install 'vlmagent[report]'"
        ) from None
    # a fixed salt and no date: the same numbers give the same file, byte for byte
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "vlmagent", "svg.fonttype": "none"}):
        figure: Any = Figure(figsize=(4.2 * len(tasks), 3.4), layout="constrained")
        axes = figure.subplots(1, len(tasks), squeeze=False)[0]
        for axis, task in zip(axes, tasks, strict=True):
            _draw_task(axis, found, task)
        files = [out / f"{found.item.name}.{kind}" for kind in ("png", "svg")]
        figure.savefig(files[0], dpi=150)
        figure.savefig(files[1], metadata={"Date": None})
    return files


def _draw_task(axis: Any, found: Collection, task: str) -> None:
    scale = 100 if found.item.measure == "success" else 1
    for variant, colour in zip(found.item.variants, _COLOURS, strict=False):
        both = band(curves_of(found, task, variant))
        if both is None:
            continue
        label = f"{variant.label} ({both.seeds} seed{'s' if both.seeds > 1 else ''})"
        axis.plot(both.steps, scale * both.mean, color=colour, label=label, linewidth=1.6)
        low, high = both.mean - both.std, both.mean + both.std
        if found.item.measure == "success":
            low = np.clip(low, 0, 1)  # no success is below 0 or above 1, however wide the seeds spread
            high = np.clip(high, 0, 1)
        axis.fill_between(both.steps, scale * low, scale * high, color=colour, alpha=0.2, linewidth=0)
    for label, value in _levels(found, task):
        axis.axhline(scale * value, color="#555555", linestyle="--", linewidth=0.9)
        axis.annotate(
            label,
            (0.99, scale * value),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=7,
        )
    axis.set_title(LABELS.get(task, task))
    axis.set_xlabel("env steps")
    axis.set_ylabel("episode success (%)" if scale == 100 else "episode return")
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7, loc="best", frameon=False)


def _levels(found: Collection, task: str) -> list[tuple[str, float]]:
    """Horizontal lines: the mean supervised start, and models behind an API that were evaluated."""
    if not found.item.start:
        return []
    wanted = "success" if found.item.measure == "success" else "mean_return"
    study = found.study(task, RL)
    starts = [getattr(run.start, wanted) for run in study.runs if run.start] if study else []
    levels = [("SFT", float(np.mean(starts)))] if starts else []
    levels += [
        (name, getattr(result, wanted))
        for name, result in found.baselines.get(task, {}).items()
        if result.requests is not None
    ]
    return levels
