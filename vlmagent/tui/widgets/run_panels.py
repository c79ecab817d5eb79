"""What a run is and how far it is: its title line and its progress.

Deliberately reads nothing: both draw a ``LiveRun``.
"""

from __future__ import annotations

import math

from textual.content import Content

from vlmagent.paths import Run
from vlmagent.text import duration, number, percent
from vlmagent.tui.data.commands import how_to_resume
from vlmagent.tui.data.live import LiveRun
from vlmagent.tui.data.states import LIVE, state_colour, state_content
from vlmagent.tui.text import fitted, safe, safe_line
from vlmagent.tui.widgets.steady import Steady

_ORDER = (("loading", "load"), ("sft", "SFT"), ("rl", "RL"))


class RunTitle(Steady):
    """One line: name, state, task, model, seed. Where it is narrow, the name is cut and the state stays."""

    DEFAULT_CSS = """
    RunTitle { height: 1; padding: 0 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("", id=id)
        self._shown: tuple[LiveRun, str] | None = None

    def on_resize(self) -> None:
        """How much of the name fits depends on the width."""
        if self._shown is not None:
            self.show(*self._shown)

    def show(self, live: LiveRun, note: str = "") -> None:
        """Draw the run; ``note`` stands at the end."""
        self._shown = (live, note)
        row = live.view.row
        parts: list[Content | tuple[str, str]] = [Content("  "), state_content(live.view.state)]
        if row is not None:
            task, model = safe(row.task, 30, lines=False), safe(_model(row.model), 30, lines=False)
            parts.append((f"  {task} · {model}", "$foreground-muted"))
            parts.append((f" · seed {row.seed}", "$foreground-muted"))
        if note:
            parts.append((f"   {note}", "$warning"))
        facts = Content.assemble(*parts)
        name = fitted(live.run.name, self.content_size.width - facts.cell_length, most=60, style="bold")
        self.say(name + facts)


class Progress(Steady):
    """How far the run is: several lines, or one where there is no room."""

    DEFAULT_CSS = """
    Progress { border: round $foreground 20%; border-title-color: $text-muted; padding: 0 1; height: auto; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("", id=id)
        self.border_title = "progress"
        self._live: LiveRun | None = None

    def show(self, live: LiveRun) -> None:
        """Draw the run's progress."""
        self._live = live
        self._draw()

    def on_resize(self) -> None:
        """The bar's length depends on the width."""
        self._draw()

    def _draw(self) -> None:
        if self._live is None or not self.size.width:
            return
        # the narrow layout takes the border away and leaves one line
        draw = full_progress if self.styles.border_top[0] else compact_progress
        self.say(draw(self._live, self.size.width))


def full_progress(live: LiveRun, width: int) -> Content:
    """Phases, bar, counts, time left, speed, recent success."""
    view = live.view
    rate, episodes = view.recent
    lines = [
        _phases(live),
        Content.assemble(bar(view.fraction, max(8, width - 6), view.state), f"{100 * view.fraction:4.0f} %"),
        Content(_counts(live)),
        Content.assemble(*_times(live)),
    ]
    if episodes:
        success = (f"{percent(rate)}", "bold $success")
        lines.append(
            Content.assemble(
                ("success ", "$foreground-muted"),
                success,
                (f" of the last {episodes} episodes", "$foreground-muted"),
            )
        )
    if view.row is not None and view.row.error:
        lines.append(safe_line(view.row.error, 400, style="$error"))
    hint = how_to_go_on(live.run, view.state, live.alive)
    return Content("\n").join([*lines, *([Content.styled(hint, "$foreground-muted")] if hint else [])])


def how_to_go_on(run: Run, state: str, alive: bool) -> str:
    """What a user can do about a run that ended before its goal; nothing for others."""
    if state == "lost" and alive:
        return "Its process lives, but has written nothing for a while."
    if state in ("lost", "stopped", "failed"):
        gone = "Its process is gone. " if state == "lost" else ""
        return gone + safe(how_to_resume(run), lines=False)  # whole: a command that was cut is of no use
    return ""


def compact_progress(live: LiveRun, width: int) -> Content:
    """The same on one line."""
    view = live.view
    if view.row is not None and view.row.error:
        return safe_line(view.row.error, width, style="$error")
    left = view.seconds_left
    parts = [_counts(live, short=width < 100)]
    if view.state == "running" and not math.isnan(left):
        parts.append(f"{duration(left)} left")
    if view.recent[1]:
        parts.append(f"success {percent(view.recent[0])}")
    text = " · ".join(parts)
    room = max(8, min(40, width - len(text) - 8))
    return Content.assemble(
        bar(view.fraction, room, view.state), f"{100 * view.fraction:4.0f} %  ", (text, "$foreground-muted")
    )


def bar(fraction: float, width: int, state: str) -> Content:
    """A bar of ``width`` cells, drawn in halves."""
    # a cell is drawn whole or to its left half
    halves = round(fraction * 2 * width)
    full, half = divmod(halves, 2)
    done = "━" * full + ("╸" if half else "")
    colour = f"${state_colour(state)}" if state != "running" else "$primary"
    return Content.assemble((done, colour), ("━" * (width - len(done)), "$foreground 20%"))


def _phases(live: LiveRun) -> Content:
    view = live.view
    names = [name for name, _ in _ORDER]
    # -1 before the first phase is known: then none is over
    present = names.index(view.phase) if view.phase in names else -1
    over = view.state not in LIVE
    parts: list[Content | tuple[str, str]] = []
    for index, (name, word) in enumerate(_ORDER):
        # a run that begins without a supervised start
        if name == "sft" and not view.goal.sft_samples:
            continue
        text = f"{word} {_updates(live)}" if name == "rl" else word
        style = "$foreground-muted"
        if index < present:
            style = "$success"
        elif index == present and not over:
            style = "bold $primary"
        parts += [(" › " if parts else "", "$foreground-muted"), (text, style)]
    return Content.assemble(*parts)


def _updates(live: LiveRun) -> str:
    done = max(
        # those of `ppo/` come at the end of an update, so that the newest one is done
        (series.updates[-1] for name, series in live.series.items() if name.startswith("ppo/")),
        default=0,
    )
    total = live.view.goal.updates
    if total:
        return f"update {done}/{total}"
    return f"update {done}" if done else ""


def _counts(live: LiveRun, short: bool = False) -> str:
    done, total = live.view.counts
    unit = "steps" if short else "env steps"
    if live.view.phase == "sft":
        unit = "samples"
    return f"{done:,}/{total:,} {unit}" if total else f"{done:,} {unit}"


def _times(live: LiveRun) -> list[Content | tuple[str, str]]:
    view = live.view
    parts: list[Content | tuple[str, str]] = []
    left = view.seconds_left
    if view.state == "running" and not math.isnan(left):
        parts += [(duration(left), "bold"), (" left · ", "$foreground-muted")]
    trained = view.seconds_trained
    if not math.isnan(trained):
        when = "so far" if view.state in LIVE else "in all"
        parts.append((f"{duration(trained)} {when}", "$foreground-muted"))
    speed = view.metric("rollout/env_steps_per_second")
    if not math.isnan(speed):
        parts.append((f" · {number(speed)} steps/s", "$foreground-muted"))
    return parts


def _model(name: str) -> str:
    """A model's name; the last part of a path."""
    return name.rstrip("/").rsplit("/", 1)[-1]
