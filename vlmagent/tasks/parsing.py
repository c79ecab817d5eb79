"""f(v_out): from a model's text to a legal action (paper, equation 4.1).

Knows nothing of tokens: positions are character offsets into the decoded text. Every function accepts
any string of any length, never raises because of it, and reads one and the same ``"action"`` key: the last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from vlmagent.types import ParsedAction

_KEY = re.compile(r'"action"\s*:')
_THOUGHTS = re.compile(r'"thoughts"\s*:\s*')
_QUOTE_OR_END = re.compile(r'\\.|"|}', re.DOTALL)
_QUOTE = re.compile(r'\\.|"', re.DOTALL)
_MASK = "\0"


def find_action_key(output: str) -> int | None:
    """Offset of the opening quote of the last ``"action"`` key that a colon follows, or None."""
    key = _last_key(output)
    return None if key is None else key.start()


def parse_action(output: str, legal_actions: Sequence[str], rng: np.random.Generator) -> ParsedAction:
    """The one legal action named after the last ``"action"`` key; otherwise one drawn uniformly.

    Actions are matched whole and longest first (``10`` is never read as ``1``), words regardless of case.
    The text that counts ends with the JSON object. Naming two different actions there is not legal.

    Args:
        output: v_out, decoded.
        legal_actions: at least one name; the order fixes the draw.
        rng: used only when nothing legal was named.
    """
    key = _last_key(output)
    if key is None:
        return ParsedAction(_draw(legal_actions, rng), False, "", None)
    end = _object_end(output, key.end())
    text, value_end = _value(output, key.end(), end)
    span = (key.start(), value_end)
    named = _named(output[key.end() : end], legal_actions)
    if len(named) == 1:
        return ParsedAction(named[0], True, text, span)
    return ParsedAction(_draw(legal_actions, rng), False, text, span)


def extract_thoughts(output: str) -> str:
    """The reasoning in ``output`` as one tidy line: its ``"thoughts"`` value, else what precedes the action.

    "" when there is none. Without an action key the whole output counts as thought. Encodable as UTF-8.
    """
    key = _last_key(output)
    stop = len(output) if key is None else key.start()
    thoughts = _THOUGHTS.search(output, 0, stop) or (_THOUGHTS.search(output, key.end()) if key else None)
    if thoughts is None:
        return _tidy(output[:stop])
    start = thoughts.end()
    stop = stop if start <= stop else len(output)
    closing = _closing_quote(output, start, stop) if output.startswith('"', start, stop) else None
    if closing is not None and output[closing + 1 : stop].lstrip()[:1] in ("", ",", "}", '"'):
        return _tidy(_unescape(output[start : closing + 1]))
    return _tidy(output[start:stop])


def with_action(output: str, action: str) -> str:
    """``output`` with ``action`` as the value of its last ``"action"`` key; a key is added where there is none.

    All else stays as it was written, so that outputs for different actions differ in the action alone.
    """
    key = _last_key(output)
    if key is None:
        begun = output.rstrip().removesuffix("}").rstrip(", \n")
        return (
            f'{begun},\n"action": "{action}"\n}}' if begun.strip("{ \n") else f'{{\n"action": "{action}"\n}}'
        )
    end = _value(output, key.end(), _object_end(output, key.end()))[1]
    written = output[key.end() : end]
    gap = written[: len(written) - len(written.lstrip())] if written else " "
    return f'{output[: key.end()]}{gap}"{action}"{output[end:]}'


def _last_key(output: str) -> re.Match[str] | None:
    """The match of the last ``"action":``, from its opening quote to the colon."""
    position = len(output)
    while (position := output.rfind('"action"', 0, position)) >= 0:
        key = _KEY.match(output, position)
        if key is not None:
            return key
    return None


def _object_end(output: str, start: int) -> int:
    """Offset of the first ``}`` at or after ``start`` outside double quotes, or the end of the text."""
    quoted = False
    for token in _QUOTE_OR_END.finditer(output, start):
        if token.group() == '"':
            quoted = not quoted
        elif token.group() == "}" and not quoted:
            return token.start()
    return len(output)


def _closing_quote(output: str, start: int, stop: int) -> int | None:
    """Offset of the quote that closes the string opened at ``start``, or None."""
    for token in _QUOTE.finditer(output, start + 1, stop):
        if token.group() == '"':
            return token.start()
    return None


def _value(output: str, start: int, end: int) -> tuple[str, int]:
    """The value between ``start`` and ``end``: its text without quotes, and the offset where it ends."""
    region = output[start:end]
    stripped = region.strip()
    if not stripped:
        return "", start
    first = start + len(region) - len(region.lstrip())
    last = first + len(stripped)
    if not stripped.startswith('"'):
        return stripped, last
    closing = _closing_quote(output, first, last)
    if closing is None:
        return stripped[1:].strip(), last
    if output[closing + 1 : last].lstrip()[:1] in ("", ","):
        return output[first + 1 : closing].strip(), closing + 1
    return stripped, last


def _named(region: str, legal_actions: Sequence[str]) -> list[str]:
    """The distinct legal actions that ``region`` names, longest first; text once matched is masked."""
    named = []
    for action in sorted(dict.fromkeys(legal_actions), key=len, reverse=True):
        region, count = _pattern(action).subn(_masked, region)
        if count:
            named.append(action)
    return named


def _masked(found: re.Match[str]) -> str:
    return _MASK * len(found.group())


@lru_cache(maxsize=4096)
def _pattern(action: str) -> re.Pattern[str]:
    """Matches ``action`` as a whole: no letter, digit or decimal part may touch its ends."""
    body = r"\s+".join(re.escape(word) for word in action.split())
    before = r"(?<!\w)(?<!\d\.)" if re.match(r"\w", action) else ""
    after = r"(?!\w|\.\d)" if re.search(r"\w\Z", action) else ""
    return re.compile(before + body + after, re.IGNORECASE)


def _draw(legal_actions: Sequence[str], rng: np.random.Generator) -> str:
    assert legal_actions, "a state without legal actions"
    return legal_actions[int(rng.integers(len(legal_actions)))]


def _unescape(quoted: str) -> str:
    """A JSON string's content; the string as it stands where it is not valid JSON."""
    try:
        return str(json.loads(quoted, strict=False))
    except ValueError:
        return quoted


def _tidy(text: str) -> str:
    """One line, without the JSON punctuation around it."""
    line = " ".join(text.encode("utf-8", "replace").decode("utf-8").split()).strip("{}, ")
    if line.count('"') == 1 or (line[:1] == line[-1:] == '"' and '": ' not in line):
        line = line.strip('"')
    return line.strip()
