"""f(v_out): from a model's text to a legal action (paper, equation 4.1).

What is read is the value of the last ``"action"`` key behind the model's thinking, and nothing around that value: the
reasons that a model gives for its choice name other actions as a matter of course. Of keys in one JSON object the
outermost counts: those of alternatives or of a history lie deeper. Where the value ends:

- a string at its closing quote, a list or an object at its closing bracket, a number before its comma or bracket;
- what has no such end (a bare word, a quote that is never closed, alternatives such as ``"-" or "+"``) at the next key,
  at the brace that closes the object, at a code fence, or at the end of the text.

Knows nothing of tokens: positions are character offsets into the decoded text. Every function accepts any string of any
length, never raises because of it, and takes time linear in its length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vlmagent.types import ParsedAction

_THINKING = re.compile(r"<(/?)think(?:ing)?>|\[(/?)THINK\]|◁(/?)think▷")
"""The tags of reasoning models; the group that took part is "/" in a closing one."""
_KEY = re.compile(r'"action"\s*:')
_THOUGHTS = re.compile(r'"thoughts"\s*:\s*')
# A quote that a letter or digit follows closes nothing: it is an apostrophe, or opens a word quoted inside the value.
# JSON never has one there, so a string that is valid JSON always ends where JSON says.
_CLOSING: Mapping[str, re.Pattern[str]] = {
    opening: re.compile(rf"\\.|[{closing}](?!\w)", re.DOTALL)
    for opening, closing in {'"': '"', "'": "'", "`": "`", "“": '”"', "„": '“”"', "‘": "’'", "«": "»"}.items()
}
"""Opening quote -> an escaped character, or a quote that closes."""
# up to 8 blanks, then "or", "and", | or &, or a slash that begins no comment (/* or //)
_ALTERNATIVE = re.compile(r"[ \t]{0,8}(?:(?:or|and)\b|[|&]|/(?![/*]))", re.IGNORECASE)
"""Behind a closed string: it is one of several, as in the prompts' own ``"-" or "+"``, and so no answer of its own."""
# a JSON number or word; only if the object goes on or ends behind it, since `10 or 11` is no number
_LITERAL = re.compile(r"(?:-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)(?=\s*(?:[,}\]]|\Z))")
# an escaped character, a double quote, or any bracket
_BRACKET = re.compile(r'\\.|["{}[\]]', re.DOTALL)
# Repetitions have limits, so that no text makes the search for a key take longer than linear time.
_NEXT = r"""\s{0,40}+\\?["'“‘]?\w[\w -]{0,40}\\?["'”’]?\s{0,8}:"""
_NEXT_KEY = re.compile(rf"[,\n]{_NEXT}|```")
_NEXT_LINE = re.compile(rf"\n(?:{_NEXT}|\s{{0,40}}+}})")
"""A line that goes on with the object. JSON has no line feed inside a string: the one before was never closed."""
_AROUND = ", \t\r\n"
"""What may stand between a value that has no end of its own and whatever ends it."""
_PAIRS = json.JSONDecoder(object_pairs_hook=list, strict=False)
_MOST_KEYS = 20  # each is tried with all that follows it: no more of them, so that no text takes long
_MASK = "\0"


@dataclass(frozen=True, slots=True)
class _Value:
    """The value of an ``"action"`` key.

    Attributes:
        text: as it was written, without quotes around it.
        meaning: the same with JSON's escapes resolved; actions are looked for here.
        end: offset behind it, its closing quote or bracket included.
    """

    text: str
    meaning: str
    end: int


def answer_start(output: str) -> int | None:
    """Offset where the answer begins: behind the last ``</think>``, 0 in an output without one.

    None when a ``<think>`` was never closed: the model was still thinking when its output ended, and whatever it had
    drafted by then is no answer.
    """
    start, thinking = 0, False
    for tag in _THINKING.finditer(output):
        thinking = "/" not in tag.groups()
        start = tag.end()
    return None if thinking else start


def find_action_key(output: str) -> int | None:
    """Offset of the opening quote of the ``"action"`` key that ``parse_action`` reads; None if there is none."""
    key = _action_key(output)
    return None if key is None else key.start()


