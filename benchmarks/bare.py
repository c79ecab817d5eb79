"""The bare bound: the forward and backward passes of a training, in plain torch with nothing around.

What a real loop asked of its network is written down as shapes (``Recorder``), and gone through again with random
weights of the same sizes (``Bare``): no tokens are chosen, nothing is masked or looked up, no Python stands between the
layers but the calls themselves. Like the loop it reads each different prompt once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmagent.models.passes import Passes, Predicted, Rows, distinct
from vlmagent.models.policy import EncodedState, Policy


@dataclass(frozen=True, slots=True)
class Call:
    """One pass.

    Attributes:
        pictures: different ones.
        prompts: tokens of each different prompt.
        rows: tokens of each output; with ``writes`` they are written one by one.
        writes: whether outputs are sampled.
        learns: whether the pass goes back as well.
    """

    pictures: int
    prompts: tuple[int, ...]
    rows: tuple[int, ...]
    writes: bool
    learns: bool


@dataclass
class Recorder:
    """Implements ``Passes``; hands everything on to another and writes down its shapes."""

    inner: Passes
    calls: list[Call] = field(default_factory=list)

    def _note(self, states: Sequence[EncodedState], rows: Sequence[int], writes: bool, learns: bool) -> None:
        prompts = tuple(len(state.input_ids) for state in distinct(states)[0])
        pictures = len({state.image_key for state in states})
        self.calls.append(Call(pictures, prompts, tuple(rows), writes, learns))

    def ends(self, states: Sequence[EncodedState]) -> Tensor:
        """See ``Passes``."""
        self._note(states, [], False, False)
        return self.inner.ends(states)

    def written(self, states: Sequence[EncodedState], draw: Any, tokens: int, on_tokens: Any) -> Any:
        """See ``Passes``."""
        out, ends = self.inner.written(states, draw, tokens, on_tokens)
        self._note(states, [out.ids.shape[1]] * len(states), True, False)
        return out, ends

    def predicted(self, states: Sequence[EncodedState], rows: Rows, *, share: bool) -> Predicted:
        """See ``Passes``."""
        self._note(states, [len(row) for row in rows], False, torch.is_grad_enabled())
        return self.inner.predicted(states, rows, share=share)


class _Stack(nn.Module):
    """Weights of a stack of transformer layers, with a gate in the MLP or without."""

    def __init__(self, layers: int, width: int, heads: int, inner: int, gated: bool) -> None:
        super().__init__()
        self.heads, self.gated = heads, gated
        self.mixes = nn.ParameterList(torch.randn(3 * width, width) * 0.02 for _ in range(layers))
        self.outs = nn.ParameterList(torch.randn(width, width) * 0.02 for _ in range(layers))
        ups = (2 if gated else 1) * inner
        self.ups = nn.ParameterList(torch.randn(ups, width) * 0.02 for _ in range(layers))
        self.downs = nn.ParameterList(torch.randn(width, inner) * 0.02 for _ in range(layers))

    def layer(self, index: int, x: Tensor, seen: Tensor) -> Tensor:
        """Behind the attention of a layer; x and seen are (n, width)."""
        x = x + functional.linear(seen, self.outs[index])
        up = functional.linear(functional.layer_norm(x, x.shape[-1:]), self.ups[index])
        if self.gated:
            gate, up = up.chunk(2, -1)
            up = functional.silu(gate) * up
        else:
            up = functional.gelu(up)
        return x + functional.linear(up, self.downs[index])

    def mixed(self, index: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (batch, heads, length, head size), of (batch, length, width)."""
        mix = functional.linear(functional.layer_norm(x, x.shape[-1:]), self.mixes[index])
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in mix.chunk(3, -1)
        )
        return queries, keys, values

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """(batch, length, width)."""
        for index in range(len(self.mixes)):
            seen = functional.scaled_dot_product_attention(*self.mixed(index, x), is_causal=causal)
            x = self.layer(index, x, seen.transpose(1, 2).flatten(2))
        return x


