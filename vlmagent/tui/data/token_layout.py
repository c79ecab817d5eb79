"""Tokens of an output laid out in lines, with what their colours and bars say."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, get_character_cell_size
from textual.content import Content

from vlmagent.store.rows import TransitionRow
from vlmagent.text import harmless
from vlmagent.tui.data.pieces import Pieces
from vlmagent.tui.text import safe

SHARES = (0.95, 0.8, 0.5, 0.2, 0.05)
"""Probabilities where the colour changes: level 0 from 95 % up, level 5 below 5 %."""
BARS = "▁▂▃▄▅▆▇█"
# a log-prob of -5 is a probability of 0.7 %
BAR_NATS = 5.0
NEWLINE = "↵"
# a word with the blanks after it, blanks at the beginning of a line, or a line feed
_WORDS = re.compile(r"\S+[^\S\n]*|[^\S\n]+|\n")


def level(logprob: float) -> int:
    """The colour of a token, 0 (certain) to 5; NaN counts as certain, it cannot be coloured."""
    probability = math.exp(min(logprob, 0.0)) if not math.isnan(logprob) else 1.0
    return sum(probability < share for share in SHARES)


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring characters of one token on a line; ``token`` is -1 for what belongs to none."""

    token: int
    text: str


@dataclass(frozen=True, slots=True)
class Layout:
    """An output as lines.

    Attributes:
        lines: what each line shows.
        first: for each token the line on which it begins.
    """

    lines: tuple[tuple[Span, ...], ...]
    first: tuple[int, ...]


def lay_out(texts: Sequence[str], names: dict[int, str], width: int) -> Layout:
    """Wrap tokens at white space into lines of at most ``width`` cells.

    Args:
        texts: what each token wrote.
        names: shown in place of an empty token.
    """
    # what is laid out may be longer than the output: an empty token stands there by its name
    shown = [_shown(text, names.get(k)) for k, text in enumerate(texts)]
    # offset in `whole` where each token ends; ascending, so that bisection finds the token of a character
    ends: list[int] = []
    total = 0
    for text in shown:
        total += len(text)
        ends.append(total)
    whole = "".join(shown)
    lines: list[tuple[Span, ...]] = []
    first = [-1] * len(texts)
    # two cells at least, else a wide character would fit on no line
    for start, end in wrap(whole, max(width, 2)):
        spans = []
        at = start
        while at < end:
            # the first token that ends behind `at`: passes over those that show nothing
            token = bisect_right(ends, at)
            until = min(ends[token], end)
            if first[token] < 0:
                first[token] = len(lines)
            spans.append(Span(token, whole[at:until].replace("\n", NEWLINE)))
            at = until
        lines.append(tuple(spans))
    line = 0
    for token, found in enumerate(first):  # a token that shows nothing stands where the one before it does
        line = first[token] = found if found >= 0 else line
    return Layout(tuple(lines), tuple(first))


def _shown(text: str, name: str | None) -> str:
    return harmless(text, lines=True) if text or name is None else f"‹{harmless(name)}›"


def wrap(text: str, width: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each line of ``text`` in ``width`` >= 2 cells; the line feed belongs to its line."""
    start = used = at = 0
    for match in _WORDS.finditer(text):
        word, at = match.group(), match.start()
        if word == "\n":
            yield start, at + 1
            start, used = at + 1, 0
            continue
        # blanks at the end of a line may reach beyond it: they are cut off unseen
        size = cell_len(word.rstrip())
        if used and used + size > width:
            yield start, at
            start, used = at, 0
        for end, taken in _pieces_of(word, width):
            if taken is None:
                yield start, at + end
                start, used = at + end, 0
            else:
                used += taken
        # by blanks that reach beyond the line: the next word begins a new one
        if used > width:
            used = width
    if start < len(text):
        yield start, len(text)


def _pieces_of(word: str, width: int) -> Iterator[tuple[int, int | None]]:
    """Where a word longer than a line breaks: (offset, None) at each break, then (offset, cells of the rest)."""
    if cell_len(word.rstrip()) <= width:
        yield len(word), cell_len(word)
        return
    # one cell a character: breaks are arithmetic, because outputs without blanks may have 100 kB
    if word.isascii():
        # where the last full line ends; less one, so that a word of exactly one line is not followed by an empty one
        full = (len(word.rstrip()) - 1) // width * width
        for end in range(width, full + 1, width):
            yield end, None
        yield len(word), len(word) - full
        return
    used = 0
    for at, character in enumerate(word):
        size = get_character_cell_size(character)
        if used + size > width:
            yield at, None
            used = 0
        used += size
    yield len(word), used


@dataclass(frozen=True, slots=True)
class Output:
    """What is shown: an output with its tokens' numbers, all of length L; see ``TransitionRow``."""

    text: str
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    action_start: int = 0
    pieces: Pieces | None = None

    @classmethod
    def of(cls, row: TransitionRow, pieces: Pieces | None) -> Output:
        """From a row of the store. Rows of agents without tokens have none."""
        if row.token_ids is None or row.token_logprobs is None:
            return cls(row.output)
        ids, logprobs = row.token_ids.tolist(), row.token_logprobs.tolist()
        # no action was found in the output: all of its tokens are thoughts
        start = len(ids) if row.action_start is None else row.action_start
        return cls(row.output, tuple(ids), tuple(logprobs[: len(ids)]), start, pieces)


def probability_bar(logprob: float) -> str:
    """A block as high as the token was surprising; full from ``BAR_NATS`` on."""
    # one that is not known gets the lowest bar
    share = 0.0 if math.isnan(logprob) else min(-logprob / BAR_NATS, 1.0)
    return BARS[round(max(share, 0.0) * (len(BARS) - 1))]


def legend() -> Content:
    """What the colours mean."""
    words = ("≥95%", "80", "50", "20", "5", "<5%")
    shades = ("", "$warning 18%", "$warning 38%", "$warning 65%", "$error 65%", "$error")
    parts: list[str | Content] = ["p "]
    for word, shade in zip(words, shades, strict=True):
        parts.append(Content.styled(f" {word} ", f"$text on {shade}" if shade else ""))
    return Content.assemble(*parts, " ", Content.styled("action", "bold underline"))


def facts(output: Output, token: int) -> Content:
    """One line about a token."""
    logprob = output.logprobs[token]
    part = "action" if token >= output.action_start else "thought"
    shares = f"p {probability(logprob)}  log p {logprob:.3f}"
    where = f"{token + 1}/{len(output.ids)}"
    return Content(f"{where}  {shares}  {_quoted(output, token)}  id {output.ids[token]}  {part}")


def _quoted(output: Output, token: int) -> str:
    pieces = output.pieces
    if pieces is None:
        return "text unknown"
    if pieces.texts[token]:
        return f"“{safe(pieces.texts[token].replace(chr(10), NEWLINE), 30, lines=False)}”"
    name = pieces.names.get(token)
    return "part of a character" if name is None else f"‹{safe(name, 30, lines=False)}›"


def probability(logprob: float) -> str:
    """A log-prob as a percentage."""
    share = 100 * math.exp(min(logprob, 0.0)) if not math.isnan(logprob) else math.nan
    if math.isnan(share):
        return "unknown"
    return f"{share:.1f} %" if share >= 0.1 else f"{share:.2g} %"
