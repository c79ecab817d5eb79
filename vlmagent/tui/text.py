"""Untrusted text made harmless for widgets: what a model writes is shown, never obeyed.

Deliberately knows no widget. ``Content`` is for widgets that take Textual's own type, ``Text`` for table
cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

from rich.cells import cell_len, get_character_cell_size
from rich.text import Text
from textual.content import Content

from vlmagent.text import harmless

# characters; a model that never stops writes more, and laying all of it out would hold up the screen
BLOCK_LIMIT = 20_000
# more than a terminal is wide
LINE_LIMIT = 400


def safe(raw: str, limit: int = BLOCK_LIMIT, *, lines: bool = True) -> str:
    """At most ``limit`` characters of ``raw`` without anything a terminal or a parser obeys.

    Character i of the result stands for character i of ``raw``; what is cut off is said at the end.

    Args:
        lines: keep line feeds; otherwise the result is one line.
    """
    # cut first: the rest need not be gone through character by character
    shown = harmless(raw[:limit], lines=lines)
    if len(raw) <= limit:
        return shown
    return f"{shown} … ({len(raw) - limit:,} more characters)" if lines else f"{shown[: limit - 1]}…"


def safe_text(raw: str, limit: int = BLOCK_LIMIT, *, style: str = "") -> Content:
    """A block of untrusted text for a widget; line feeds stay."""
    return _content(safe(raw, limit), style)


def safe_line(raw: str, limit: int = LINE_LIMIT, *, style: str = "") -> Content:
    """One line of untrusted text for a widget."""
    return _content(safe(raw, limit, lines=False), style)


def safe_cell(raw: str, limit: int = LINE_LIMIT, *, style: str = "") -> Text:
    """One line of untrusted text for a ``DataTable`` cell, which would read a plain string as markup.

    Args:
        limit: cells it may take, wide characters counting two.
    """
    # cut twice: first by characters, which bounds the work, then by cells, of which a wide character takes two
    shown = cut(safe(raw, limit, lines=False), limit)
    return Text(shown, style=style, no_wrap=True, overflow="ellipsis", end="")


# tables are filled anew at every look, mostly with the texts that they had before
@lru_cache(maxsize=256)
def cut(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells."""
    if cell_len(text) <= width:
        return text
    used = 0
    for at, character in enumerate(text):
        used += get_character_cell_size(character)
        # one cell is for the ellipsis
        if used > width - 1:
            return text[:at] + "…"
    return text


def fitted(raw: str, room: int, *, least: int = 12, most: int = LINE_LIMIT, style: str = "") -> Content:
    """A name on a line that also holds numbers or a state: only the name is cut, never they.

    Args:
        room: cells that the rest of the line leaves.
        least: cells it gets in any case, so that something of it is always read.
        most: cells it gets however wide the line is.
    """
    return _content(cut(safe(raw, LINE_LIMIT, lines=False), min(most, max(least, room))), style)


def _content(text: str, style: str) -> Content:
    return Content.styled(text, style) if style else Content(text)


def told_apart(names: Sequence[str], limit: int) -> list[str]:
    """``names``, those longer than ``limit`` without the beginning they share, so that cutting leaves what differs."""
    long = [name for name in names if len(name) > limit]
    shared = 0
    # one name alone, or the same one twice, shares all of itself: nothing would be left of it
    if len(set(long)) > 1:
        shared = len(
            # column by column from the left, as far as all names have the same character
            list(itertools.takewhile(lambda column: len(set(column)) == 1, zip(*long, strict=False)))
        )
    # in place of a single character the ellipsis would gain nothing
    return [f"…{name[shared:]}" if shared > 1 and name in long else name for name in names]


def counted(count: int, noun: str) -> str:
    """A number of things, such as ``1 episode`` or ``1,200 episodes``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
