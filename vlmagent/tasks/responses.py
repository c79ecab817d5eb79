"""The JSON that experts write, a key a line, as in the paper's Figures 22 to 31. Knows no task."""

from __future__ import annotations

import json
from collections.abc import Mapping


def response(fields: Mapping[str, object]) -> str:
    """A whole output v_out with these keys, in their order."""
    return f"{{\n{lines(fields)}\n}}"


def lines(fields: Mapping[str, object]) -> str:
    """The lines between the braces."""
    # not escaped to ASCII: the model would have to learn to write six characters for one
    return ",\n".join(f'"{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in fields.items())
