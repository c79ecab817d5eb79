"""The run under the cursor of the list: what it is, why it failed, its success so far.

Deliberately reads nothing: it draws a ``RunSummary``.
"""

from __future__ import annotations

import math

import numpy as np
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content

from vlmagent import paths
from vlmagent.text import duration, number
from vlmagent.tui.data.catalogue import RunSummary
from vlmagent.tui.data.drawing import Line
from vlmagent.tui.data.metrics import BY_KEY
from vlmagent.tui.data.raster import Span
from vlmagent.tui.data.states import LIVE, state_content
from vlmagent.tui.text import safe, safe_line
from vlmagent.tui.widgets.chart import Chart
from vlmagent.tui.widgets.run_panels import bar, how_to_go_on
from vlmagent.tui.widgets.steady import Steady


class RunPreview(Vertical):
    """A description and a small chart."""

    DEFAULT_CSS = """
    RunPreview > Steady { height: auto; padding: 0 1; }
    RunPreview > Chart { height: 1fr; max-height: 18; border: none; border-top: solid $foreground 20%; padding: 0 1; }
    RunPreview > Chart.-empty { display: none; }
    """

    def compose(self) -> ComposeResult:
        yield Steady()
        chart = Chart("success", BY_KEY["success"].frame)
        # the list keeps the keys: a chart with the focus would take the arrows for its crosshair
        chart.can_focus = False
        yield chart

    def show(self, run: RunSummary | None) -> None:
        """Draw this run, or nothing."""
        text, chart = self.query_one(Steady), self.query_one(Chart)
        chart.set_class(run is None or not run.success, "-empty")
        text.say(Content() if run is None else describe(run, max(10, self.size.width - 2)))
        if run is None or not run.success:
            return
        # the list knows no steps of single updates: they are taken to be of one length
        x = np.arange(1, len(run.success) + 1, dtype=np.float64)
        if run.env_steps:
            x *= run.env_steps / len(run.success)
        chart.draw([Line(x, np.array(run.success))], Span(0.0, float(x[-1])))


def describe(run: RunSummary, width: int) -> Content:
    """A run in a few lines."""
    lines = [Content.assemble((safe(run.name, 80, lines=False), "bold"), "  ", state_content(run.state))]
    if run.error:
        lines.append(safe_line(run.error, 600, style="$error"))
    if run.env_steps is not None:
        lines.append(_progress(run, width))
    lines.append(Content.styled(_what(run), "$foreground-muted"))
    lines.append(safe_line(_path(run), style="$foreground-muted"))
    hint = how_to_go_on(run.run, run.state, run.alive)
    if hint:
        lines.append(Content.styled(hint, "$foreground-muted"))
    return Content("\n").join(lines)


def _path(run: RunSummary) -> str:
    """Where it lies, as a user would write it."""
    # the runs folder as it was given, relative perhaps, where the run lies in it
    root = paths.runs_dir()
    return str(root / run.name if run.run.path.parent == root.resolve() else run.run)


def _progress(run: RunSummary, width: int) -> Content:
    steps = run.env_steps or 0
    if not run.goal_steps:
        return Content(f"{steps:,} env steps")
    text = f" {steps:,}/{run.goal_steps:,} env steps"
    # updates are finished whole: the last one may go beyond the goal
    share = min(1.0, steps / run.goal_steps)
    return Content.assemble(bar(share, max(6, min(24, width - len(text))), run.state), text)


def _what(run: RunSummary) -> str:
    parts = [safe(part, 60, lines=False) for part in (run.task, run.model) if part]
    if run.seed is not None:
        parts.append(f"seed {run.seed}")
    if run.speed is not None and not math.isnan(run.speed):
        parts.append(f"{number(run.speed)} steps/s")
    if run.trained is not None:
        parts.append(f"{'for' if run.state in LIVE else 'took'} {duration(run.trained)}")
    return " · ".join(parts)
