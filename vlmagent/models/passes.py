"""Passes over a network: prompts read, outputs written, given outputs predicted. Two kinds with the same results.

``PackedPasses`` run a Llama decoder's layers over tokens without padding, each different prompt once (``decoder``,
``packing``). ``PaddedPasses`` go through transformers' own forward pass and ``generate``, which know every
architecture. Neither knows the distribution that outputs are scored under.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from vlmagent.models import sampling
from vlmagent.models.decoder import Decoder, KeysValues, StepCache
from vlmagent.models.distribution import Draw
from vlmagent.models.families import EncodedState
from vlmagent.models.families.base import Family
from vlmagent.models.features import PictureFeatures
from vlmagent.models.output_layer import float32_output
from vlmagent.models.packing import Packed, pack
from vlmagent.models.recompute import recomputing

Rows = Sequence[Sequence[int]]
"""Outputs, token by token; each of at least one."""


class Predicted(NamedTuple):
    """What a network predicts of given outputs.

    Attributes:
        logits: (M, V).
        predictors: the row of ``logits`` that predicts each output token, output by output, int64 (sum of lengths,).
        ends: each state's last prompt token's last hidden state, (B, width).
    """

    logits: Tensor
    predictors: Tensor
    ends: Tensor


class Passes(Protocol):
    """What both kinds offer. Without gradients unless the caller has them on."""

    def ends(self, states: Sequence[EncodedState]) -> Tensor:
        """The last prompt tokens' last hidden states, (B, width)."""

    def written(
        self,
        states: Sequence[EncodedState],
        draw: Draw,
        max_new_tokens: int,
        on_tokens: sampling.OnTokens | None,
    ) -> tuple[sampling.Written, Tensor]:
        """An output for every state, and ``ends``."""

    def predicted(self, states: Sequence[EncodedState], rows: Rows, *, share: bool) -> Predicted:
        """Predictions of given outputs.

        Args:
            share: whether states that are alike may be read once; not where dropout draws for each row.
        """


@dataclass(frozen=True, slots=True)
class Reading:
    """What both kinds need of a policy.

    Attributes:
        network: asked for whenever it is needed: merging adapters makes it another one.
        end_ids: ids that end an output.
        half: whether matrix products are taken in bfloat16.
        recompute: whether activations are recomputed in the backward pass.
    """

    network: Callable[[], Any]
    family: Family
    features: PictureFeatures
    end_ids: Sequence[int]
    pad_id: int
    half: bool
    recompute: bool

    @contextmanager
    def precision(self, network: Any) -> Iterator[None]:
        """Matrix products in the weights' own precision, also those of float32 adapters; the output layer's not."""
        products: AbstractContextManager[Any] = (
            torch.autocast(network.device.type, torch.bfloat16) if self.half else nullcontext()
        )
        with products, float32_output(network):
            yield


def decoder_of(network: Any, family: Family) -> Decoder | None:
    """The decoder that ``PackedPasses`` can run, or None: other families do more than put pictures among embeddings."""
    if not family.finishes_embeddings:
        return None
    core = getattr(network, "model", network)
    return Decoder.of(getattr(core, "language_model", None))


class PackedPasses:
    """Implements ``Passes`` with our own loops.

    Args:
        reading: of a family that finishes its embeddings.
        decoder: of the same network.
    """

    def __init__(self, reading: Reading, decoder: Decoder) -> None:
        self._reading = reading
        self._decoder = decoder

    def ends(self, states: Sequence[EncodedState]) -> Tensor:
        """See ``Passes``."""
        network = self._reading.network()
        prompts, which = distinct(states)
        with self._reading.precision(network):
            hidden = self._run(network, prompts, range(len(prompts)), [])[1]
        return hidden[torch.tensor(which, device=hidden.device)]

    def written(
        self,
        states: Sequence[EncodedState],
        draw: Draw,
        max_new_tokens: int,
        on_tokens: sampling.OnTokens | None,
    ) -> tuple[sampling.Written, Tensor]:
        """See ``Passes``."""
        network = self._reading.network()
        prompts, places = distinct(states)
        cache: list[KeysValues] = []
        with self._reading.precision(network):
            hidden = self._run(network, prompts, range(len(prompts)), [], cache)[1]
            which = torch.tensor(places, device=hidden.device)
            lengths = [len(state.input_ids) for state in prompts]
            start = sampling.Start(
                network.get_output_embeddings()(hidden)[which],
                torch.tensor(lengths, device=hidden.device)[which],
                StepCache(cache, lengths, which, max_new_tokens),
            )
            out = sampling.write(
                network,
                self._decoder,
                start,
                draw,
                ends=self._reading.end_ids,
                max_new_tokens=max_new_tokens,
                on_tokens=on_tokens,
            )
        return out, hidden[which]

    def predicted(self, states: Sequence[EncodedState], rows: Rows, *, share: bool) -> Predicted:
        """See ``Passes``."""
        network = self._reading.network()
        prompts, which = distinct(states) if share else (list(states), list(range(len(states))))
        with self._reading.precision(network):
            packed, hidden = self._run(network, prompts, which, rows)
            logits = network.get_output_embeddings()(hidden)
        return Predicted(logits, packed.predictors, hidden.index_select(0, packed.ends))

    def _run(
        self,
        network: Any,
        prompts: Sequence[EncodedState],
        which: Sequence[int],
        rows: Rows,
        cache: list[KeysValues] | None = None,
    ) -> tuple[Packed, Tensor]:
        """The layout and the hidden states of its kept tokens."""
        reading = self._reading
        ids = [state.input_ids.numpy() for state in prompts]
        packed = pack(ids, which, [np.asarray(row, dtype=np.int64) for row in rows]).to(network.device)
        embeds = reading.family.embed(network, packed.ids, prompts, reading.features)
        return packed, self._decoder.run(embeds, packed, recompute=reading.recompute, cache=cache)


