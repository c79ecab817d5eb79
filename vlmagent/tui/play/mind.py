"""What whoever thinks makes of the present state: its action, how probable each one is, its value, its output.

Deliberately asks nothing: it is handed a game.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content

from vlmagent.play.desk import Opinion
from vlmagent.text import duration, percent
from vlmagent.tui.data.step_text import signed
from vlmagent.tui.play.game import Game
from vlmagent.tui.play.status import opponent_name
from vlmagent.tui.text import safe_line, safe_text
from vlmagent.tui.widgets.steady import Steady

# lines of the pane; the rest is told as a sum
MOST_BARS = 8
# the character of each number of eighths, 0 to 8
BLOCKS = " ▏▎▍▌▋▊▉█"
QUIET = "$foreground-muted"


@dataclass(frozen=True, slots=True)
class MindKeys:
    """The keys that the pane names."""

    hint: str = "x"
    hints: str = "X"
    reload: str = "r"


class Mind(VerticalScroll):
    """A pane with facts on top and the output below, which it follows while it grows."""

    DEFAULT_CSS = """
    Mind { height: 1fr; border: round $foreground 20%; border-title-color: $text-muted; padding: 0 1;
        border-subtitle-color: $text-muted; scrollbar-size-vertical: 1; }
    Mind > Steady { height: auto; }
    Mind > #mind-output { margin-top: 1; }
    """

    # keys belong to the actions: a pane with the focus would take the arrows to scroll
    can_focus = False

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: tuple[Game, MindKeys] | None = None

    def compose(self) -> ComposeResult:
        yield Steady(id="mind-facts")
        yield Steady(id="mind-output")

    def show(self, game: Game, keys: MindKeys) -> None:
        """Show what may be shown."""
        self._shown = game, keys
        who = opponent_name(game)
        self.border_title = safe_line(who, 40) if who else "hints"
        hints = f"hints {game.hints}" if game.seat == "human" else ""
        self.border_subtitle = f"{game.newer} is newer: {keys.reload}" if game.newer else hints
        opinion = game.opinion if game.shows_opinion else None
        # the opinion may be there and not to be seen: then what stands in its place says how to see it
        facts = _facts(opinion, self.content_size.width) if opinion else _instead(game, keys)
        self.query_one("#mind-facts", Steady).say(facts)
        output = self.query_one("#mind-output", Steady)
        output.display = opinion is not None and bool(opinion.text)
        output.say(safe_text(opinion.text, style=QUIET) if opinion else Content())
        # the newest words while it writes; the action, which stands on top, once it is known
        if opinion is not None and opinion.decision is None:
            self.scroll_end(animate=False)
        elif opinion is None or opinion.done:
            self.scroll_home(animate=False)

    def on_resize(self) -> None:
        """The bars are made for one width."""
        if self._shown is not None:
            self.show(*self._shown)


def _instead(game: Game, keys: MindKeys) -> Content:
    """What is said when there is no opinion to show."""
    desk = game.desk
    if game.opponent is None:
        return safe_text(game.advice)
    if desk.state == "loading":
        # the time goes on where the bar may stand still: a large file is one step of it
        bar = bar_of(desk.progress, 10)
        lasts = f" … {duration(time.monotonic() - desk.since)}"
        return Content.assemble((bar, "$primary on $boost"), " ", safe_line(desk.words), (lasts, QUIET))
    if desk.state == "dead":
        return Content.assemble(
            safe_text(desk.words, style="$error"), "\n", (f"{keys.reload} starts it again.", "bold")
        )
    if game.over:
        return Content.styled("The episode is over.", QUIET)
    if game.you is None:
        return Content()
    if not game.shows_opinion:
        words = {
            "off": f"Hints are off. {keys.hints} changes that.",
            "ask": f"{keys.hint} shows what it would do here.",
            "on": "",
        }
        return Content.styled(words[game.hints], QUIET)
    problem = f"{desk.words}\n" if desk.words else ""
    return Content.assemble(safe_text(problem, style="$error"), ("thinking …", QUIET))


def _facts(opinion: Opinion, width: int) -> Content:
    """Action, value and probabilities, as far as they are known."""
    if opinion.problem:
        return safe_text(f"It could not answer: {opinion.problem}", style="$error")
    decision = opinion.decision
    if decision is None:
        return Content.styled("writing …", QUIET)
    legal = decision.parsed.legal_output
    parts: list[Content | tuple[str, str]] = [
        ("action ", QUIET),
        safe_line(decision.parsed.action, 60, style="bold $success" if legal else "bold $warning"),
    ]
    if not legal:
        parts.append(("  drawn: it named no legal one", "$warning"))
    value = decision.generation.value if decision.generation else None
    if value is not None:
        parts += [("   value ", QUIET), (signed(value), "bold")]
    lines = [Content.assemble(*parts)]
    if opinion.probabilities is not None:
        lines += bars(opinion.probabilities, decision.parsed.action, width)
    elif not opinion.done:
        lines.append(Content.styled("weighing the actions …", QUIET))
    return Content("\n").join(lines)


def bars(probabilities: Mapping[str, float], chosen: str, width: int) -> list[Content]:
    """One line per action, the likeliest first where there are many, and what is left of the rest."""
    ranked = sorted(probabilities.items(), key=lambda entry: -entry[1])
    # two or three keep their order, so that bars do not change places from step to step
    shown = list(probabilities.items()) if len(ranked) <= 3 else ranked[:MOST_BARS]
    name_width = min(max(len(name) for name, _ in shown), 24)
    room = max(4, min(30, width - name_width - 11))
    lines = []
    for name, share in shown:
        colour = "$success" if name == chosen else "$primary"
        label = safe_line(f"{name:<{name_width}}", name_width, style="bold" if name == chosen else "")
        lines.append(
            Content.assemble(label, " ", (f"{bar_of(share, room)}", colour), f" {percent(share):>7}")
        )
    rest = len(ranked) - len(shown)
    if rest > 0:
        left = sum(share for _, share in ranked[MOST_BARS:])
        lines.append(Content.styled(f"{rest} others together {percent(left)}", QUIET))
    return lines


def bar_of(share: float, width: int) -> str:
    """A bar of eighths, padded to ``width``."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, part = divmod(eighths, 8)
    return f"{'█' * full}{BLOCKS[part] if part else ''}".ljust(width)
