"""An output with its tokens coloured by probability, the action marked, every token's numbers at the cursor.

Where it is not known which characters a token wrote, nothing is coloured: the plain output is followed by one bar per
token. Deliberately knows neither the database nor the tokenizer; ``pieces.py`` cuts outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Static

from vlmagent.store.rows import TransitionRow
from vlmagent.tui.data.pieces import Pieces
from vlmagent.tui.data.token_layout import (
    Layout,
    Output,
    Span,
    facts,
    lay_out,
    legend,
    level,
    probability_bar,
)
from vlmagent.tui.text import cut


class TokenText(ScrollView, can_focus=False):
    """The coloured text itself; scrolls up and down."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"tokens--level-{n}" for n in range(6)),
        "tokens--action",
        "tokens--cursor",
        "tokens--faint",
    }
    DEFAULT_CSS = """
    TokenText {
        height: 1fr; width: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; background: transparent;
        & > .tokens--level-0 { background: transparent; }
        & > .tokens--level-1 { background: $warning 18%; }
        & > .tokens--level-2 { background: $warning 38%; }
        & > .tokens--level-3 { background: $warning 65%; color: $text; }
        & > .tokens--level-4 { background: $error 65%; color: $text; }
        & > .tokens--level-5 { background: $error; color: $text; }
        & > .tokens--action { text-style: bold underline; }
        & > .tokens--cursor { background: $block-cursor-background; color: $block-cursor-foreground; }
        & > .tokens--faint { color: $text-muted; }
    }
    """

    cursor: reactive[int] = reactive(-1, layout=False)

    @dataclass
    class Pointed(Message):
        """The mouse points at a token."""

        token: int
        clicked: bool

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.output = Output("")
        self.laid_out = Layout((), ())
        # by colour level, whether it is of the action, whether it is at the cursor
        self._styles: dict[tuple[int, bool, bool], Style] = {}

    def show(self, output: Output) -> None:
        """Show another output, from its beginning."""
        if output == self.output:
            return
        self.output = output
        # without calling its watcher, which would scroll within the layout of the old output
        self.set_reactive(TokenText.cursor, -1)
        self._arrange()
        self.scroll_to(y=0, animate=False)

    def on_resize(self) -> None:
        self._arrange()

    def notify_style_update(self) -> None:
        """Styles are kept by colour level: make them anew for the new theme."""
        super().notify_style_update()
        self._styles.clear()

    def watch_cursor(self, token: int) -> None:
        """Keep the token at the cursor in sight."""
        # -1 is no token
        if 0 <= token < len(self.laid_out.first):
            self.scroll_to_region(Region(0, self.laid_out.first[token], 1, 1), animate=False, x_axis=False)
        self.refresh()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        token = self.token_at(event.x, event.y)
        if token >= 0:
            self.post_message(self.Pointed(token, clicked=False))

    def on_click(self, event: events.Click) -> None:
        token = self.token_at(event.x, event.y)
        if token >= 0:
            self.post_message(self.Pointed(token, clicked=True))

    def render_line(self, y: int) -> Strip:
        """One line of the text on screen."""
        width = self.size.width
        # the position is a fraction, lines are not
        row = y + round(self.scroll_y)
        if row >= len(self.laid_out.lines):
            return Strip.blank(width, self.rich_style)
        segments = [Segment(span.text, self._style(span.token)) for span in self.laid_out.lines[row]]
        return Strip(segments).adjust_cell_length(width, self.rich_style)

    def _arrange(self) -> None:
        width = self.scrollable_content_region.width
        if not width:
            return
        # first without a scroll bar; where one will be needed, again in the room that it leaves
        layout = self._lay_out(width)
        if len(layout.lines) > self.size.height and not self.show_vertical_scrollbar:
            layout = self._lay_out(width - self.styles.scrollbar_size_vertical)
        self.laid_out = layout
        self.virtual_size = Size(width, len(layout.lines))
        self.refresh()

    def _lay_out(self, width: int) -> Layout:
        output = self.output
        if output.pieces is not None:
            return lay_out(output.pieces.texts, output.pieces.names, width)
        # one token with all of the text, which is then taken for none: -1 is text, -2 a remark of the program's
        plain = lay_out([output.text], {}, width) if output.text else Layout((), ())
        lines = [tuple(Span(-1, span.text) for span in line) for line in plain.lines]
        if not output.ids:
            return Layout(tuple(lines), ())
        lines += [(), (Span(-2, cut(f"{len(output.ids)} tokens, no tokenizer to tell their text:", width)),)]
        first = []
        # a cell a token, as many lines as that takes
        for start in range(0, len(output.ids), width):
            bars = [
                Span(k, probability_bar(lp))
                for k, lp in enumerate(output.logprobs[start : start + width], start)
            ]
            first += [len(lines)] * len(bars)
            lines.append(tuple(bars))
        return Layout(tuple(lines), tuple(first))

    def _style(self, token: int) -> Style:
        if token < 0:
            return self._component("tokens--faint") if token == -2 else self.rich_style
        key = (level(self.output.logprobs[token]), token >= self.output.action_start, token == self.cursor)
        style = self._styles.get(key)
        if style is None:
            style = self._component(f"tokens--level-{key[0]}")
            if key[1]:
                style += self.get_component_rich_style("tokens--action", partial=True)
            if key[2]:
                style += self._component("tokens--cursor")
            self._styles[key] = style
        return style

    def _component(self, name: str) -> Style:
        return self.get_component_rich_style(name)

    def token_at(self, x: int, y: int) -> int:
        """The token shown at a place on the widget; -1 where there is none."""
        row, left = y + round(self.scroll_y), 0
        if 0 <= row < len(self.laid_out.lines):
            for span in self.laid_out.lines[row]:
                left += cell_len(span.text)
                if x < left:
                    # a remark is no token either
                    return max(span.token, -1)
        return -1


