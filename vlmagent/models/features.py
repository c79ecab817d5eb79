"""Picture features: each distinct picture through the vision encoder once a batch, or once altogether when frozen.

Knows nothing of families: it splits whatever ``get_image_features`` returns into one piece per picture.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vlmagent.models.caching import SizedCache

KEPT_BYTES = 2 * 2**30
"""On the device: 430 pictures of 576 tokens and width 4096 in bfloat16, next to 15 GB of a 7 B model's weights."""


class Picture(Protocol):
    """What this module needs of an encoded state."""

    @property
    def image_key(self) -> bytes:
        """Equal for equal pictures."""

    @property
    def tiles(self) -> int:
        """Tiles that the picture was cut into."""


Join = Callable[[Sequence[Any]], Mapping[str, Tensor]]
"""Makes one batch of several states' pictures, by the names of the model's arguments."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One picture's features.

    Attributes:
        tokens: what stands at the picture's placeholders, (n, width) or (tiles, n, width).
        levels: what is added again in deeper layers (Qwen3-VL), (n, width) each.
    """

    tokens: Tensor
    levels: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return self.tokens.nbytes + sum(level.nbytes for level in self.levels)


@dataclass(frozen=True, slots=True)
class Form:
    """How a model returns several pictures' features: as lists of one entry a picture, or as one tensor."""

    tokens_listed: bool
    levels_listed: bool


@dataclass
class PictureOutput(BaseModelOutputWithPooling):  # type: ignore[misc]
    """What models expect of ``get_image_features``; some hand it on with their own output."""

    deepstack_features: Any = None


class PictureFeatures:
    """Features by picture.

    Args:
        frozen: whether the vision encoder never changes: features are then kept between calls.
        max_bytes: of kept features; the least recently used go first.

    Attributes:
        kept: the features that are.
    """

    def __init__(self, frozen: bool = False, max_bytes: int = KEPT_BYTES) -> None:
        self.frozen = frozen
        self.kept: SizedCache[bytes, Piece] = SizedCache(max_bytes, lambda piece: piece.nbytes)
        self._form = Form(tokens_listed=False, levels_listed=False)

    @contextmanager
    def serving(self, model: Any, states: Sequence[Picture], join: Join) -> Iterator[None]:
        """While open, ``model`` takes the features of ``states`` from here, in their order.

        Most architectures take no ready features, so that the method that computes them is replaced on the instance.
        """
        # conditional-generation models call it on their inner `model`
        core = getattr(model, "model", model)
        original = core.get_image_features

        @functools.wraps(original)  # its signature tells generation which arguments are the pictures'
        def served(*_args: Any, **_kwargs: Any) -> Any:
            return join_pieces(self.pieces(core, original, states, join), self._form)

        # on the instance: it hides the class's method, and deleting it brings that back
        core.get_image_features = served
        try:
            yield
        finally:
            del core.get_image_features

    def pieces(
        self, core: Any, compute: Callable[..., Any], states: Sequence[Picture], join: Join
    ) -> list[Piece]:
        """One piece per state, in order; those not kept from before come from one call of ``compute``."""
        found: dict[bytes, Piece] = {}
        missing: dict[bytes, Picture] = {}
        # one state for each distinct picture, in the order of first appearance
        for key, state in {state.image_key: state for state in states}.items():
            piece = self.kept.find(key)
            if piece is None:
                missing[key] = state
            else:
                found[key] = piece
        if missing:
            new = list(missing.values())
            accepted = inspect.signature(compute).parameters
            # `join` gives all that a processor made, and families' methods take different parts of it
            pictures = {name: tensor for name, tensor in join(new).items() if name in accepted}
            # kept features must hold no graph: it would be gone, or grow, by the next batch
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                output = compute(**to_model(core, pictures), return_dict=True)
            self._form, pieces = split_output(output, [picture.tiles for picture in new])
            for key, piece in zip(missing, pieces, strict=True):
                found[key] = piece
                if self.frozen:
                    self.kept.keep(key, piece)
        # equal pictures share one piece
        return [found[state.image_key] for state in states]


def to_model(model: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the model's device, pixels in its precision."""
    return {
        # None leaves a dtype as it is: ids and grids stay integers
        name: tensor.to(model.device, model.dtype if tensor.is_floating_point() else None)
        for name, tensor in tensors.items()
    }


def split_output(output: Any, tiles: Sequence[int]) -> tuple[Form, list[Piece]]:
    """What ``get_image_features`` returned, by picture.

    Args:
        tiles: of each picture, in order.
    """
    pooled = output.pooler_output
    listed = isinstance(pooled, list | tuple)
    # one tensor, the tiles of all pictures behind one another: cut by their numbers
    tokens = list(pooled) if listed else list(pooled.split(list(tiles)))
    levels = getattr(output, "deepstack_features", None) or []
    levels_listed = bool(levels) and isinstance(levels[0], list | tuple)
    # deeper levels have no axis of pictures of their own: they are cut like the tokens
    sizes = [len(piece) for piece in tokens]
    by_level = [list(level) if levels_listed else list(level.split(sizes)) for level in levels]
    pieces = [Piece(piece, tuple(level[index] for level in by_level)) for index, piece in enumerate(tokens)]
    return Form(listed, levels_listed), pieces


def join_pieces(pieces: Sequence[Piece], form: Form) -> Any:
    """The inverse of ``split_output``."""
    tokens = [piece.tokens for piece in pieces]
    levels = [[piece.levels[index] for piece in pieces] for index in range(len(pieces[0].levels))]
    return PictureOutput(
        pooler_output=tuple(tokens) if form.tokens_listed else torch.cat(tokens),
        deepstack_features=[tuple(level) if form.levels_listed else torch.cat(level) for level in levels]
        or None,
    )