class PaddedPasses:
    """Implements ``Passes`` with transformers' own loops: prompts padded on the left, outputs on the right."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def ends(self, states: Sequence[EncodedState]) -> Tensor:
        """See ``Passes``."""
        with self._opened(states, []) as (network, inputs, hidden):
            network(**inputs, logits_to_keep=1, use_cache=False)
        return hidden[0][:, -1]

    def written(
        self,
        states: Sequence[EncodedState],
        draw: Draw,
        max_new_tokens: int,
        on_tokens: sampling.OnTokens | None,
    ) -> tuple[sampling.Written, Tensor]:
        """See ``Passes``."""
        reading = self._reading
        with self._opened(states, []) as (network, inputs, hidden):
            inputs.pop("position_ids", None)  # generation counts for itself
            out = sampling.generate(
                network,
                inputs,
                draw,
                ends=reading.end_ids,
                pad_id=reading.pad_id,
                max_new_tokens=max_new_tokens,
                on_tokens=on_tokens,
            )
        # the last column is every row's last prompt token
        return out, hidden[0][:, -1]

    def predicted(self, states: Sequence[EncodedState], rows: Rows, *, share: bool) -> Predicted:
        """See ``Passes``."""
        width = max(len(row) for row in rows)
        with (
            self._opened(states, rows) as (network, inputs, hidden),
            recomputing(network, self._reading.recompute),
        ):
            # L + 1 positions: the last prompt token predicts the first output token
            logits = network(**inputs, logits_to_keep=width + 1, use_cache=False).logits
        # of the B * (L + 1) positions those before an output token
        used = [row * (width + 1) + place for row, ids in enumerate(rows) for place in range(len(ids))]
        kept = torch.tensor(used, device=logits.device)
        return Predicted(
            logits.flatten(0, 1).index_select(0, kept),
            torch.arange(len(used), device=logits.device),
            hidden[0][:, -width - 1],
        )

    @contextmanager
    def _opened(
        self, states: Sequence[EncodedState], rows: Rows
    ) -> Iterator[tuple[Any, dict[str, Tensor], list[Tensor]]]:
        """The network, its inputs, and where the last hidden states will be found once it ran on them."""
        reading, network = self._reading, self._reading.network()
        # a checkpoint's own generation settings (penalties, top-k) would make the sampler differ from the scorer
        own, network.generation_config = network.generation_config, GenerationConfig()
        try:
            with (
                reading.precision(network),
                _last_hidden(network) as hidden,
                reading.family.serving(network, states, reading.features),
            ):
                inputs = reading.family.inputs(network, states, rows, reading.pad_id, reading.features)
                yield network, inputs, hidden
        finally:
            network.generation_config = own


@contextmanager
def _last_hidden(network: Any) -> Iterator[list[Tensor]]:
    """Collects what the output layer reads: the last hidden states, without keeping every layer's."""
    seen: list[Tensor] = []

    # what it reads are hidden states after the last norm, at the positions that are kept
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # while generating: the prompt's, which the value is read from, and none of a later token
        if not seen:
            seen.append(inputs[0])

    handle = network.get_output_embeddings().register_forward_pre_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


def distinct(states: Sequence[EncodedState]) -> tuple[list[EncodedState], list[int]]:
    """The different ones in the order in which they first appear, and which of them each state is."""
    found: dict[tuple[bytes, bytes], int] = {}
    first: list[EncodedState] = []
    which = []
    for state in states:
        place = found.setdefault(state.key, len(found))
        if place == len(first):
            first.append(state)
        which.append(place)
    return first, which