class Tokens(Vertical):
    """An output in colours, with a line about the token at the cursor and a legend in its border."""

    DEFAULT_CSS = """
    Tokens {
        border: round $panel-lighten-2; border-title-color: $text-muted; border-subtitle-color: $text-muted;
        padding: 0 1; height: 1fr; width: 1fr;
        & > #token-facts { height: 1; width: 1fr; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
    }
    """

    @dataclass
    class Highlighted(Message):
        """The cursor moved to a token."""

        token: int

    def __init__(self, title: str = "output", *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._title = title
        self._text = TokenText()
        self._facts = Static(id="token-facts")

    def compose(self) -> ComposeResult:
        yield self._text
        yield self._facts

    def on_mount(self) -> None:
        """Empty until ``show``."""
        self.border_title = self._title

    @property
    def output(self) -> Output:
        """What is shown."""
        return self._text.output

    @property
    def cursor(self) -> int:
        """Index of the token at the cursor; -1 without one."""
        return self._text.cursor

    def show(self, row: TransitionRow | None, pieces: Pieces | None = None) -> None:
        """Show another output, or none."""
        output = Output("") if row is None else Output.of(row, pieces)
        self._text.show(output)
        self.border_title = self._headline(output) if row is not None else self._title
        self.border_subtitle = legend() if output.ids else ""
        self._facts.update("" if self.cursor < 0 else facts(output, self.cursor))

    def move(self, by: int) -> None:
        """Move the cursor by some tokens; from nowhere to the first or the last."""
        count = len(self.output.ids)
        start = self.cursor
        if start < 0:
            start = -1 if by > 0 else count
        self.move_to(min(max(start + by, 0), count - 1))

    def move_to(self, token: int) -> None:
        """Put the cursor on a token; -1 takes it away."""
        if not -1 <= token < len(self.output.ids):
            return
        self._text.cursor = token
        self._facts.update("" if token < 0 else facts(self.output, token))
        self.post_message(self.Highlighted(token))

    def move_to_worst(self) -> None:
        """Put the cursor on the least probable token."""
        known = [(lp, k) for k, lp in enumerate(self.output.logprobs) if not math.isnan(lp)]
        if known:
            self.move_to(min(known)[1])

    def scroll_text(self, lines: int) -> None:
        """Scroll the text up or down."""
        self._text.scroll_relative(y=lines, animate=False)

    def on_token_text_pointed(self, event: TokenText.Pointed) -> None:
        """The mouse shows a token's facts; a click leaves the cursor there."""
        event.stop()
        if event.clicked:
            self.move_to(event.token)
        elif self.cursor < 0:
            self._facts.update(facts(self.output, event.token))

    def _headline(self, output: Output) -> str:
        count = len(output.ids)
        if not count:
            return f"{self._title} · no tokens"
        action = count - output.action_start
        return f"{self._title} · {count} tokens, {f'{action} action' if action else 'no action key'}"