def parse_action(output: str, legal_actions: Sequence[str], rng: np.random.Generator) -> ParsedAction:
    """The one legal action that the value of the ``"action"`` key names; otherwise one drawn uniformly.

    Actions are matched whole and longest first (``10`` is never read as ``1``), words regardless of case. A value that
    names two different actions is not legal, nor is anything in an output whose thinking was never closed.

    Args:
        output: v_out, decoded.
        legal_actions: at least one name; the order fixes the draw.
        rng: used only when nothing legal was named.
    """
    key = _action_key(output)
    if key is None:
        return ParsedAction(_draw(legal_actions, rng), False, "", None)
    value = _value(output, key.end())
    span = (key.start(), value.end)
    named = _named(value.meaning, legal_actions)
    if len(named) == 1:
        return ParsedAction(named[0], True, value.text, span)
    return ParsedAction(_draw(legal_actions, rng), False, value.text, span)


def extract_thoughts(output: str) -> str:
    """The reasoning in ``output`` as one tidy line: its ``"thoughts"`` value, else what precedes the action.

    "" when there is none. Without an action key the whole output counts as thought. Encodable as UTF-8.
    """
    # an output that was cut while thinking is all thought
    begin, key = answer_start(output), _action_key(output)
    if begin is None:
        return _tidy(_THINKING.sub(" ", output))
    stop = len(output) if key is None else key.start()
    # thoughts may also be written behind the action
    thoughts = _THOUGHTS.search(output, begin, stop) or (_THOUGHTS.search(output, key.end()) if key else None)
    if thoughts is None:
        return _tidy(_THINKING.sub(" ", output[:stop]))
    start = thoughts.end()
    stop = stop if start <= stop else len(output)
    closing = _closing_quote(output, start, stop) if output.startswith('"', start, stop) else None
    # a quote only closes the thoughts if the object goes on behind it: models quote inside their thoughts without
    # escapes
    if closing is not None and output[closing + 1 : stop].lstrip()[:1] in ("", ",", "}", '"'):
        return _tidy(_unescape(output[start : closing + 1]))
    return _tidy(output[start:stop])


def with_action(output: str, action: str) -> str:
    """``output`` with ``action`` as the value of its ``"action"`` key; a key is added where there is none.

    All else stays as it was written, so that outputs for different actions differ in the action alone.
    """
    key = _action_key(output)
    if key is not None:
        end = _value(output, key.end()).end
        written = output[key.end() : end]
        # what stood between colon and value stays, a line feed included
        gap = written[: len(written) - len(written.lstrip())] if written else " "
        return f'{output[: key.end()]}{gap}"{action}"{output[end:]}'
    # the model was still thinking: its thinking is closed before an answer can stand
    if answer_start(output) is None:
        return f'{output}</think>\n{{\n"action": "{action}"\n}}'
    # the object that was begun goes on with one more key; an output without any object becomes one
    begun = output.rstrip().removesuffix("}").rstrip(", \n")
    return f'{begun},\n"action": "{action}"\n}}' if begun.strip("{ \n") else f'{{\n"action": "{action}"\n}}'


def _action_key(output: str) -> re.Match[str] | None:
    """The match of the answer's ``"action":``, from its opening quote to the colon: the last, or one that holds it."""
    begin = answer_start(output)
    keys = [] if begin is None else list(_KEY.finditer(output, begin))
    # the first key that holds the last one is the outermost
    for key in keys[:-1][:_MOST_KEYS]:
        if _holds(output, key, keys[-1]):
            return key
    return keys[-1] if keys else None


def _holds(output: str, key: re.Match[str], later: re.Match[str]) -> bool:
    """Whether a later key lies deeper in a key's object, which is valid JSON from the key on and has no other such key.

    A later key inside the value itself is the answer all the same: ``{"action": {"action": "hit"}}``.
    """
    try:
        # objects become lists of pairs, so that keys that occur twice are still there
        # from the key on, with a brace in front: the object's earlier keys need not be valid
        pairs, size = _PAIRS.raw_decode("{" + output[key.start() :])
    except (ValueError, RecursionError):
        return False
    inside = _value(output, key.end()).end <= later.start() < key.start() + size
    return inside and [name for name, _ in pairs].count("action") == 1


