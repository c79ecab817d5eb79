"""One chart: axes, curves of one or several runs, a crosshair that reads their values.

Deliberately knows no run and no metric: it draws the lines it is given. Everything is drawn once per change with
numpy (about a millisecond), because the processor is busy training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.style import Style
from textual import events
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from vlmagent.tui.data.drawing import LINE_STYLES, Frame, Line
from vlmagent.tui.data.raster import Floats, Span, curve, log_ticks, span_of, ticks
from vlmagent.tui.keys import key
from vlmagent.tui.widgets.chart_canvas import (
    AXIS,
    BRAILLE,
    CURSOR,
    FIRST_LINE,
    RULE,
    TICK,
    Canvas,
    Layout,
    to_strips,
    x_ticks,
)


class Chart(Widget, can_focus=True):
    """A chart with its name and newest value in the border.

    Args:
        title: what it shows.
        frame: how it is drawn.
        hint: what the numbers are; shown while the chart has the focus.
    """

    COMPONENT_CLASSES: ClassVar = {
        "chart--axis",
        "chart--tick",
        "chart--rule",
        "chart--cursor",
        *(f"chart--line-{number}" for number in range(LINE_STYLES)),
    }
    DEFAULT_CSS = """
    Chart {
        border: round $foreground 20%;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        & > .chart--axis { color: $foreground 30%; }
        & > .chart--tick { color: $foreground-muted; }
        & > .chart--rule { color: $foreground 14%; }
        & > .chart--cursor { color: $foreground; }
        & > .chart--line-0 { color: $text-primary; }
        & > .chart--line-1 { color: $text-warning; }
        & > .chart--line-2 { color: $text-success; }
        & > .chart--line-3 { color: $text-error; }
        & > .chart--line-4 { color: $text-accent; }
        & > .chart--line-5 { color: $text-secondary; }
    }
    Chart:focus { border: round $primary; border-title-color: $foreground; }
    """
    BINDINGS: ClassVar = [
        key("left", "move(-1)", "Back", "chart.left", "Crosshair one update back", show=False),
        key("right", "move(1)", "On", "chart.right", "Crosshair one update on", show=False),
        key(
            "shift+left", "move(-10)", "Far back", "chart.far-left", "Crosshair ten updates back", show=False
        ),
        key("shift+right", "move(10)", "Far on", "chart.far-right", "Crosshair ten updates on", show=False),
        # beyond every series: whoever owns the crosshair stops it at the first and the last point
        key("home", "move(-1000000)", "First", "chart.first", "Crosshair to the first update", show=False),
        key("end", "move(1000000)", "Last", "chart.last", "Crosshair to the newest update", show=False),
        key("enter", "choose", "Update", "chart.choose", "The episodes of the update under the crosshair"),
    ]

    @dataclass
    class Moved(Message):
        """The user moved the crosshair by ``steps`` points, or to the position ``x``."""

        chart: Chart
        steps: int = 0
        x: float | None = None

    @dataclass
    class Chosen(Message):
        """The user wants to see what is behind the point under the crosshair."""

        chart: Chart

    def __init__(
        self, title: str, frame: Frame | None = None, *, hint: str = "", id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self._hint = hint
        self.name_of_values = title
        self.frame = frame or Frame()
        self.lines: Sequence[Line] = ()
        self.span = Span(0.0, 1.0)
        self._cursor: float | None = None
        # what was drawn; None has the next `render_line` draw all anew
        self._strips: list[Strip] | None = None
        self._rich_styles: list[Style] | None = None
        # of what was drawn last, to find the place under the mouse
        self._layout_: Layout | None = None

    # -- what to show

    def draw(self, lines: Sequence[Line], x: Span, cursor: float | None = None, *, log: bool = False) -> None:
        """Show ``lines`` over the range ``x``, with the crosshair at ``cursor`` (None: without)."""
        self.lines, self.span, self._cursor = lines, x, cursor
        self.frame = replace(self.frame, log=log)
        self._retitle()
        self._changed()

    def move_cursor(self, cursor: float | None) -> None:
        """Put the crosshair at ``cursor``."""
        if cursor != self._cursor:
            self._cursor = cursor
            self._retitle()
            self._changed()

    def _changed(self) -> None:
        self._strips = None
        self.refresh()

    def _retitle(self) -> None:
        """The name, and each line's value under the crosshair or the newest one."""
        title = Content.styled(self.name_of_values, "bold")
        for line in self.lines:
            # the raw values beneath a smoothed line: one number a run is enough
            if line.faint:
                continue
            value = line.last if self._cursor is None else line.at(self._cursor)
            text = "–" if math.isnan(value) else self.frame.write(value)
            colour = self.get_component_styles(f"chart--line-{line.colour}").color
            title = Content.assemble(title, "  ", (text, f"{colour.hex}"))
        left_out = self._left_out()
        if left_out:
            title = Content.assemble(title, f"  {left_out:,} ≤ 0 hidden")
        # a border takes markup, in which `Content` has escaped what it holds
        self.border_title = title.markup

    def _left_out(self) -> int:
        """How many known values in sight have no place on a logarithmic axis."""
        if not self.frame.log:
            return 0
        # of a smoothed line, the values beneath it are what was measured
        measured = [line for line in self.lines if line.faint] or self.lines
        # NaN is not known, and in no comparison
        return sum(int((line.y[self._inside(line)] <= 0).sum()) for line in measured)

    # -- drawing

    def notify_style_update(self) -> None:
        """Colours are part of what was drawn: draw again in those of the new theme."""
        super().notify_style_update()
        self._strips = self._rich_styles = None
        if self.is_mounted:
            self._retitle()

    def on_resize(self) -> None:
        self._strips = None

    def render_line(self, y: int) -> Strip:
        """One line of the chart, drawn before or now."""
        if self._strips is None:
            self._strips = self._paint()
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self.rich_style)

    def _paint(self) -> list[Strip]:
        columns, rows = self.size.width, self.size.height
        canvas = Canvas.blank(columns, rows)
        layout = self._layout_ = self._measure(columns, rows)
        if layout is None:
            words = "nothing above 0" if self._left_out() else "no data yet"
            if rows and columns > len(words) + 1:
                canvas.write((columns - len(words)) // 2, rows // 2, words, TICK)
        else:
            self._paint_axes(canvas, layout)
            self._paint_lines(canvas, layout)
        return to_strips(canvas, self._styles())

    def _measure(self, columns: int, rows: int) -> Layout | None:
        """Sizes and ticks; None when there is nothing to draw or no room."""
        values = [self._scaled(line.y[self._inside(line)]) for line in self.lines]
        known = np.concatenate(values) if values else np.zeros(0)
        # the last row has the numbers of the horizontal axis
        plot_rows = rows - 1
        # less could hold numbers or a curve, not both
        if plot_rows < 2 or columns < 16 or not np.isfinite(known).any():
            return None
        # fixed ends are values, and 0 has no logarithm
        low, high = (None, None) if self.frame.log else (self.frame.low, self.frame.high)
        span = span_of(known, low, high)
        y_ticks = self._y_ticks(span, plot_rows)
        # the widest number, and the axis itself
        gutter = max((len(text) for _, text in y_ticks), default=0) + 1
        plot = columns - gutter
        layout = Layout(plot, plot_rows, gutter, self.span, span, y_ticks)
        layout.x_ticks = x_ticks(self.span, plot)
        return layout

    def _y_ticks(self, span: Span, rows: int) -> list[tuple[int, str]]:
        found: dict[int, str] = {}
        # a number in every second row at most
        most = max(2, min(6, rows // 2))
        for value in log_ticks(span, most) if self.frame.log else ticks(span, most):
            row = round(float(1 - span.place(np.array(value))) * (rows - 1))
            # two in one row: the first stays. On a logarithmic axis the power is rounded, which would otherwise show
            # 0.19999
            found.setdefault(row, self.frame.tick(float(f"{10.0**value:.6g}") if self.frame.log else value))
        return sorted(found.items())

    def _inside(self, line: Line) -> NDArray[np.bool_]:
        return (line.x >= self.span.low) & (line.x <= self.span.high)

    def _scaled(self, y: Floats) -> Floats:
        if not self.frame.log:
            return y
        # what has no logarithm is left out, like a value that is not known
        return np.log10(np.where(y > 0, y, np.nan))

    def _paint_axes(self, canvas: Canvas, layout: Layout) -> None:
        # the axis first: ticks and rules are written over it
        for row in range(layout.rows):
            canvas.write(layout.gutter - 1, row, "│", AXIS)
        for row, text in layout.y_ticks:
            canvas.write(layout.gutter - 1 - len(text), row, text, TICK)
            canvas.write(layout.gutter - 1, row, "┤", AXIS)
            canvas.write(layout.gutter, row, "┈" * layout.columns, RULE)
        canvas.write(layout.gutter - 1, layout.rows, "└", AXIS)
        for column, text in layout.x_ticks:
            canvas.write(layout.gutter + column, layout.rows, text, TICK)

    def _paint_lines(self, canvas: Canvas, layout: Layout) -> None:
        left, cells = layout.gutter, np.zeros((layout.rows, layout.columns), np.uint8)
        styles = canvas.styles[: layout.rows, left:]
        # the colour of the run itself, whose lines come first in the list; 0 without lines
        first, count = len(self.lines) and self.lines[0].colour, LINE_STYLES
        # later ones are on top: raw values beneath all, the run itself above those laid over it
        for line in sorted(self.lines, key=lambda line: (not line.faint, line.colour == first)):
            # uint8 (rows, columns), a bit for each dot
            bits = curve(line.x, self._scaled(line.y), layout.x, layout.y, layout.columns, layout.rows)
            drawn = bits > 0
            hidden = (
                drawn & (styles >= FIRST_LINE + count) & (not line.faint)
            )  # faint dots would blur this line
            # a cell has one colour: dots of several lines are kept, in that of the last one
            cells = np.where(hidden, bits, cells | bits)
            styles[drawn] = FIRST_LINE + line.colour % count + (count if line.faint else 0)
        characters = canvas.characters[: layout.rows, left:]
        drawn = cells > 0
        # the crosshair goes behind the curves: their dots and colours stay
        column = self._cursor_column(layout)
        if column is not None:
            characters[:, column], styles[:, column] = (
                ord("│"),
                np.where(drawn[:, column], styles[:, column], CURSOR),
            )
        # the low byte of a braille character is its dots
        characters[drawn] = cells[drawn].astype(np.uint32) + BRAILLE

    def _cursor_column(self, layout: Layout) -> int | None:
        if self._cursor is None:
            return None
        place = float(layout.x.place(np.array(self._cursor)))
        return round(place * (layout.columns - 1)) if 0 <= place <= 1 else None

    def _styles(self) -> list[Style]:
        """Rich styles by style number."""
        if self._rich_styles is None:
            self._rich_styles = self._make_styles()
        return self._rich_styles

    def _make_styles(self) -> list[Style]:
        """Half-transparent colours are mixed with the background here."""
        # the terminal has no transparency; [1] is the widget's own background, [0] the one behind it
        background = self.background_colors[1]

        def of(name: str) -> Style:
            colour = background + self.get_component_styles(f"chart--{name}").color
            return Style(color=colour.rich_color, bgcolor=background.rich_color)

        lines = [of(f"line-{number}") for number in range(LINE_STYLES)]
        faint = [line + Style(dim=True) for line in lines]
        # in the order of the style numbers of `chart_canvas`
        return [self.rich_style, of("axis"), of("tick"), of("rule"), of("cursor"), *lines, *faint]

    # -- keys and mouse

    def on_focus(self) -> None:
        """Say what the numbers are."""
        self.border_subtitle = self._hint

    def on_blur(self) -> None:
        self.border_subtitle = ""

    def action_move(self, steps: int) -> None:
        self.post_message(self.Moved(self, steps=steps))

    def action_choose(self) -> None:
        """Ask for what is behind the point."""
        self.post_message(self.Chosen(self))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        x = self._x_at(event)
        if x is not None:
            self.post_message(self.Moved(self, x=x))

    def on_click(self, event: events.Click) -> None:
        """A click moves the crosshair, a double click chooses."""
        x = self._x_at(event)
        if x is not None:
            self.post_message(self.Moved(self, x=x))
            # its first click has moved the crosshair already
            if event.chain == 2:
                self.action_choose()

    def _x_at(self, event: events.MouseEvent) -> float | None:
        offset, layout = event.get_content_offset(self), self._layout_
        if offset is None or layout is None or offset.x < layout.gutter:
            return None
        # the other way round than `_cursor_column`: a column back to a value
        return layout.x.low + (offset.x - layout.gutter) / max(1, layout.columns - 1) * (
            layout.x.high - layout.x.low
        )
