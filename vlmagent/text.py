"""Words and numbers as terminals show them: harmless text, short numbers, durations, sparklines.

Deliberately knows no widget and no console: strings in, strings out.
"""

from __future__ import annotations

import math
import os
import shlex
import unicodedata
from collections.abc import Sequence

# eight and eight, from low to high
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-~=+*#"


def harmless(text: str, *, lines: bool = False) -> str:
    """``text`` fit to print: no control characters, escape sequences, direction overrides or surrogates.

    Each character becomes exactly one, so that offsets stay valid: white space a blank, the others ``·``.
    Brackets stay; callers never let Rich or Textual parse the result as markup.

    Args:
        lines: keep line feeds.
    """
    # isprintable is False for control characters, escape sequences and lone surrogates alike
    if text.isascii() and text.isprintable():  # nearly always: the loop below costs a screen its speed
        return text
    return "".join(_harmless_character(c, lines) for c in text)


def _harmless_character(character: str, lines: bool) -> str:
    if character.isprintable() or (lines and character == "\n"):
        return character
    if character.isspace():
        return " "
    # Unicode's "other" characters: control, direction overrides, surrogates, private use, unassigned
    return "·" if unicodedata.category(character)[0] == "C" else character


STAND_INS = {
    "–": "-", "—": "-", "−": "-", "·": "*", "•": "*", "…": ".", "×": "x", "±": "+/-", "→": ">", "←": "<",
    "’": "'", "‘": "'", "“": '"', "”": '"', "✓": "+", "✗": "x", "λ": "lambda", "\u00a0": " ",
}  # fmt: skip
"""What is written for characters of ours where an encoding lacks them; mostly as wide, so that tables stay straight."""


def plain_characters(text: str) -> str:
    """``text`` in ASCII: stand-ins for the characters that the program itself prints, question marks for others."""
    # one character may become several ("lambda"): for output that is not measured any more
    return "".join(c if c.isascii() else STAND_INS.get(c, "?") for c in text)


def encodable(text: str, encoding: str | None) -> str:
    """``text`` with stand-ins or question marks for the characters that an encoding lacks; UTF-8 without one."""
    name = encoding or "utf-8"
    try:
        text.encode(name)
    except UnicodeEncodeError:
        return "".join(_encodable_character(c, name) for c in text)
    return text


def _encodable_character(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return plain_characters(character)
    return character


def command(*words: str | os.PathLike[str]) -> str:
    """A command as it has to be typed into a shell: words with blanks, brackets or quotes in them are quoted.

    Args:
        words: the program's name, its options as they are, and names and paths. A path object that begins with a
            dash gets ``./`` in front, since the program that is called would take it for an option.
    """
    return shlex.join(_word(word) for word in words)


def _word(word: str | os.PathLike[str]) -> str:
    text = os.fspath(word)
    # only of paths: an option that was given as a string has to keep its dash
    return f"./{text}" if text.startswith("-") and not isinstance(word, str) else text


def is_unicode(encoding: str | None) -> bool:
    """Whether an encoding has signs and blocks."""
    return (encoding or "").lower().startswith("utf")


def sparkline(values: Sequence[float], width: int, ascii_: bool = False) -> str:
    """Values in [0, 1] as one row of blocks, averaged down to at most ``width``; NaN is a blank."""
    blocks = ASCII_BLOCKS if ascii_ else BLOCKS
    # rounded up, so that no more than `width` groups come out
    size = max(1, math.ceil(len(values) / width))
    means: list[float] = []
    for start in range(0, len(values), size):
        known = [value for value in values[start : start + size] if not math.isnan(value)]
        means.append(sum(known) / len(known) if known else math.nan)
    top = len(blocks) - 1
    return "".join(" " if math.isnan(x) else blocks[round(min(max(x, 0.0), 1.0) * top)] for x in means)


def with_article(name: str) -> str:
    """``an egg``, ``a mug``."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def number(value: float) -> str:
    """Three or four significant digits, one of a tiny number; a dash for what is not known."""
    if math.isnan(value):
        return "-"
    # smaller numbers, such as learning rates, would be shown as 0.0000
    if 0 < abs(value) < 5e-5:
        return f"{value:.0e}".replace("e-0", "e-")
    if abs(value) >= 100:
        return f"{value:.1f}"
    return f"{value:.4f}" if 0 < abs(value) < 0.1 else f"{value:.2f}"


def percent(value: float) -> str:
    """A fraction as a percentage."""
    return "-" if math.isnan(value) else f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """Seconds as people say them: ``45 s``, ``3 min 20 s``, ``2 h 05 min``, ``3 d 4 h``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    # the larger unit and the next one: more digits than that nobody reads
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