def _value(output: str, colon: int) -> _Value:
    """The value behind a key.

    Args:
        colon: offset behind the key's colon.
    """
    # blanks are not part of the value, but a value may begin on the next line
    start = colon + len(output[colon:]) - len(output[colon:].lstrip())
    opening = output[start : start + 1]
    closing = _string_end(output, start) if opening in _CLOSING else None
    # `"-" or "+"` names two actions and must not be read as the first one
    if closing is not None and not _ALTERNATIVE.match(output, closing + 1):
        text = output[start + 1 : closing].strip()
        meaning = _unescape(output[start : closing + 1]) if opening == '"' else text
        return _Value(text, meaning, closing + 1)
    unclosed = opening in _CLOSING and closing is None
    end = _closing_bracket(output, start) if opening in ("{", "[") else _literal_end(output, start)
    if end is None:
        end = _open_end(output, start, quotes=not unclosed)
    written = output[start:end].rstrip(_AROUND)
    # the opening quote that was never closed is no part of the action
    text = written[1:].strip() if unclosed else written
    return _Value(text, text, start + len(written) if written else colon)


def _string_end(output: str, start: int) -> int | None:
    """Offset of the quote that closes an action's string, or None; the next line of the object is never part of it."""
    closing, line = _closing_quote(output, start, len(output)), _NEXT_LINE.search(output, start)
    return None if closing is None or (line and line.start() < closing) else closing


def _literal_end(output: str, start: int) -> int | None:
    """Offset behind a JSON number, ``true``, ``false`` or ``null``, or None."""
    literal = _LITERAL.match(output, start)
    return literal.end() if literal else None


def _closing_quote(output: str, start: int, stop: int) -> int | None:
    """Offset of the quote that closes the string opened at ``start``, or None."""
    for token in _CLOSING[output[start]].finditer(output, start + 1, stop):
        if not token.group().startswith("\\"):
            return token.start()
    return None


def _closing_bracket(output: str, start: int) -> int | None:
    """Offset behind the bracket that closes the one at ``start``, or None. Brackets inside quotes do not count."""
    depth, quoted = 0, False
    for token in _BRACKET.finditer(output, start):
        sign = token.group()
        if sign == '"':
            quoted = not quoted
        elif not quoted and sign in "{[":
            depth += 1
        elif not quoted and sign in "}]":
            depth -= 1
            if depth == 0:
                return token.end()
    return None


def _open_end(output: str, start: int, *, quotes: bool) -> int:
    """Where a value ends that neither quotes nor brackets close: before the next key, the object's ``}`` or a fence.

    Args:
        quotes: whether quotes come in pairs, so that a brace between two of them closes nothing.
    """
    following = _NEXT_KEY.search(output, start)
    stop = following.start() if following else len(output)
    quoted = False
    for token in _BRACKET.finditer(output, start, stop) if quotes else ():
        if token.group() == '"':
            quoted = not quoted
        elif token.group() == "}" and not quoted:
            return token.start()
    brace = output.find("}", start, stop)
    return stop if brace < 0 else brace


def _named(region: str, legal_actions: Sequence[str]) -> list[str]:
    """The distinct legal actions that ``region`` names, longest first; text once matched is masked."""
    named = []
    for action in sorted(dict.fromkeys(legal_actions), key=len, reverse=True):
        # masked, so that `10`, once found, is not found as `1` and `0` again
        region, count = _pattern(action).subn(_masked, region)
        if count:
            named.append(action)
    return named


def _masked(found: re.Match[str]) -> str:
    return _MASK * len(found.group())


@lru_cache(maxsize=4096)
def _pattern(action: str) -> re.Pattern[str]:
    """Matches ``action`` as a whole: no letter, digit or decimal part may touch its ends."""
    # between the words of an action any white space may stand, also a line feed
    body = r"\s+".join(re.escape(word) for word in action.split())
    # letters or digits must not go on at either end, unless the action is a sign (`+`), which has no such ends; "0.5"
    # does not name 5
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
    # surrogates that a tokenizer leaves of half a character cannot be printed or stored
    line = " ".join(text.encode("utf-8", "replace").decode("utf-8").split()).strip("{}, ")
    # a quote of the JSON around the thoughts, not one of a pair inside them
    if line.count('"') == 1 or (line[:1] == line[-1:] == '"' and '": ' not in line):
        line = line.strip('"')
    return line.strip()
