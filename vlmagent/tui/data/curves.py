"""Turns followed runs into the lines of a chart: which axis, how smooth, which part.

Deliberately knows no widget's life: series in, lines out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from vlmagent.tui.data.drawing import LINE_STYLES, Line
from vlmagent.tui.data.live import LiveRun, Series
from vlmagent.tui.data.metrics import ChartSpec
from vlmagent.tui.data.raster import Floats, Span, smooth

AXES = ("steps", "updates", "time")
AXIS_NAMES = {"steps": "env steps", "updates": "updates", "time": "minutes"}
# off, light, strong: the weight of the past in a moving average, about 1 / (1 - weight) points long
SMOOTHINGS = (0.0, 0.6, 0.9)
# points of a smoothed line: the average is a loop in Python, and a chart is few hundred dots wide
MOST_POINTS = 300
# shares of the axis, from all of it to a twentieth
ZOOMS = (1.0, 0.5, 0.25, 0.1, 0.05)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Look:
    """How all charts are drawn.

    Attributes:
        axis: one of ``AXES``.
        smoothing: weight of the past, 0 for none.
        zoom: the share of the axis that is shown, at its newest end or around the crosshair.
    """

    axis: str = "steps"
    smoothing: float = 0.0
    log: bool = False
    zoom: float = 1.0

    def next_axis(self) -> Look:
        """Along the next one of ``AXES``."""
        return replace(self, axis=_next(AXES, self.axis))

    def next_smoothing(self) -> Look:
        """With the next one of ``SMOOTHINGS``."""
        return replace(self, smoothing=_next(SMOOTHINGS, self.smoothing))

    def zoomed(self, steps: int) -> Look:
        """Some of ``ZOOMS`` closer, or further away where negative; stops at either end."""
        place = ZOOMS.index(self.zoom) + steps
        return replace(self, zoom=ZOOMS[min(max(0, place), len(ZOOMS) - 1)])


def _next(choices: Sequence[T], present: T) -> T:
    return choices[(choices.index(present) + 1) % len(choices)]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """The points the crosshair steps through: (N,) each, ascending. ``updates`` is None in the SFT phase."""

    x: Floats
    updates: Sequence[int] | None

    def nearest(self, x: float) -> int | None:
        """Index of the point nearest to ``x``."""
        return int(np.argmin(np.abs(self.x - x))) if self.x.size else None

    def moved(self, cursor: int | None, steps: int) -> int | None:
        """Index of the point some steps from the crosshair; None when there are no points.

        Without a crosshair a single step puts it on the newest point, for that is what one looks at first; a jump
        counts from the end that it moves away from.
        """
        last = len(self.x) - 1
        if last < 0:
            return None
        if cursor is None and abs(steps) <= 1:
            return last
        if cursor is None:
            cursor = last if steps < 0 else 0
        return min(max(0, cursor + steps), last)


def points_of(live: LiveRun, look: Look, sft: bool) -> Points:
    """The points of a run: its updates, or the logged steps of its supervised start."""
    if sft:
        # any metric of that phase would do: all are logged together
        return Points(live.sft_series("sft/loss")[0], None)
    series = base_series(live)
    if series is None:
        return Points(np.zeros(0), ())
    return Points(_along(series, live, look.axis), series.updates)


def base_series(live: LiveRun) -> Series | None:
    """The longest series over updates: every update has a point in it."""
    # metrics of the supervised start count samples, not updates
    found = [series for name, series in live.series.items() if not name.startswith("sft/")]
    return max(found, key=len, default=None)


def lines_of(spec: ChartSpec, lives: Sequence[LiveRun], look: Look) -> list[Line]:
    """One line for each run that has the metric; two where it is smoothed, the raw one faint."""
    lines: list[Line] = []
    for number, live in enumerate(lives):
        x, y = _values(spec, live, look)
        if not x.size:
            continue
        # by run and not by line: a run that lacks one metric keeps its colour in the other charts
        colour = number % LINE_STYLES
        # two points leave nothing to smooth
        if look.smoothing and x.size > 2:
            # the raw line keeps every point, because its spikes are what smoothing hides
            thin_x, thin_y = thin(x, y, MOST_POINTS)
            lines.append(Line(x, y, colour, faint=True))
            lines.append(Line(thin_x, smooth(thin_y, look.smoothing), colour))
        else:
            lines.append(Line(x, y, colour))
    return lines


def span_x(lives: Sequence[LiveRun], look: Look, sft: bool, cursor: float | None) -> Span:
    """The part of the axis to show: all runs from the beginning, or the zoomed part of it."""
    ends = [points.x[-1] for live in lives if (points := points_of(live, look, sft)).x.size]
    # a span must not be empty: the only point of a run may lie at 0
    high = float(max(ends, default=1.0)) or 1.0
    width = high * look.zoom
    if look.zoom == 1.0:
        return Span(0.0, high)
    middle = high if cursor is None else cursor
    # beside either end the window stops there, as wide as elsewhere
    low = min(max(0.0, middle - width / 2), high - width)
    return Span(low, low + width)


def thin(x: Floats, y: Floats, most: int) -> tuple[Floats, Floats]:
    """At most ``most`` points: means of equally many neighbours; the mean of none known is NaN."""
    if x.size <= most:
        return x, y
    # rounded up, else there would be a group more than `most`
    size = -(-x.size // most)
    starts = np.arange(0, x.size, size)
    known = np.isfinite(y)
    counts = np.add.reduceat(known, starts, dtype=np.float64)
    sums = np.add.reduceat(np.where(known, y, 0.0), starts)
    # the last group may be shorter
    lengths = np.diff(np.append(starts, x.size))
    # 0 / 0 where no value of a group is known: the NaN that is wanted
    with np.errstate(invalid="ignore"):
        return np.add.reduceat(x, starts) / lengths, sums / counts


def _values(spec: ChartSpec, live: LiveRun, look: Look) -> tuple[Floats, Floats]:
    if spec.sft:
        return live.sft_series(spec.metric)
    series = live.series.get(spec.metric)
    if series is None:
        return np.zeros(0), np.zeros(0)
    return _along(series, live, look.axis), series.values


def _along(series: Series, live: LiveRun, axis: str) -> Floats:
    x = series.along(axis)
    if axis == "time" and live.view.row is not None:
        # minutes since the run was made; negative where the machine's clock was set back meanwhile
        return np.maximum(x - live.view.row.created_at, 0.0) / 60
    return x
