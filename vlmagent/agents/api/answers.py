"""What a server sent, read as an answer of the model or as the lack of one.

Deliberately knows no HTTP and no retries. One rule decides: whatever the model itself produced, however useless (a
refusal, nothing, broken JSON in its text), is an answer; an error in the answer's place, or a document in no format of
OpenAI's, is none. What a model thinks in fields of its own (``reasoning_content``, parts of type ``thinking``) is no
part of its answer: a draft in there must not be executed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from vlmagent.store.rows import AnswerRow
from vlmagent.tasks.parsing import answer_start

Flaw = Literal["refused", "cut", "empty"]

# OpenAI's word comes first; the others are what gateways hand on from other providers untranslated.
_CUT_REASONS = frozenset({"length", "max_tokens", "model_length"})
_REFUSAL_REASONS = frozenset({"content_filter", "refusal", "safety"})
_TEXT_PARTS = frozenset({"text", "output_text"})
_BAD_GATEWAY = 502
"""The status that an error without one of its own stands for: worth repeating."""


class AnswerFormatError(ValueError):
    """The document is not one of OpenAI's chat completions."""


class AnswerError(Exception):
    """A document with status 200 that holds an error in the answer's place.

    Attributes:
        status: the HTTP status that the error names, 502 where it names none.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What a model answered.

    Attributes:
        text: what it wrote, thinking in other fields excluded; of a refusal, its words.
        refused: whether the model, or its provider's filter, declined.
        finish_reason: as the server put it.
        input_tokens, output_tokens: as the server counted them; None where it did not.
    """

    text: str
    refused: bool
    finish_reason: str | None
    input_tokens: int | None
    output_tokens: int | None


def read_answer(body: bytes) -> ModelAnswer:
    """The model's answer in the body of a response with status 200.

    Raises:
        AnswerError: the document or its first choice is an error.
        AnswerFormatError: it is something else altogether.
    """
    document = _parsed(body)
    _raise_if_error(document)
    choice = _first_choice(document)
    # gateways put an error either at the top or into the choice, where the message would be
    _raise_if_error(choice)
    finish = choice.get("finish_reason")
    finish = finish if isinstance(finish, str) else None
    # a provider's failure in the middle of an answer: its beginning may be there, but is no answer of the model
    if finish is not None and finish.lower() == "error":
        raise AnswerError("finish_reason: error", _BAD_GATEWAY)
    # an empty choice means no answer at all (`_first_choice`) and is read as one without text
    if choice and "message" not in choice:
        raise AnswerFormatError("a choice without a message")
    text, refused = _text(choice.get("message"))
    refused = refused or (finish is not None and finish.lower() in _REFUSAL_REASONS)
    return ModelAnswer(text, refused, finish, *_usage(document))


def error_text(body: bytes) -> str:
    """The message inside an error document, or the body as it is."""
    text = body.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        # a document nested thousands deep makes the parser fail with RecursionError, which is no ValueError
        return text
    # Google's gateway wraps its error documents in a list
    document = document[0] if isinstance(document, list) and document else document
    return _message(document) or text


def flaw(row: AnswerRow) -> Flaw | None:
    """Why an answer could name no action; None for all others, and for a request without an answer.

    An answer is ``cut`` when the limit of tokens or the end of the stream came before the model's own end (its
    thinking is never closed), ``empty`` when nothing stands behind its thinking. Each has one flaw at most.
    """
    if row.error is not None:
        return None
    # a refusal first: its words end in order and hold text, and yet no action
    if row.refusal:
        return "refused"
    # None: thinking was opened and not closed
    start = answer_start(row.text)
    if start is None or (row.finish_reason or "").lower() in _CUT_REASONS:
        return "cut"
    return None if row.text[start:].strip() else "empty"


def count_flaws(rows: Iterable[AnswerRow]) -> dict[Flaw, int]:
    """How many answers have each flaw."""
    counts: dict[Flaw, int] = {"refused": 0, "cut": 0, "empty": 0}
    for row in rows:
        found = flaw(row)
        if found is not None:
            counts[found] += 1
    return counts


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise AnswerFormatError("no JSON") from None
    if not isinstance(document, dict):
        raise AnswerFormatError("no JSON object")
    return document


def _first_choice(document: dict[str, Any]) -> dict[str, Any]:
    """The first choice; {} where the list is empty, as some filters answer: the model said nothing."""
    choices = document.get("choices")
    if not isinstance(choices, list) or (choices and not isinstance(choices[0], dict)):
        raise AnswerFormatError("no list of choices")
    return choices[0] if choices else {}


def _raise_if_error(document: dict[str, Any]) -> None:
    error = document.get("error")
    if not error:  # many servers send "error": null with every answer
        return
    # some servers give the HTTP status as `code`, others as `status`; others put words there
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    try:
        status = int(code)  # type: ignore[arg-type]  # anything may stand there
    except (TypeError, ValueError, OverflowError):
        status = _BAD_GATEWAY
    text = _message(document) or json.dumps(error)
    # a status that is none of an error would be taken for a redirect or a success
    raise AnswerError(text, status if 400 <= status < 600 else _BAD_GATEWAY)


def _message(document: Any) -> str:
    """The words of an error document: ``error.message``, ``error`` or ``message``; "" where there are none."""
    error = document.get("error", document) if isinstance(document, dict) else document
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def _text(message: Any) -> tuple[str, bool]:
    """What the model wrote and whether it refused: content may be a string, null or a list of parts."""
    if not isinstance(message, dict):
        return "", False
    content, refusal = message.get("content"), message.get("refusal")
    # content in parts: texts and refusals may be mixed; several texts belong together without a gap
    if isinstance(content, list):
        refusals = [part.get("refusal") for part in content if isinstance(part, dict)]
        refusal = next((words for words in (refusal, *refusals) if isinstance(words, str) and words), None)
        content = "".join(_part_text(part) for part in content)
    text = content if isinstance(content, str) else ""
    refusal = refusal if isinstance(refusal, str) else ""
    # words of a refusal stand in for an answer, so that people see why
    return text or refusal, bool(refusal)


def _part_text(part: Any) -> str:
    """The text of one part of a content list; thinking, pictures and the like have none."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type", "text") not in _TEXT_PARTS:
        return ""
    text = part.get("text")
    return text if isinstance(text, str) else ""


def _usage(document: dict[str, Any]) -> tuple[int | None, int | None]:
    usage = document.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return _tokens(counts.get("prompt_tokens")), _tokens(counts.get("completion_tokens"))


def _tokens(count: Any) -> int | None:
    """A count of tokens as sent; None where it is no number that a count could be."""
    # `type(...) is int`, because True is an int as well; huge numbers would make a nonsense of the budget
    return count if type(count) is int and 0 <= count < 10**9 else None
