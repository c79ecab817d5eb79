"""Keys of one's own: a file that maps the bindings' ids to other keys, and what is wrong with it.

Whatever cannot be used is said and passed over; the rest counts. Deliberately knows no screen by name: what defines
keys is found by looking through the package, which loads all of it: that is done only where there is such a file.
"""

from __future__ import annotations

import importlib
import pkgutil
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import KEY_NAME_REPLACEMENTS, KEY_TO_UNICODE_NAME, Keys
from textual.screen import Screen

from vlmagent import paths
from vlmagent.errors import nearest

PLACES = ("vlmagent.tui.app", "vlmagent.tui.screens", "vlmagent.tui.widgets", "vlmagent.tui.play")
"""Modules and packages in which keys are defined."""
MODIFIERS = ("ctrl", "shift", "alt", "super", "hyper", "meta")
# problems that are told one by one
MOST_TOLD = 3
_NAMED = {key.value for key in Keys} | set(KEY_NAME_REPLACEMENTS.values()) | set(KEY_TO_UNICODE_NAME)


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """What a file of keys says.

    Attributes:
        keys: the keys of each binding, separated by commas, by its id.
        problems: what was passed over and why, a part of a sentence each.
    """

    path: Path
    keys: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[str] = ()

    @property
    def notice(self) -> str:
        """All problems in one sentence that names the file; "" without any."""
        if not self.problems:
            return ""
        more = len(self.problems) - MOST_TOLD
        told = [*self.problems[:MOST_TOLD], *([f"{more} more (`vlmagent tui --keys`)"] if more > 0 else [])]
        return f"{self.path}: {'; '.join(told)}."


def keys_file() -> Path:
    """Where people write which keys they want."""
    return paths.user_dir() / "keys.yaml"


def read_keys() -> OwnKeys:
    """The keys in ``keys_file``; none where there is no such file. Never raises."""
    path = keys_file()
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return OwnKeys(path)
    except OSError as error:
        return OwnKeys(path, problems=[f"it cannot be read ({error.strerror or error})"])
    except (ValueError, RecursionError):
        return OwnKeys(path, problems=["it is no text in UTF-8"])
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return OwnKeys(path, problems=[f"it is no YAML{f' (line {mark.line + 1})' if mark else ''}"])
    if found is None:  # empty, or comments alone
        return OwnKeys(path)
    if not isinstance(found, dict):
        return OwnKeys(path, problems=["it must map ids to keys, such as `train.smooth: m`"])
    return _checked(path, found)


def _checked(path: Path, found: Mapping[Any, Any]) -> OwnKeys:
    problems: list[str] = []
    known = {str(binding.id): binding for owner in owners() for binding in owner.__dict__["BINDINGS"]}
    keys: dict[str, str] = {}
    for id_, wanted in found.items():
        if id_ not in known:
            near = nearest(str(id_), known)
            problems.append(f"there is no `{id_}`" + (f" (`{near}`?)" if near else ""))
            continue
        names = _names(wanted)
        unknown = [name for name in names if not is_key(name)]
        if unknown or not names:
            problems.append(f"`{id_}` needs the name of a key" + (f", not `{unknown[0]}`" if unknown else ""))
        else:
            keys[id_] = ",".join(dict.fromkeys(full_name(name) for name in names))
    clashes = _settle(keys)
    return OwnKeys(path, keys, [*problems, *clashes])


def _names(wanted: Any) -> list[str]:
    """The names of keys in a value: a list, or one text with commas between them."""
    if isinstance(wanted, list):
        return [str(name).strip() for name in wanted]
    if wanted is None or isinstance(wanted, dict):
        return []
    text = str(wanted)
    # a comma alone is the key
    return [text] if text.strip() in ("", ",") else [name.strip() for name in text.split(",")]


def is_key(name: str) -> bool:
    """Whether a terminal can send a key of this name: a character, its name, or one like ``ctrl+f5``."""
    *modifiers, last = name.split("+") if len(name) > 1 else [name]
    if any(modifier not in MODIFIERS for modifier in modifiers):
        return False
    if len(last) == 1:
        return last.isprintable()
    return last in _NAMED or _is_character(last)


def _is_character(name: str) -> bool:
    """Whether this is the name of a character, as Unicode has it."""
    try:
        unicodedata.lookup(name.replace("_", " "))
    except KeyError:
        return False
    return name == name.lower()


