"""The sizes of well-known models, without weights: facts to plan with where there is no network.

Each JSON file holds a model's name on the hub, its number of parameters, its config, and what its processor says about
the sizes of pictures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from vlmagent.errors import UsageError, unknown_choice
from vlmagent.models.locate import base_name, cached_file, is_adapter, is_hub_name, read_json

_SETTINGS = ("processor_config.json", "preprocessor_config.json")
# pixels; the families' `image_tokens` know which of them theirs means
_SIZES = ("min_pixels", "max_pixels", "longest_edge", "shortest_edge")


@dataclass(frozen=True, slots=True)
class Architecture:
    """What is known of a model without its weights.

    Attributes:
        config: as in its ``config.json``.
        pictures: sizes in pixels that its processor keeps to.
        parameters: published number of parameters, or None.
    """

    name: str
    config: Mapping[str, Any]
    pictures: Mapping[str, int]
    parameters: int | None


def shipped() -> dict[str, Architecture]:
    """The models whose sizes come with the program, by name."""
    found = {}
    for file in sorted(files(__name__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".json"):
            data = json.loads(file.read_text(encoding="utf-8"))
            found[data["name"]] = Architecture(
                data["name"], data["config"], data.get("pictures", {}), data["parameters"]
            )
    return found


def find_architecture(name: str) -> Architecture:
    """The sizes of the model that ``--model`` names: from its folder, the hub's cache here, or those shipped.

    Raises:
        UsageError: they are nowhere; nothing is fetched.
    """
    if Path(name).is_dir():
        folder = Path(name)
        if is_adapter(folder):
            return find_architecture(base_name(folder))
        if not (folder / "config.json").is_file():
            raise UsageError(f"--model '{name}' has no config.json, so that nothing is known of its size.")
        return _from_files(name, folder)
    known = shipped()
    if name in known:
        return known[name]
    config = cached_file(name, "config.json") if is_hub_name(name) else None
    if config is not None:
        return _from_files(name, config.parent)
    raise unknown_choice(
        "model", name, known, "A plan fetches nothing: give one of these, or the folder of a model."
    )


def _from_files(name: str, folder: Path) -> Architecture:
    settings: dict[str, Any] = {}
    # where both say something the second one counts
    for file in _SETTINGS:
        if (folder / file).is_file():
            settings |= read_json(folder / file)
    inner = settings.get("image_processor", settings)
    sizes = {**inner, **(inner.get("size") or {})}
    pictures = {key: int(sizes[key]) for key in _SIZES if isinstance(sizes.get(key), int | float)}
    if "shortest_edge" in pictures:  # newer Qwen processors name their numbers of pixels like this
        pictures.setdefault("min_pixels", pictures["shortest_edge"])
    if "longest_edge" in pictures:
        pictures.setdefault("max_pixels", pictures["longest_edge"])
    return Architecture(name, read_json(folder / "config.json"), pictures, None)
