"""Writes the parts of these pages that the program itself knows: every setting, every key, the table of results.

    python docs/pages.py

``configuration.md`` is written whole, from the pydantic models and the docstrings of their fields. In ``dashboard.md``
and ``play.md`` a part begins with a line ``<!-- keys: SCREEN, SCREEN -->`` and ends with ``<!-- end -->``; it is
written from the screens' bindings. README's
table of results comes from ``learning.json``, which ``benchmarks/learning.py --save`` writes. A test compares the pages
with what this writes.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from textual.binding import Binding
from textual.keys import key_to_character

import vlmagent.tui
from vlmagent.config import Config
from vlmagent.evaluation.statistics import wilson

FOLDER = Path(__file__).parent
KEYS = re.compile(r"(<!-- keys: ([\w, ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
LIMITS = ((Ge, "ge", ">="), (Gt, "gt", ">"), (Le, "le", "<="), (Lt, "lt", "<"))

NAMED = {"slash": "/", "minus": "-", "plus": "+"}
"""Keys whose name Textual does not turn back into the character."""

CONFIGURATION = """# Configuration

A recipe is a YAML file. `--config` takes the path of one or the name of a shipped one (`configs/`), and
`--set key=value` changes single values, as often as you like; a key is written with dots:

```sh test
vlmagent train numberline --set seed=1 --set ppo.lr=5e-5 --plan
```

A key that does not exist is answered with the nearest one, a value out of range with its range. The resolved
configuration of a run is `config.yaml` in its folder, and a column of its database. What of it may still change when a
run is continued is told by `vlmagent train --resume RUN --set ...` itself, and listed in [Reliability](reliability.md).

The tables below are written from the models in `vlmagent/config/` by `python docs/pages.py`. Defaults are those of the
models; the recipe of a task sets its own.
"""


def configuration() -> str:
    """The page of all settings."""
    parts = [CONFIGURATION, *_section(Config, "")]
    return "\n".join(parts)


def _section(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """The table of a section's own values, and then the sections inside it."""
    inner = []
    yield f"## {f'`{prefix[:-1]}`' if prefix else 'At the top'}\n"
    yield f"{_paragraph(model.__doc__)}\n"
    rows = []
    for name, field in model.model_fields.items():
        section = _model_of(field.annotation)
        if section is None:
            rows.append(
                f"| `{prefix}{name}` | {_values(field)} | {_default(field)} | {_cell(field.description)} |"
            )
        else:
            inner.append((section, f"{prefix}{name}."))
    if rows:
        yield "\n".join(["| key | values | default | what it does |", "|---|---|---|---|", *rows, ""])
    for section, name in inner:
        yield from _section(section, name)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _values(field: FieldInfo) -> str:
    """Type and range."""
    limits = [
        f"{sign} {_number(getattr(limit, name))}"
        for kind, name, sign in LIMITS
        for limit in field.metadata
        if isinstance(limit, kind)
    ]
    return _cell(", ".join([_type(field.annotation), *limits]))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_type(part) for part in get_args(annotation))
    if annotation is NoneType:
        return "`null`"
    if get_origin(annotation) in (list, tuple):
        return f"list of {_type(get_args(annotation)[0])}"
    names = {int: "integer", float: "number", bool: "`true` or `false`", str: "text"}
    return names.get(annotation, "keys and values" if get_origin(annotation) is dict else str(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(needed)"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return "`null`" if value is None else f"`{value!r}`" if value == "" else f"`{value}`"


def _paragraph(text: str | None) -> str:
    """A docstring's text: double backticks are reStructuredText's, single ones Markdown's."""
    return " ".join((text or "").split()).replace("``", "`")


def _cell(text: str | None) -> str:
    return _paragraph(text).replace("|", "\\|")


def keys(names: str) -> str:
    """A table of the bindings of screens and widgets, those of their bases included, one after the other."""
    rows: list[str] = []
    for name in names.split(","):
        for binding in _bindings(_classes()[name.strip()]):
            shown = ", ".join(f"`{_shown(part.strip())}`" for part in binding.key.split(","))
            row = f"| {shown} | {_cell(binding.description)} | {_cell(binding.tooltip)} | `{binding.id}` |"
            if row not in rows:
                rows.append(row)
    return "\n".join(["| key | name | what it does | id |", "|---|---|---|---|", *rows, ""])


def _classes() -> dict[str, type]:
    """Every class of the dashboard, by its name."""
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(vlmagent.tui.__path__, "vlmagent.tui."):
        loaded = vars(importlib.import_module(module.name))
        found |= {name: value for name, value in loaded.items() if isinstance(value, type)}
    return found


def _bindings(kind: type) -> Iterator[Binding]:
    """The bindings of a class and its bases, without those that Textual brings along: these have no id of ours."""
    for base in kind.__mro__:
        for binding in vars(base).get("BINDINGS", ()):
            if isinstance(binding, Binding) and binding.id and base.__module__.startswith("vlmagent."):
                yield binding


def _shown(key: str) -> str:
    """A key as people know it: ``?`` and not ``question_mark``; in a table a bar would end the cell."""
    character = NAMED.get(key) or key_to_character(key)
    if character is None or not character.isprintable() or character.isspace():
        return key
    return "\\|" if character == "|" else character


def with_keys(text: str) -> str:
    """A page with its tables of keys."""
    return KEYS.sub(lambda found: f"{found[1]}{keys(found[2])}{found[3]}", text)


PAPER = {
    "numberline": "89.4 %",
    "ezpoints": "50.0 %",
    "points24": "2.3 %",
    "blackjack": "40.2 %",
    "alfworld": "21.7 %",
}
"""At the end of RL in the paper (its Table 2), with a 7 B model that begins elsewhere."""
RESULTS = re.compile(r"(<!-- results -->\n).*?(<!-- end -->)", re.DOTALL)


def results() -> str:
    """The table of what the shipped recipes learn, all seeds of a task together."""
    measured = json.loads((FOLDER / "learning.json").read_text(encoding="utf-8"))
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in measured:
        groups.setdefault((one["task"], one["evaluation"]), []).append(one)
    titles = ["task", "seeds x episodes", "after SFT (95 %)", "after RL (95 %)", "env steps", "paper, 7 B"]
    rows = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for (task, evaluation), group in groups.items():
        episodes = sum(one["episodes"] for one in group)
        rates = [_rate(sum(one[key] for one in group), episodes) for key in ("start", "end")]
        name = f"{task}, `{evaluation}`" if evaluation else task
        size = f"{len(group)} x {group[0]['episodes']:,}"
        rows.append(
            f"| {name} | {size} | {rates[0]} | {rates[1]} | {group[0]['env_steps']:,} | *{PAPER[task]}* |"
        )
    return "\n".join([*rows, ""])


def _rate(won: int, episodes: int) -> str:
    low, high = wilson(won, episodes)
    return f"{100 * won / episodes:.1f} % ({100 * low:.1f}-{100 * high:.1f})"


def pages() -> dict[Path, str]:
    """Every page that is written here, and what should stand in it."""
    found = {FOLDER / "configuration.md": configuration()}
    for name in ("dashboard.md", "play.md"):
        page = FOLDER / name
        if page.is_file():
            found[page] = with_keys(page.read_text(encoding="utf-8"))
    readme = FOLDER.parent / "README.md"
    text = readme.read_text(encoding="utf-8")
    found[readme] = RESULTS.sub(lambda block: f"{block[1]}{results()}{block[2]}", text)
    return found


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