def full_name(name: str) -> str:
    """The name that Textual knows a key by: ``question_mark`` for ``?``."""
    # by itself: a comma would part two keys
    return "comma" if name == "," else next(iter(Binding.make_bindings([Binding(name, "")]))).key


@lru_cache(maxsize=1)
def owners() -> list[type[DOMNode]]:
    """All classes of the dashboard that define keys, by name."""
    found = {
        value
        for module in _modules()
        for value in vars(importlib.import_module(module)).values()
        if isinstance(value, type) and value.__module__.startswith("vlmagent.") and issubclass(value, DOMNode)
    }
    return sorted((one for one in found if one.__dict__.get("BINDINGS")), key=lambda one: one.__name__)


def _modules() -> Iterator[str]:
    for place in PLACES:
        yield place
        folder = getattr(importlib.import_module(place), "__path__", None)
        if folder is not None:
            yield from (module.name for module in pkgutil.walk_packages(folder, f"{place}."))


def _settle(keys: dict[str, str]) -> list[str]:
    """Take keys out that two bindings of one place want; returns what was done, once for each pair."""
    told: dict[str, None] = {}
    for owner in owners():
        bindings = _inherited(owner)
        taken = _share(bindings, keys, told)
        for binding in bindings:
            other = None if binding.id in keys else taken.get(binding.key)
            if other is not None and other.id != binding.id:
                told[f"`{other.id}` takes {binding.key} from `{binding.id or binding.action}`"] = None
        if issubclass(owner, Screen):
            _cover(bindings, keys, told)
    return list(told)


def _share(bindings: Sequence[Binding], keys: dict[str, str], told: dict[str, None]) -> dict[str, Binding]:
    """Which binding gets each key that people asked for: of two the first, and the other one loses it."""
    taken: dict[str, Binding] = {}
    for binding in _in_order(bindings, keys):
        for key in keys[str(binding.id)].split(","):
            first = taken.setdefault(key, binding)
            if first.id != binding.id:
                _drop(keys, str(binding.id), key)
                told[f"`{first.id}` and `{binding.id}` both want {key}, which the first one gets"] = None
    return taken


def _cover(bindings: Sequence[Binding], keys: Mapping[str, str], told: dict[str, None]) -> None:
    """Keys of the whole application that a screen keeps for itself, where people changed either of them."""
    on_screen = {name: binding for binding in bindings for name in _keys_of(binding, keys)}
    for binding in _inherited(app_class()):
        for name in _keys_of(binding, keys):
            other = on_screen.get(name)
            if other is not None and (binding.id in keys or other.id in keys):
                told[f"`{other.id or other.action}` keeps {name} from `{binding.id or binding.action}`"] = (
                    None
                )


def _keys_of(binding: Binding, keys: Mapping[str, str]) -> list[str]:
    return keys.get(str(binding.id), binding.key).split(",")


def app_class() -> type[DOMNode]:
    """The application, whose keys work on every screen."""
    return next(one for one in owners() if one.__name__ == "VlmAgentApp")


def _inherited(owner: type[DOMNode]) -> list[Binding]:
    """The bindings of a class, a single key each, its own before those that it inherits."""
    bases = [base for base in owner.__mro__ if base.__dict__.get("BINDINGS")]
    return [binding for base in bases for binding in Binding.make_bindings(base.__dict__["BINDINGS"])]


def _in_order(bindings: Sequence[Binding], keys: Mapping[str, str]) -> list[Binding]:
    """Those that people gave other keys, each once, in the order of their file."""
    wanted = {str(binding.id): binding for binding in bindings if binding.id in keys}
    return [wanted[id_] for id_ in list(keys) if id_ in wanted]


def _drop(keys: dict[str, str], id_: str, key: str) -> None:
    """Take a key from a binding; one that has no other is as if it were not in the file."""
    left = [name for name in keys[id_].split(",") if name != key]
    if left:
        keys[id_] = ",".join(left)
    else:
        del keys[id_]


def table_of_keys(own: OwnKeys) -> list[str]:
    """Every binding's id, keys and meaning, a line each; keys of one's own have a star."""
    rows = []
    for owner in owners():
        for binding in owner.__dict__["BINDINGS"]:
            if not binding.system:  # the digits that seek: one line stands for all
                star = "*" if binding.id in own.keys else ""
                rows.append((str(binding.id), own.keys.get(binding.id, binding.key) + star, binding.tooltip))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"{id_:<{widths[0]}}  {keys:<{widths[1]}}  {text}" for id_, keys, text in sorted(rows)]
