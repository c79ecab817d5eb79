"""A Llama decoder run layer by layer over the model's own weights: for packed rows, and token by token with a cache.

transformers' forward pass pads every row to the longest and keeps every position in every layer; ``generate`` prepares
all of that anew for each token. With small models that costs more than the arithmetic. Here the same modules are called
(so that adapters, quantised weights and hooks stay what they are), over tokens without padding; the last layer runs
only where hidden states are wanted. Knows nothing of pictures, sampling or losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer, MistralRMSNorm

from vlmagent.models.packing import Packed

KeysValues = tuple[Tensor, Tensor]
"""One layer's keys and values, turned by their positions."""


class Decoder:
    """The layers of one network.

    Args:
        language: transformers' ``LlamaModel`` or ``MistralModel``, adapters and all.
    """

    def __init__(self, language: Any) -> None:
        self._language = language
        config = language.config
        self.heads = int(config.num_attention_heads)
        self.kv_heads = int(config.num_key_value_heads)
        self.head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // self.heads)

    @classmethod
    def of(cls, language: Any) -> Decoder | None:
        """The decoder, or None where its layers do more than is done here."""
        layers = getattr(language, "layers", None)
        known = isinstance(layers, nn.ModuleList) and all(
            isinstance(layer, LlamaDecoderLayer | MistralDecoderLayer) for layer in layers
        )
        if not known:
            return None
        config = language.config
        # dropout in attention draws for each row, and a window hides what is far behind
        if config.attention_dropout or getattr(config, "sliding_window", None):
            return None
        return cls(language)

    def run(
        self,
        embeds: Tensor,
        packed: Packed,
        *,
        recompute: bool = False,
        cache: list[KeysValues] | None = None,
    ) -> Tensor:
        """The last hidden states of ``packed.kept``, after the last norm, (M, width).

        Args:
            embeds: of the packed tokens, (N, width).
            recompute: keep only what enters each layer, and compute the rest again in the backward pass.
            cache: is given every layer's keys and values, (N, kv heads, head size) each.
        """
        language = self._language
        turn = self._rotary(embeds, packed.positions)
        hidden, last = embeds, len(language.layers) - 1
        for index, layer in enumerate(language.layers):
            kept = packed.kept if index == last else None
            if recompute and torch.is_grad_enabled():
                hidden = checkpoint(
                    self._packed_layer, layer, hidden, packed, turn, kept, None, use_reentrant=False
                )
            else:
                hidden = self._packed_layer(layer, hidden, packed, turn, kept, cache)
        return normed(language.norm, hidden)

    def _packed_layer(
        self,
        layer: Any,
        hidden: Tensor,
        packed: Packed,
        turn: tuple[Tensor, Tensor],
        kept: Tensor | None,
        cache: list[KeysValues] | None,
    ) -> Tensor:
        """One layer over all packed tokens; with ``kept`` its keys and values alone are of all of them."""
        turned, values = self._projected(layer.self_attn, normed(layer.input_layernorm, hidden), turn)
        if cache is not None:
            # copies: views would keep queries and the undivided product as well
            cache.append((turned[:, self.heads :].clone(), values.clone()))
        mixed = torch.cat([turned, values], 1).flatten(1)  # (N, heads and twice the kv heads * head size)
        if not packed.dense:
            # `embedding` and not an index: its backward pass adds up rows, many times faster
            mixed = functional.embedding(packed.cells, mixed)
        sizes = [rows * width for rows, width in packed.shapes]
        groups = zip(torch.split(mixed, sizes), packed.shapes, strict=True)
        seen = torch.cat([self._attended(part, *shape) for part, shape in groups])  # (C, width)
        places = packed.places if kept is None else packed.places[kept]
        if kept is not None or not packed.dense:
            seen = seen.index_select(0, places)
        if kept is not None:
            hidden = hidden.index_select(0, kept)
        return self._finished(layer, hidden, seen)

    def _attended(self, mixed: Tensor, rows: int, width: int) -> Tensor:
        """Causal attention within a group of rows, (rows * width, heads * head size)."""
        # (rows, heads, width, head size)
        mixed = mixed.view(rows, width, -1, self.head_dim).transpose(1, 2)
        queries, keys, values = torch.split(mixed, [self.heads, self.kv_heads, self.kv_heads], 1)
        seen = functional.scaled_dot_product_attention(
            queries, self._spread(keys), self._spread(values), is_causal=True
        )
        return seen.transpose(1, 2).flatten(2).flatten(0, 1)

    def step(self, embeds: Tensor, positions: Tensor, cache: StepCache) -> Tensor:
        """One more token of every row: its last hidden state, (B, width).

        Args:
            embeds: of the tokens, (B, width).
            positions: of each in its own row, int64 (B,).
            cache: the rows so far; the token is added.
        """
        language = self._language
        turn = self._rotary(embeds, positions)
        hidden, mask = embeds, cache.mask()
        for index, layer in enumerate(language.layers):
            turned, values = self._projected(layer.self_attn, normed(layer.input_layernorm, hidden), turn)
            keys, values = cache.add(index, turned[:, self.heads :], values)
            seen = functional.scaled_dot_product_attention(
                # (B, heads, 1, head size) over (B, heads, t, head size)
                turned[:, : self.heads].unsqueeze(2),
                self._spread(keys),
                self._spread(values),
                attn_mask=mask,
            )
            hidden = self._finished(layer, hidden, seen.flatten(1))
        cache.filled += 1
        return normed(language.norm, hidden)

    def _projected(self, attention: Any, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Queries and keys turned by their positions, (n, heads + kv heads, head size), and values."""
        mixed = together((attention.q_proj, attention.k_proj, attention.v_proj), x)
        mixed = mixed.view(len(x), -1, self.head_dim)
        turned, values = torch.split(mixed, [self.heads + self.kv_heads, self.kv_heads], -2)
        cos, sin = turn
        # HF's rotate_half: (a, b) becomes (-b, a); the sign is in the sine
        swapped = torch.cat(turned.chunk(2, -1)[::-1], -1)
        return torch.addcmul(turned * cos, swapped, sin), values

    def _rotary(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and signed sine of every position, (n, 1, head size)."""
        cos, sin = self._language.rotary_emb(x, position_ids=positions.unsqueeze(0))
        half = self.head_dim // 2
        signed = torch.cat([-sin[0, :, :half], sin[0, :, half:]], -1)
        return cos[0].unsqueeze(1), signed.unsqueeze(1)

    def _finished(self, layer: Any, hidden: Tensor, seen: Tensor) -> Tensor:
        """The rest of a layer behind its attention."""
        hidden = hidden + layer.self_attn.o_proj(seen)
        update: Tensor = layer.mlp(normed(layer.post_attention_layernorm, hidden))
        return hidden + update

    def _spread(self, x: Tensor) -> Tensor:
        """Keys or values (B, kv heads, ...) for every query's head."""
        shared = self.heads // self.kv_heads
        return x if shared == 1 else x.repeat_interleave(shared, 1)


class StepCache:
    """Keys and values of rows that grow by one token at a time; prompts end in the same column.

    Attributes:
        filled: columns that hold something.
    """

    def __init__(self, prompts: list[KeysValues], lengths: Sequence[int], which: Tensor, room: int) -> None:
        """Rows that begin with the prompts of a packed pass.

        Args:
            prompts: every layer's keys and values of D prompts behind one another, as ``Decoder.run`` gives them;
                emptied, layer by layer, as the rows are filled: at 7 B one prompt takes 300 MB.
            lengths: of the D prompts.
            which: each row's prompt, int64 (B,).
            room: tokens that may follow.
        """
        device = prompts[0][0].device
        longest = max(lengths)
        starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
        columns = torch.arange(longest)
        # prompts on the right, so that all rows go on in the same column
        missing = (longest - torch.tensor(lengths)).unsqueeze(1)
        before = columns < missing  # (D, longest)
        tokens = (starts.unsqueeze(1) + columns - missing).clamp(min=0)
        rows = tokens.to(device)[which]  # (B, longest)
        self.filled = longest
        self._seen: Tensor | None = None
        if before.any():
            seen = torch.ones((len(which), longest + room), dtype=torch.bool, device=device)
            seen[:, :longest] = ~before.to(device)[which]
            self._seen = seen
        self._layers: list[KeysValues] = []
        while prompts:
            keys, values = prompts.pop(0)
            self._layers.append((_grown(keys[rows], room), _grown(values[rows], room)))

    def add(self, index: int, keys: Tensor, values: Tensor) -> KeysValues:
        """Add one token to a layer, (B, kv heads, head size) each; all of its keys and values so far."""
        column = self.filled
        held_keys, held_values = self._layers[index]
        held_keys[:, :, column] = keys
        held_values[:, :, column] = values
        return held_keys[:, :, : column + 1], held_values[:, :, : column + 1]

    def mask(self) -> Tensor | None:
        """True at what a row's next token may look at, itself included, (B, 1, 1, t); None where that is all."""
        return None if self._seen is None else self._seen[:, None, None, : self.filled + 1]

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone, int64 (b,)."""
        self._layers = [(keys[rows], values[rows]) for keys, values in self._layers]
        if self._seen is not None:
            self._seen = self._seen[rows]


def _grown(prompt: Tensor, room: int) -> Tensor:
    """(B, P, kv heads, head size) as (B, kv heads, P + room, head size)."""
    batch, width, heads, size = prompt.shape
    cache = prompt.new_zeros((batch, heads, width + room, size))
    cache[:, :, :width] = prompt.transpose(1, 2)
    return cache


def together(modules: Sequence[Any], x: Tensor) -> Tensor:
    """The outputs of several linear modules on the same input, side by side.

    Plain ones in one product: small products cost more in calls than in arithmetic. Adapters, quantised weights and
    weights that an engine has divided among processes are only right when their own modules are called.
    """
    if all(type(module) is nn.Linear and _whole(module.weight) for module in modules):
        biases = [module.bias for module in modules]
        bias = None if biases[0] is None else torch.cat(biases)
        return functional.linear(x, torch.cat([module.weight for module in modules]), bias)
    return torch.cat([module(x) for module in modules], -1)


def normed(module: Any, x: Tensor) -> Tensor:
    """``module(x)``; in float32 with a shorter backward pass."""
    plain = type(module) in (LlamaRMSNorm, MistralRMSNorm) and _whole(module.weight)
    if not plain or x.dtype != torch.float32 or module.weight.dtype != torch.float32:
        out: Tensor = module(x)
        return out
    if not torch.is_grad_enabled():
        return functional.rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)
    result: Tensor = _RmsNorm.apply(x, module.weight, module.variance_epsilon)  # type: ignore[no-untyped-call]
    return result


def _whole(weight: Tensor) -> bool:
    """Whether a weight is all here; ZeRO's stage 3 gathers it only while its module is called."""
    return not hasattr(weight, "ds_id")


class _RmsNorm(torch.autograd.Function):
    """y = w x / sqrt(mean(x^2) + eps). Written as single operations, its backward pass takes three times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """(n, width)."""
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Gradients of x and weight."""
        (grad,) = grads
        unit, scale, weight = ctx.saved_tensors
        for_x = for_weight = None
        if ctx.needs_input_grad[0]:
            of_unit = grad * weight
            # minus the part along x, which the norm takes out
            along = (of_unit * unit).mean(-1, keepdim=True)
            for_x = torch.addcmul(of_unit, unit, along, value=-1).mul_(scale)
        if ctx.needs_input_grad[1]:
            for_weight = (grad * unit).flatten(0, -2).sum(0)
        return for_x, for_weight, None
