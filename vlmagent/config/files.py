"""Recipes as YAML files and ``--set`` pairs: read, merged, checked and written back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vlmagent import paths
from vlmagent.config.sections import Config
from vlmagent.config.validation import validate
from vlmagent.errors import UsageError, unknown_choice


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """``["ppo.lr=1e-4", "env.n_max=7"]`` as nested mappings; values are read as YAML.

    Raises:
        UsageError: a pair without ``=``, an empty key, or a key that is both a value and a section.
    """
    result: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise UsageError(f"--set takes key=value, but received '{pair}'. Example: --set ppo.lr=1e-4")
        target = result
        # sections are made as they are named: "env.n_max=7" makes "env"
        for part in parts[:-1]:
            target = target.setdefault(part, {})
            # "ppo=1" and then "ppo.lr=2"
            if not isinstance(target, dict):
                raise UsageError(
                    f"--set {pair}: '{part}' was already given a value and cannot be a section too."
                )
        target[parts[-1]] = _yaml_value(text, pair)
    return result


def _yaml_value(text: str, pair: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(
            f"--set {pair}: the value is not readable as YAML. Quote it if it is text."
        ) from None
    # YAML 1.1 reads 1e-4 as text, where people mean a number; what they quoted they mean as text
    if isinstance(value, str) and value == text.strip():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``; sections are merged, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        # lists are replaced as a whole: there is no telling which of their entries would be meant
        result[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def available_configs() -> list[str]:
    """Names of the shipped recipes, such as ``numberline`` or ``paper/numberline``."""
    root = paths.config_dir()
    files = (file.relative_to(root) for file in root.rglob("*.yaml"))
    # the table of published numbers lies among the recipes and is none
    return sorted(str(file.with_suffix("")) for file in files if str(file) != paths.BASELINES)


def find_config(name: str) -> Path:
    """The file behind a path or a shipped recipe's name.

    Raises:
        UsageError: there is no such file or recipe; names the nearest.
    """
    # a path first: a file of the user's may have a shipped recipe's name
    path = Path(name)
    if path.is_file():
        return path
    shipped = paths.config_dir() / f"{name.removesuffix('.yaml')}.yaml"
    if shipped.is_file():
        return shipped
    raise unknown_choice("config", name, available_configs(), "A path to a YAML file works too.")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        UsageError: unreadable, not YAML, or not a mapping; names the line.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The config {path} could not be read: {error}") from None
    except yaml.YAMLError as error:
        # PyYAML's message has the line, on lines of its own
        raise UsageError(f"The config {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UsageError(f"The config {path} should hold keys and values, but holds {type(data).__name__}.")
    return data


def load_config(source: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """The recipe at ``source`` with ``overrides`` on top.

    Raises:
        UsageError: anything that is not a valid recipe.
    """
    return validate(Config, merge(read_yaml(source), overrides or {}))


def dump_config(config: Config) -> str:
    """The resolved config as YAML that ``load_config`` reads back to an equal one."""
    # in the order of the sections, as people read them
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
