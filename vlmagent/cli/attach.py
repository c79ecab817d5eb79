"""The attached display of a run: its phase, how well it does, what it wrote last, how long it will take.

Reads ``run.db`` by cursor and nothing else; the run does not know that it is being watched. Redraws at most
twice a second, because the processor is busy training.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.style import Style
from rich.table import Table
from rich.text import Text

from vlmagent.cli.grid import GAP, Facts
from vlmagent.paths import Run
from vlmagent.runs import export, status
from vlmagent.runs.daemon import daemon_info
from vlmagent.runs.follow import PHASES, RunView
from vlmagent.store.rows import EventRow, TransitionRow
from vlmagent.text import command, duration, encodable, harmless, is_unicode, number, percent, sparkline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vlmagent.types import ImageArray

# seconds between redraws, the same for lines
POLL_SECONDS = 0.5
# seconds that the command waits for the run's process to end after the run has
CLOSING_SECONDS = 10.0
# seconds between lines about the supervised start: a log file must stay readable
SFT_LINE_SECONDS = 5.0
# cells in height: a square picture of the usual size, and the least in which anything can be made out
PICTURE_ROWS, LEAST_PICTURE_ROWS = 14, 8
# lines of everything else: title, bar, numbers, three events, where the run lies, and the blanks between
OTHER_ROWS = 16
LONGEST_NAME = 255
"""Of a file, on the usual disks."""
_LEVELS = {"error": "bold red", "warning": "yellow", "phase": "cyan"}


def watch(run: Run, console: Console) -> int:
    """Show a run, and say what can be done next.

    Returns:
        The exit code: 1 for a failure. A run that was stopped did what it was told, and so did one that was left.
    """
    state = attach(run, console)
    if state == "detached":
        _line(console, "")
        _line(console, "Detached; the run goes on.")
        _line(console, f"Come back: {command('vlmagent', 'runs', 'attach', run)}")
        _line(console, f"Stop it:   {command('vlmagent', 'runs', 'stop', run)}")
    elif state == "done":
        _line(console, f"Next: {command('vlmagent', 'eval', '--run', run)}")
        _line(console, f"      {command('vlmagent', 'tui', run)}")
    return 1 if state in ("failed", "lost", "damaged") else 0


def attach(run: Run, console: Console) -> str:
    """Show a run until it ends or the reader presses ctrl-c, which leaves the run alone.

    On a terminal one picture is redrawn; anywhere else each event and update becomes a line.

    Returns:
        ``detached``, or how the run ended: ``done``, ``stopped``, ``failed``, ``lost`` or ``damaged``.
    """
    view = RunView(run)
    # a log file must not fill with pictures that are redrawn
    lines = not console.is_terminal or console.is_dumb_terminal
    try:
        state = _print_lines(view, console) if lines else _redraw(view, console)
        _say_how_it_ended(view, state, console)
        deadline = time.monotonic() + CLOSING_SECONDS
        while status.is_alive(run) and time.monotonic() < deadline:  # it is closing its files
            time.sleep(0.05)
    except KeyboardInterrupt:
        return "detached"
    finally:
        view.close()
    return state


# A terminal: one picture, redrawn


def _redraw(view: RunView, console: Console) -> str:
    # no thread of its own that redraws: each picture costs the processor that trains
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            view.refresh()
            live.update(picture(view, console), refresh=True)
            # all other states are ends
            if view.state not in ("starting", "running"):
                return view.state
            time.sleep(POLL_SECONDS)


def picture(view: RunView, console: Console) -> RenderableType:
    """Everything worth knowing about a run, at most 80 columns by about 20 lines."""
    width = min(console.width, 100)
    parts: list[RenderableType] = [_title(view, console), _bar(view, width), Text()]
    parts.append(_numbers(view, console, width))
    if view.newest is not None:
        parts += [Text(), _newest(view, view.newest, console, width)]
    # phases stand in the title already
    recent = [event for event in view.events if event.level != "phase"][-3:]
    if recent:
        parts.append(Text())
    parts += [_event(event, console, width) for event in recent]
    if view.problem:
        parts.append(Text(plain(view.problem, console, 300), style="yellow"))
    if view.state in ("starting", "running"):
        parts.append(_where(view, console, width))
    return Padding(Group(*parts), (0, 1))


def _title(view: RunView, console: Console) -> Text:
    phase = PHASES.get(view.phase, view.phase) or view.state
    title = Text(overflow="fold")  # a long name must not push the state out of sight
    title.append(plain(view.run.name, console, LONGEST_NAME), style="bold")
    if view.row is not None:
        title.append(
            f"  {plain(view.row.task, console, LONGEST_NAME)}"
            f", {plain(Path(view.row.model).name, console, LONGEST_NAME)}"
        )
    title.append(f"  {phase if view.state == 'running' else view.state}", style="bold cyan")
    trained = view.seconds_trained
    if not math.isnan(trained) and view.state in ("starting", "running"):
        title.append(f"  {duration(trained)}", style="dim")
    return title


def _bar(view: RunView, width: int) -> RenderableType:
    done, total = view.counts
    unit = "SFT samples" if view.phase == "sft" else "env steps"
    text = f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"
    left = view.seconds_left
    if view.state == "running" and not math.isnan(left):
        text += f", {duration(left)} left"
    # 50 cells for the counts and the time left beside the bar
    length = max(10, width - 50)
    bar = ProgressBar(total=1.0, completed=view.fraction, width=length)
    if length + GAP + len(text) > width - 2:  # the padding around the picture
        return Group(bar, Text(text))
    grid = Table.grid(padding=(0, GAP))
    grid.add_row(bar, Text(text))
    return grid


def _numbers(view: RunView, console: Console, width: int) -> RenderableType:
    if not view.env_steps:
        loss = view.metric("sft/loss")
        return Text() if math.isnan(loss) else Text(f"SFT loss   {number(loss)}")
    rate, episodes = view.recent
    success = Text(f"success    {percent(rate)} of the last {episodes} episodes  ")
    # one value for each update of this view, drawn as a row of blocks
    bars = sparkline(
        [view.success[key] for key in sorted(view.success)], max(8, width - 50), ascii_only(console)
    )
    success.append(bars, style="green")
    numbers = [(label, Text(write(view.metric(name)))) for label, name, write in SHOWN_METRICS]
    return Group(success, Facts(numbers, across=3))


def _transition(row: TransitionRow, console: Console, width: int) -> Table:
    """The newest step: thoughts (or the whole output) and action; shown as written, never obeyed."""
    grid = Table.grid(padding=(0, 1))
    # about three lines of the terminal
    said = plain(row.thoughts or row.output, console, 3 * max(10, width - 16))
    grid.add_row(Text("thoughts  " if row.thoughts else "output    ", style="dim"), Text(said))
    action = Text(plain(row.action, console, 60))
    if not row.legal_output:
        action.append("  (drawn at random: the output named no legal action)", style="yellow")
    grid.add_row(Text("action    ", style="dim"), action.append(f"  reward {number(row.reward)}"))
    return grid


def _newest(view: RunView, row: TransitionRow, console: Console, width: int) -> RenderableType:
    """The newest step, beside what was seen in it where the terminal has the colours and the room."""
    rows = min(PICTURE_ROWS, console.height - OTHER_ROWS)
    columns = 2 * rows
    # fewer than 16 colours are no picture, and ASCII has no half cells
    colours = console.color_system in ("256", "truecolor") and not ascii_only(console)
    image = view.picture() if colours and rows >= LEAST_PICTURE_ROWS and width >= 60 else None
    if image is None:
        return _transition(row, console, width)
    grid = Table.grid(padding=(0, GAP, 0, 0))
    grid.add_row(half_cell_text(image, columns, rows), _transition(row, console, width - columns - GAP))
    return grid


def half_cell_text(image: ImageArray, columns: int, rows: int) -> Text:
    """A picture in at most ``columns`` x ``rows`` cells: one half of each is drawn, the other its ground."""
    from vlmagent.tui.data.half_cells import half_cells

    pixels = half_cells(image, columns, rows)
    text = Text(no_wrap=True)
    for number_of_row in range(0, len(pixels), 2):
        if number_of_row:
            text.append("\n")
        for upper, lower in zip(pixels[number_of_row], pixels[number_of_row + 1], strict=True):
            text.append("▀", Style(color=_rgb(upper), bgcolor=_rgb(lower)))
    return text


def _rgb(pixel: NDArray[np.uint8]) -> Color:
    return Color.from_rgb(*(int(value) for value in pixel))


def _where(view: RunView, console: Console, width: int) -> Text:
    """Where the run lies, how to leave it, and how to come back."""
    # on lines of their own and never cut: both are there to be copied
    text = Text("\n", style="dim", overflow="fold")
    text.append(f"{plain(str(view.run), console, 4 * LONGEST_NAME)}\n")
    back = command("vlmagent", "runs", "attach", view.run.name)
    text.append("ctrl-c leaves, the run goes on. To come back:\n")
    return text.append(plain(back, console, 4 * LONGEST_NAME))


def _event(event: EventRow, console: Console, width: int) -> Text:
    clock = time.strftime("%H:%M:%S", time.localtime(event.at))
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{clock}  ", style="dim")
    text.append(plain(event.text, console, 2 * width), style=_LEVELS.get(event.level, ""))
    return text


# Anything else: lines


def _print_lines(view: RunView, console: Console) -> str:
    """Each event, update and every few seconds of SFT as one line without escape sequences."""
    # what was printed last of each kind; ids and updates only grow
    seen_event, seen_update, sft_at = 0, 0, 0.0
    info = daemon_info(view.run)
    since = info.started if info else 0.0  # what an earlier process of this run said is not news
    while True:
        view.refresh()
        for event in view.events:
            if event.id > seen_event and event.at >= since:
                _line(console, f"{event.level}: {event.text}" if event.level != "phase" else event.text)
                seen_event = event.id
        samples = view.metrics.get("sft/samples")
        if view.phase == "sft" and samples is not None and samples.at - sft_at >= SFT_LINE_SECONDS:
            sft_at = samples.at
            _line(console, sft_line(view))
        for update, rows in view.updates.items():
            # an update whose rows were written by an earlier process was printed by its reader
            if update > seen_update and all(row.at >= since for row in rows.values()):
                seen_update = update
                _line(console, update_line(view, update))
        if view.state not in ("starting", "running"):
            return view.state
        time.sleep(POLL_SECONDS)


def sft_line(view: RunView) -> str:
    """One line about the supervised start."""
    done, total = view.counts
    return f"sft {done}/{total} samples  loss {number(view.metric('sft/loss'))}{_left(view)}"


def update_line(view: RunView, update: int) -> str:
    """One line about an update."""
    rows = view.updates[update]
    steps = max(row.env_steps for row in rows.values())

    def metric(name: str) -> float:
        return rows[name].value if name in rows else math.nan

    return (
        f"update {update}/{view.goal.updates}  env_steps {steps}/{view.goal.env_steps}  "
        f"success {percent(metric('rollout/success'))}  return {number(metric('rollout/return'))}  "
        f"legal {percent(metric('rollout/legal_rate'))}  kl {number(metric('ppo/kl'))}  "
        f"clipped {percent(metric('ppo/clip_fraction'))}  "
        f"{number(metric('rollout/env_steps_per_second'))} steps/s{_left(view)}"
    )


def _left(view: RunView) -> str:
    left = view.seconds_left
    return "" if math.isnan(left) else f"  {duration(left)} left"


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(plain(text, console, 2000), style=style), soft_wrap=True, highlight=False)


def _say_how_it_ended(view: RunView, state: str, console: Console) -> None:
    """The last lines: for a failure the reason and where to read more."""
    log = view.run.log
    if state == "failed":
        reason = view.row.error if view.row is not None and view.row.error else "no reason was recorded"
        _line(console, f"The run failed: {reason}", "bold red")
        _line(console, f"Log: {log}")
    elif state in ("lost", "damaged"):
        _line(console, f"The run is {state}: {view.problem or 'its process is gone'}", "bold red")
        # the log's own last words: without a process nobody wrote a reason into the database
        for line in export.log_tail(view.run, 5):
            _line(console, f"  {line}")
        _line(console, f"Log: {log}")
    else:
        _line(console, f"Training {state} after {view.env_steps:,} env steps.", "bold")


# Words and numbers


def plain(text: str, console: Console, limit: int) -> str:
    """``text`` on one line, fit to print, at most ``limit`` characters, in the console's own encoding.

    Brackets stay; callers never let rich parse the result as markup.
    """
    # cut before it is made harmless: outputs may be megabytes long, and characters do not change in number
    cut = harmless(text[: limit + 1])
    cut = cut if len(cut) <= limit else cut[: limit - 1] + "…"
    return encodable(cut, console.encoding)


def ascii_only(console: Console) -> bool:
    """Whether the console cannot show block characters."""
    return not is_unicode(console.encoding)


SHOWN_METRICS = (
    ("return", "rollout/return", number),
    ("legal", "rollout/legal_rate", percent),
    ("tokens", "rollout/output_tokens", number),
    ("KL", "ppo/kl", number),
    ("clipped", "ppo/clip_fraction", percent),
    ("entropy", "ppo/entropy", number),
    ("lp thought", "rollout/thought_logprob", number),
    ("lp action", "rollout/action_logprob", number),
    ("steps/s", "rollout/env_steps_per_second", number),
)
"""The table of numbers: label, metric, how to write it (``lp``: sums of log-probs, in nats)."""
