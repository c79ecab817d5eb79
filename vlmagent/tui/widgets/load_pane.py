"""How busy a run's processes, the machine and its GPUs are: a line each, with a curve of the last minute.

Deliberately asks nothing: it is handed what was found.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from vlmagent.text import sparkline
from vlmagent.tui.data.load import GpuLoad, History, MachineLoad, ProcessLoad
from vlmagent.tui.text import counted, safe_line
from vlmagent.tui.widgets.steady import Steady

QUIET = "$foreground-muted"
# more would leave no room for other panes
MOST_GPUS = 8
# cells of a curve: a shorter one shows no shape, a longer one would have gaps between looks
SHORTEST, LONGEST = 6, 20
# cells of the names and of the first number, which stand in columns
_NAME, _FIRST = 8, 7


@dataclass(frozen=True, slots=True)
class _Row:
    """One line: ``share`` in [0, 1] for the curve, or any value where ``free``, drawn up to its highest."""

    name: str
    first: str
    rest: str
    share: float
    free: bool = False


class LoadPane(Steady):
    """The load of a run and of its machine."""

    DEFAULT_CSS = """
    LoadPane { border: round $foreground 20%; border-title-color: $text-muted; padding: 0 1; height: auto; }
    LoadPane { border-subtitle-color: $text-muted; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("looking …", id=id)
        self.border_title, self.border_subtitle = "load", "last minute"
        self._histories: dict[str, History] = defaultdict(History)
        self._processes: ProcessLoad | str = ""
        self._machine: MachineLoad | None = None
        self._gpus: Sequence[GpuLoad] = ()

    def show(self, processes: ProcessLoad | str, machine: MachineLoad) -> None:
        """Show a newer look at processes and machine."""
        self._processes, self._machine = processes, machine
        self._note([*_process_rows(processes), *_machine_rows(machine)])

    def show_gpus(self, gpus: Sequence[GpuLoad]) -> None:
        """Show a newer look at the GPUs; none takes their lines away."""
        self._gpus = gpus[:MOST_GPUS]
        self._note(_gpu_rows(self._gpus))

    def on_resize(self) -> None:
        self._draw()

    def _note(self, rows: Sequence[_Row]) -> None:
        now = time.monotonic()
        for row in rows:
            self._histories[row.name].add(row.share, now)
        self._draw()

    def _draw(self) -> None:
        if self._machine is None or not self.content_size.width:
            return
        lines = [safe_line(self._processes, style=QUIET)] if isinstance(self._processes, str) else []
        rows = [*_process_rows(self._processes), *_machine_rows(self._machine), *_gpu_rows(self._gpus)]
        self.say(Content("\n").join([*lines, *(self._line(row, rows) for row in rows)]))

    def _line(self, row: _Row, rows: Sequence[_Row]) -> Content:
        # the curves stand below each other, behind the longest text
        widest = max(len(other.rest) for other in rows)
        text = f"{row.first:>{_FIRST}} {row.rest:<{widest}} "
        room = min(LONGEST, self.content_size.width - _NAME - len(text))
        parts: list[tuple[str, str]] = [(f"{row.name:<{_NAME}}", QUIET), (text, "")]
        if room >= SHORTEST:
            parts.append((_curve(self._histories[row.name], room, row.free), "$success"))
        return Content.assemble(*parts)


def _curve(history: History, width: int, free: bool) -> str:
    values = history.spread(width)
    highest = max((value for value in values if not math.isnan(value)), default=0.0)
    scale = highest if free and highest > 0 else 1.0
    return sparkline([value / scale for value in values], width)


def _process_rows(load: ProcessLoad | str) -> list[_Row]:
    if isinstance(load, str):
        return []
    cpu = "–" if math.isnan(load.cpu) else f"{100 * load.cpu:.0f} %"
    who = counted(load.count, "process") if load.count == 1 else f"{load.count:,} processes"
    return [
        _Row("CPU", cpu, f"of {who}", load.cpu, free=True),
        _Row("memory", gigabytes(load.memory), "resident", float(load.memory), free=True),
    ]


def _machine_rows(load: MachineLoad) -> list[_Row]:
    average = "–" if math.isnan(load.load) else f"{load.load:.2f}"
    used = load.memory / load.memory_total if load.memory_total else math.nan
    return [
        _Row("machine", average, f"load, {counted(load.cores, 'core')}", load.load / load.cores),
        _Row("", gigabytes(load.memory), f"of {gigabytes(load.memory_total)} memory", used),
    ]


def _gpu_rows(gpus: Sequence[GpuLoad]) -> list[_Row]:
    return [
        _Row(
            f"GPU {gpu.index}",
            "–" if math.isnan(gpu.busy) else f"{100 * gpu.busy:.0f} %",
            f"{gigabytes(gpu.memory)} of {gigabytes(gpu.memory_total)}",
            gpu.busy,
        )
        for gpu in gpus
    ]


def gigabytes(size: float) -> str:
    """Bytes as people say them, in at most seven characters; a dash for what is not known."""
    if math.isnan(size):
        return "–"
    return f"{size / 10**9:.1f} GB" if size >= 10**8 else f"{size / 10**6:.0f} MB"
