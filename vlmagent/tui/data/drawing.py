"""What a chart is to show: its lines, their styles and its frame. Draws nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vlmagent.tui.data.raster import Floats, short

# as many as `widgets.chart.Chart` has colours for: a run and five laid over it
LINE_STYLES = 6


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One curve.

    Attributes:
        x, y: (N,) each, x ascending.
        colour: which of the ``LINE_STYLES`` colours.
        faint: drawn beneath the others and not read by the crosshair: unsmoothed values.
    """

    x: Floats
    y: Floats
    colour: int = 0
    faint: bool = False

    def at(self, x: float) -> float:
        """The known value nearest to ``x``, NaN without any."""
        # NaN is a value that is not known, such as the success rate of an update in which no episode ended
        known = np.flatnonzero(np.isfinite(self.y))
        if not known.size:
            return math.nan
        return float(self.y[known[np.argmin(np.abs(self.x[known] - x))]])

    @property
    def last(self) -> float:
        """The newest known value, NaN without any."""
        known = self.y[np.isfinite(self.y)]
        return float(known[-1]) if known.size else math.nan


@dataclass(frozen=True, slots=True)
class Frame:
    """How to draw: the value axis' ends where they are fixed, how values are written, a logarithmic axis."""

    low: float | None = None
    high: float | None = None
    write: Callable[[float], str] = short
    tick: Callable[[float], str] = short
    log: bool = False
