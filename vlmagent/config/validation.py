"""From what a user wrote to a checked pydantic model, or to one sentence per mistake.

Knows no config in particular.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vlmagent.errors import UsageError, nearest

M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], data: Mapping[str, Any], prefix: str = "") -> M:
    """Build ``model`` from ``data``; every problem becomes one readable line.

    Args:
        prefix: what stands before the keys in messages, such as ``env.``.

    Raises:
        UsageError: names each bad key, the value received and what would be valid.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_explain(model, problem, prefix) for problem in error.errors()]
        raise UsageError("\n".join(lines)) from None


def _explain(model: type[BaseModel], problem: Any, prefix: str) -> str:
    """One line for one pydantic problem: key, value, what is valid."""
    # a list's index is a number among the names
    location = [str(part) for part in problem["loc"]]
    key = prefix + ".".join(location)
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        owner = _section(model, location[:-1])
        known = sorted(owner.model_fields) if owner else []
        # the key itself among its neighbours first; else the whole path among all
        close = nearest(location[-1], known) or nearest(key, _all_keys(model))
        hint = (
            f" Did you mean '{prefix}{'.'.join([*location[:-1], close]) if close in known else close}'?"
            if close
            else ""
        )
        return f"Unknown key '{key}'.{hint} Valid keys here: {', '.join(known)}."
    if kind == "missing":
        return f"The key '{key}' is missing and has no default."
    if kind == "value_error":
        # what pydantic puts before the text of a validator's ValueError
        text = str(problem["msg"]).removeprefix("Value error, ")
        return f"{text}." if not key else f"{key}: {text}."
    # the limit that was broken; both limits of the field say more, where they are found
    bounds = ", ".join(
        f"{word} {context[name]}"
        for name, word in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than"))
        if name in context
    )
    if bounds:
        return f"{key} = {value!r} is out of range: it must be {_range(model, location) or bounds}."
    if kind == "literal_error":
        return f"{key} = {value!r} is not valid. Valid choices: {context['expected']}."
    message = str(problem["msg"]).removeprefix("Input should be ")
    return f"{key} = {value!r} is not valid: it should be {message}."


def _section(model: type[BaseModel], location: Sequence[str]) -> type[BaseModel] | None:
    """The section that ``location`` leads to, or None."""
    current = model
    # a mapping such as `env` has no fields to look up
    for name in location:
        annotation = current.model_fields[name].annotation if name in current.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return None
        current = annotation
    return current


def _range(model: type[BaseModel], location: Sequence[str]) -> str:
    """The valid range of a number field, from its constraints."""
    section = _section(model, location[:-1])
    if section is None or location[-1] not in section.model_fields:
        return ""
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    # pydantic keeps `ge=0` as an object with an attribute `ge`
    parts = [
        f"{word} {getattr(constraint, name)}"
        for constraint in section.model_fields[location[-1]].metadata
        for name, word in words.items()
        if hasattr(constraint, name)
    ]
    return " and ".join(parts)


def _all_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key of a model, sections included."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _all_keys(field.annotation, f"{prefix}{name}.")
    return keys
