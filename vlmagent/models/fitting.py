"""Whether an artefact fits what it is put into: the one comparison for weights, adapters, value heads and tokenizers.

Libraries fill what a file lacks with random numbers and leave what they do not know aside, with a warning at most: such
a model trains to the end and none of its weights were used. Here the rule is that every tensor of a file finds a place
of its own shape, and that everything the file is there to fill is filled. Knows nothing of how files are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from vlmagent.errors import UsageError

Shapes = Mapping[str, tuple[int, ...]]

NAMED = 3
"""Names shown of each kind of misfit: enough to see a pattern, few enough to read."""
# enough to tell models apart, few enough to read in milliseconds
SAMPLED_TENSORS = 16
SAMPLED_VALUES = 16


@dataclass(frozen=True, slots=True)
class Fit:
    """What a file and the network it was put into do not have in common.

    Attributes:
        unplaced: tensors of the file that have no place in the network.
        untouched: tensors of the network that the file should fill and does not hold.
        mismatched: tensors of both, each with both shapes.
    """

    unplaced: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether everything has its place."""
        return not (self.unplaced or self.untouched or self.mismatched)

    def describe(self) -> str:
        """What is wrong, with the first names of each kind."""
        parts = []
        if self.unplaced:
            parts.append(f"{_count(self.unplaced)} in the file without a place ({_first(self.unplaced)})")
        if self.untouched:
            parts.append(f"{_count(self.untouched)} missing from the file ({_first(self.untouched)})")
        if self.mismatched:
            parts.append(f"{_count(self.mismatched)} of another shape ({_first(self.mismatched)})")
        return "; ".join(parts)

    def check(self, what: str, todo: str) -> None:
        """Refuse what does not fit.

        Args:
            what: the artefact and what it was put into, as the beginning of a sentence: "The adapter in F".
            todo: the remedy, a sentence of its own.

        Raises:
            UsageError: it does not fit; names the first tensors of each kind.
        """
        if not self.whole:
            raise UsageError(f"{what} does not fit: {self.describe()}. {todo}")


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a file, on the CPU.

    Raises:
        UsageError: it is missing, cut off or no safetensors file.
    """
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"{file} could not be read ({error}). Copy it again, or take another checkpoint."
        ) from None
    return tensors


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def compare(held: Shapes, expected: Shapes, others: Shapes | None = None) -> Fit:
    """A file against a network.

    Args:
        held: what the file holds.
        expected: what it has to fill.
        others: what it may fill beside that, or nothing.
    """
    # `expected` last: where both name a place its shape counts
    places = {**(others or {}), **expected}
    return Fit(
        unplaced=tuple(name for name in held if name not in places),
        untouched=tuple(name for name in expected if name not in held),
        mismatched=tuple(
            _both_shapes(name, shape, places[name])
            for name, shape in held.items()
            if name in places and shape != places[name]
        ),
    )


def loading_fit(info: Mapping[str, Collection[Any]], unread: Iterable[str] = ()) -> Fit:
    """What transformers says of a model that it opened with ``output_loading_info`` and ``ignore_mismatched_sizes``.

    Args:
        unread: names of tensors that the file may hold although nothing reads them.
    """
    spared = tuple(unread)
    return Fit(
        # an ending: the same tensor has prefixes that differ with the class that reads it
        unplaced=tuple(name for name in sorted(info["unexpected_keys"]) if not name.endswith(spared)),
        untouched=tuple(sorted(info["missing_keys"])),
        mismatched=tuple(_both_shapes(*entry) for entry in sorted(info["mismatched_keys"])),
    )


def _both_shapes(name: str, held: Sequence[int], expected: Sequence[int]) -> str:
    return f"{name}: {tuple(held)} in the file, {tuple(expected)} in the network"


def check_vocabulary(processor: Any, network: Any, folder: Path) -> None:
    """Whether every id that the tokenizer can write has a row in the embedding table, and both mean the same picture.

    Ids beyond the table end a run on the CPU with an index error, on a GPU with an assertion that names nothing.

    Raises:
        UsageError: they do not belong together.
    """
    rows = network.get_input_embeddings().weight.shape[0]
    vocabulary = processor.tokenizer.get_vocab()
    beyond = sorted((index, token) for token, index in vocabulary.items() if index >= rows)
    advice = "Give the model its own tokenizer and processor files (those of the same checkpoint)."
    if beyond:
        index, token = beyond[0]
        raise UsageError(
            f"The tokenizer in {folder} does not fit its model: {len(beyond)} of its {len(vocabulary):,} tokens have "
            f"no row among the {rows:,} of the embedding table (the first is {token!r}, id {index}). {advice}"
        )
    placeholder = getattr(processor, "image_token_id", None)
    expected = getattr(network.config, "image_token_id", None)
    # Gemma's processor writes a token that begins the picture and puts the placeholders behind it itself
    known = {expected, getattr(network.config, "boi_token_id", None)}
    if placeholder is not None and expected is not None and int(placeholder) not in known:
        raise UsageError(
            f"The processor in {folder} does not fit its model: it marks pictures with id {int(placeholder)}, and the "
            f"model looks for them at id {int(expected)} (image_token_id in config.json). {advice}"
        )


def fingerprint(folder: Path) -> str:
    """A digest that tells the weights in a folder from others, without reading them all.

    Names, shapes and a few values of some tensors; values count in bfloat16, so that a copy saved in another precision
    is the same model. Takes milliseconds for 7 B.
    """
    # a folder of a whole model may hold other tensors beside (optimiser, value head)
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    places: dict[str, Path] = {}
    for file in files:
        with safe_open(file, "pt") as tensors:
            places |= dict.fromkeys(tensors.keys(), file)
    names = sorted(places)
    digest = hashlib.sha256("\0".join(names).encode())
    # evenly spread over the names, so that every part of the network is met
    for name in names[:: max(1, len(names) // SAMPLED_TENSORS)]:
        with safe_open(places[name], "pt") as tensors:
            part = tensors.get_slice(name)
            shape = part.get_shape()
            digest.update(str(shape).encode())
            # one row of a matrix; a number has no first row
            values = part[:1] if shape else tensors.get_tensor(name)
        sample = values.flatten()[:SAMPLED_VALUES].to(torch.bfloat16).to(torch.float32)
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:16]
