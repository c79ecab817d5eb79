"""How a comparison looks in words: the counts, and a row for each pair.

Deliberately knows no widget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.text import Text
from textual.content import Content

from vlmagent.store.rows import EpisodeRow
from vlmagent.text import percent
from vlmagent.tui.data.columns import Column, Least
from vlmagent.tui.data.pairs import KINDS, Kind, Pair, Tally
from vlmagent.tui.data.step_text import signed

COLOURS: dict[Kind, str] = {"both": "success", "left": "primary", "right": "accent", "neither": "error"}
WORDS: dict[Kind, str] = {"both": "both", "left": "only left", "right": "only right", "neither": "neither"}
SHOWN: tuple[tuple[str, tuple[Kind, ...]], ...] = (
    ("all", KINDS),
    ("different", ("left", "right")),
    *((WORDS[kind], (kind,)) for kind in KINDS),
)
"""The filters: a name, and the kinds of pairs that pass."""
ORDERS: dict[str, Callable[[Pair], float] | None] = {
    "seeds": None,
    "right better": lambda pair: -pair.difference,
    "left better": lambda pair: pair.difference,
    "longest": lambda pair: -max(pair.left.length or 0, pair.right.length or 0),
}
Part = Content | str | tuple[str, str]


def key_of(pair: Pair) -> str:
    """A name for a pair that stays the same."""
    return f"{pair.left.id}-{pair.right.id}"


def tally_content(tally: Tally, width: int) -> Content:
    """Three lines: the counts, a bar of them, rates and returns."""
    counts: list[Part] = []
    for kind in KINDS:
        counts += [(f"{WORDS[kind]} ", f"${COLOURS[kind]}"), (f"{tally.counts[kind]:,}   ", "bold")]
    alone = f"; {tally.alone:,} without a partner" if tally.alone else ""
    counts.append((f"of {tally.total:,} seeds{alone}", "$foreground-muted"))
    left, right = f"bold ${COLOURS['left']}", f"bold ${COLOURS['right']}"
    rates: list[Part] = [
        ("success ", "$foreground-muted"), (percent(tally.success("left")), left), " → ",
        (percent(tally.success("right")), right), ("   return ", "$foreground-muted"),
        (signed(tally.left_return), left), " → ", (signed(tally.right_return), right),
        (f"   McNemar p = {tally.p:.2g}", "$foreground-muted"),
    ]  # fmt: skip
    lines = [Content.assemble(*counts), Content.assemble(*_bar(tally, width)), Content.assemble(*rates)]
    return Content("\n").join(lines)


def _bar(tally: Tally, width: int) -> list[Part]:
    """The four kinds as one bar."""
    parts: list[Part] = []
    used = done = 0
    for kind in KINDS:
        done += tally.counts[kind]
        # ends are rounded, not lengths, so that the parts fill the bar exactly
        end = round(width * done / tally.total) if tally.total else 0
        parts.append(("━" * (end - used), f"${COLOURS[kind]}"))
        used = end
    # only without pairs is something left
    return [*parts, ("━" * (width - used), "$foreground 15%")]


def columns_for(width: int, least: Least | None = None) -> list[tuple[Column, int]]:
    """The columns that fit into ``width`` cells, with their widths; the first three always do.

    Args:
        least: cells that some of them need, by title.
    """
    shown: list[tuple[Column, int]] = []
    # the scroll bar; each column has a blank on either side
    used = 1
    for column in _COLUMNS:
        cells = max(column.width, (least or {}).get(column.title, 0))
        used += cells + 2
        if used <= width or len(shown) < 3:
            shown.append((column, cells))
    return shown


def _who(pair: Pair, colours: Mapping[str, str], width: int) -> Text:
    return Text(WORDS[pair.kind], style=colours[COLOURS[pair.kind]])


def _episode(row: EpisodeRow, colours: Mapping[str, str], width: int) -> Text:
    """Success, return and length; the length keeps a blank before it, however long both are."""
    sign, colour = ("✓", "success") if row.success else ("✗", "error")
    # the width, less the sign, is shared by a return and a length that both stand at the right
    value, length = signed(row.episode_return or 0.0), f" {row.length or 0:>3}"
    return Text.assemble((sign, colours[colour]), value.rjust(width - 1 - len(length)), (length, "dim"))


def _difference(pair: Pair, colours: Mapping[str, str], width: int) -> Text:
    return Text((signed(pair.difference) if pair.difference else "·").rjust(width))


_COLUMNS = (
    Column("who", 10, _who),
    Column("   left  st", 11, lambda pair, colours, width: _episode(pair.left, colours, width)),
    Column("  right  st", 11, lambda pair, colours, width: _episode(pair.right, colours, width)),
    Column("  diff.", 7, _difference),
    Column("      seed", 10, lambda pair, colours, width: Text(str(pair.seed).rjust(width), style="dim")),
)