class Bare(nn.Module):
    """A built-in model's arithmetic.

    Args:
        policy: whose sizes are taken.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        config = policy.model.config
        text, vision = config.get_text_config(), config.vision_config
        self.language = _Stack(
            text.num_hidden_layers, text.hidden_size, text.num_attention_heads, text.intermediate_size, True
        )
        self.vision = _Stack(
            vision.num_hidden_layers,
            vision.hidden_size,
            vision.num_attention_heads,
            vision.intermediate_size,
            False,
        )
        self.patches = (vision.image_size // vision.patch_size) ** 2
        self.width = text.hidden_size
        self.patch = nn.Linear(3 * vision.patch_size**2, vision.hidden_size)
        self.project = nn.Linear(vision.hidden_size, text.hidden_size)
        self.embed = nn.Embedding(text.vocab_size, text.hidden_size)
        self.head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.optimizer = torch.optim.AdamW(self.parameters(), lr=1e-9, fused=True)

    def go(self, calls: Sequence[Call]) -> None:
        """All passes of a loop, and a step of the optimiser after each that learns."""
        for call in calls:
            if call.learns:
                loss = self._predict(call)
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                self.optimizer.zero_grad()
            else:
                with torch.no_grad():
                    self._write(call) if call.writes else self._predict(call)

    def _read(self, call: Call, prompts: int, length: int) -> Tensor:
        """Embeddings with pictures among them, (prompts, length, width)."""
        x = self.embed(torch.zeros((prompts, length), dtype=torch.long))
        if call.pictures:
            seen = self.vision(
                self.patch(torch.zeros(call.pictures, self.patches, self.patch.in_features)), False
            )
            shown = self.project(seen)
            rows = torch.arange(prompts) % call.pictures
            places = min(self.patches, length)
            x = torch.cat([shown[rows, :places], x[:, places:]], 1)
        return x

    def _predict(self, call: Call) -> Tensor:
        """As many tokens as the loop read, in rows of one length: padding costs nothing here."""
        outputs = sum(call.rows)
        rows = max(len(call.prompts), 1)
        length = max(1, round((sum(call.prompts) + max(0, outputs - len(call.rows))) / rows))
        hidden = self.language(self._read(call, rows, length), True).flatten(0, 1)
        count = min(len(hidden), max(outputs, rows))
        logits = self.head(hidden[:count])
        return functional.cross_entropy(logits, torch.zeros(count, dtype=torch.long))

    def _write(self, call: Call) -> None:
        """Read the prompts, then one token after the other for all rows, with keys and values kept."""
        length = round(sum(call.prompts) / len(call.prompts))
        x, kept = self._read(call, len(call.prompts), length), []
        batch, tokens = len(call.rows), max(call.rows)
        which = torch.arange(batch) % len(call.prompts)
        for index in range(len(self.language.mixes)):
            queries, keys, values = self.language.mixed(index, x)
            seen = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
            x = self.language.layer(index, x, seen.transpose(1, 2).flatten(2))
            room = keys.new_zeros((batch, keys.shape[1], tokens, keys.shape[-1]))
            kept.append([torch.cat([part[which], room], 2) for part in (keys, values)])
        self.head(x[:, -1])
        for step in range(tokens - 1):
            x = self.embed(torch.zeros((batch, 1), dtype=torch.long))
            for index, (keys, values) in enumerate(kept):
                queries, key, value = self.language.mixed(index, x)
                keys[:, :, length + step] = key[:, :, 0]
                values[:, :, length + step] = value[:, :, 0]
                end = length + step + 1
                seen = functional.scaled_dot_product_attention(queries, keys[:, :, :end], values[:, :, :end])
                x = self.language.layer(index, x, seen.transpose(1, 2).flatten(2))
            self.head(x[:, -1]).softmax(-1)
