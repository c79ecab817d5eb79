"""A vision-language policy with a critic: encode states, sample outputs, score outputs.

    pi(v_out | o, v_in) = prod_i p(token_i | o, v_in, tokens before i)          (paper, equation 4.2)

Sampling and scoring use ONE distribution: float32 softmax of logits / temperature, special tokens other than the
end token banned in both, so that with unchanged weights the scored log-probs equal the sampled ones. Knows nothing
of tasks, rewards or optimisers.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from vlmagent.models.logprob import Scores
from vlmagent.models.value_head import ValueHead
from vlmagent.types import ImageArray

ROW_CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class EncodedState:
    """One (picture, prompt) as the model reads it.

    Attributes:
        input_ids: int64 (P,), image placeholders already expanded.
        pixel_values: float32 (C, h, w), prepared picture.
        image_key: digest of the picture; equal pictures are run through the vision encoder once per batch.
    """

    input_ids: Tensor
    pixel_values: Tensor
    image_key: bytes


@dataclass(frozen=True, slots=True)
class SampledOutput:
    """One sampled output: ids int64 (L,), log-probs float32 (L,), V(s)."""

    token_ids: NDArray[np.int64]
    token_logprobs: NDArray[np.float32]
    value: float


class Policy(nn.Module):
    """A LLaVA-style backbone and a value head on the last prompt token's last hidden state."""

    def __init__(self, backbone: Any, processor: Any, value_hidden: Sequence[int], seed: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        self.processor = processor
        self.tokenizer = processor.tokenizer
        with torch.random.fork_rng(devices=[]):  # the critic's fresh weights depend on the seed alone
            torch.manual_seed(seed)
            self.value_head = ValueHead(backbone.config.get_text_config().hidden_size, value_hidden)
        self.eos_id = int(self.tokenizer.eos_token_id)
        self.pad_id = int(self.tokenizer.pad_token_id)
        self.banned = banned_tokens(self.tokenizer, backbone.config)
        self._rows: OrderedDict[tuple[str, bytes], EncodedState] = OrderedDict()
        self._rows_bytes = 0

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.backbone.parameters()).device  # type: ignore[no-any-return]

    def decode(self, token_ids: Sequence[int] | NDArray[np.int64]) -> str:
        """Text of output ids, special tokens left out."""
        text: str = self.tokenizer.decode(
            [int(i) for i in token_ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def tokenize_output(self, text: str) -> list[int]:
        """Ids of an output as the model should write it, the end token included."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.eos_id]

    def encode(self, prompt: str, image: ImageArray) -> EncodedState:
        """A state as the model reads it, through the processor's own chat template. Recent states are cached."""
        key = (prompt, hashlib.sha256(np.ascontiguousarray(image).data).digest())
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
            return row
        conversation = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]
        text = self.processor.apply_chat_template(conversation, add_generation_prompt=True)
        features = self.processor(
            text=[text], images=[Image.fromarray(image)], return_tensors="pt", add_special_tokens=False
        )
        row = EncodedState(features["input_ids"][0], features["pixel_values"][0], key[1])
        self._rows[key] = row
        self._rows_bytes += row.pixel_values.nbytes
        while self._rows_bytes > ROW_CACHE_BYTES and len(self._rows) > 1:
            self._rows_bytes -= self._rows.popitem(last=False)[1].pixel_values.nbytes
        return row

    def _embed(self, states: Sequence[EncodedState], outputs: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Model inputs: prompts padded on the left, outputs on the right, each distinct picture encoded once.

        Left padding puts every row's last prompt token into column P - 1. Explicit position ids keep a row's
        positions independent of its padding.
        """
        device = self.device
        longest = max(len(state.input_ids) for state in states)
        width = max((len(output) for output in outputs), default=0)
        ids = torch.full((len(states), longest + width), self.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, state in enumerate(states):
            start = longest - len(state.input_ids)
            ids[row, start:longest] = state.input_ids
            end = longest
            if outputs:
                end += len(outputs[row])
                ids[row, longest:end] = torch.as_tensor(outputs[row], dtype=torch.long)
            mask[row, start:end] = 1
        ids, mask = ids.to(device), mask.to(device)
        embeds = self.backbone.get_input_embeddings()(ids)
        placeholder = (ids == self.backbone.config.image_token_id).unsqueeze(-1)
        embeds = embeds.masked_scatter(placeholder, self._picture_features(states).to(embeds.dtype))
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        return {"inputs_embeds": embeds, "attention_mask": mask, "position_ids": positions}

    def _picture_features(self, states: Sequence[EncodedState]) -> Tensor:
        """Projected picture tokens of all rows in row order, (sum of image tokens, width)."""
        first: dict[bytes, int] = {}
        unique: list[Tensor] = []
        for state in states:
            if state.image_key not in first:
                first[state.image_key] = len(unique)
                unique.append(state.pixel_values)
        pixels = torch.stack(unique).to(self.device)
        features = self.backbone.get_image_features(pixel_values=pixels).pooler_output
        index = torch.tensor([first[state.image_key] for state in states], device=self.device)
        return torch.stack(list(features))[index].flatten(0, 1)

    @contextmanager
    def _hidden(self) -> Iterator[list[Tensor]]:
        """Collects what the output layer reads: the last hidden states, without keeping every layer's."""
        seen: list[Tensor] = []

        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not seen:
                seen.append(inputs[0])

        handle = self.backbone.get_output_embeddings().register_forward_pre_hook(hook)
        try:
            yield seen
        finally:
            handle.remove()

    @torch.no_grad()
    def sample(
        self, states: Sequence[EncodedState], *, temperature: float, max_new_tokens: int, seed: int
    ) -> list[SampledOutput]:
        """One output per state from one batched generation.

        Args:
            temperature: 0 takes the likeliest token; log-probs are then those at temperature 1.
            seed: all randomness of this call derives from it.
        """
        inputs = self._embed(states, [])
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        devices = [self.device] if self.device.type == "cuda" else []
        with self._hidden() as hidden, torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            out = self.backbone.generate(
                inputs_embeds=inputs["inputs_embeds"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=max_new_tokens,
                suppress_tokens=self.banned,
                eos_token_id=self.eos_id,
                pad_token_id=self.pad_id,
                output_scores=True,
                return_dict_in_generate=True,
                **sampling,
            )
        values = self.value_head(hidden[0][:, -1]).tolist()
        ids = out.sequences[:, -len(out.scores) :]  # (B, L)
        logprobs = torch.stack(
            [
                torch.log_softmax(scores.to(torch.float32), -1).gather(1, ids[:, i : i + 1])[:, 0]
                for i, scores in enumerate(out.scores)
            ],
            dim=1,
        )
        lengths = output_lengths(ids, self.eos_id).tolist()
        table, probs = ids.cpu().numpy(), logprobs.cpu().numpy()
        return [
            SampledOutput(table[row, :length].copy(), probs[row, :length].copy(), value)
            for row, (length, value) in enumerate(zip(lengths, values, strict=True))
        ]

    def score(
        self,
        states: Sequence[EncodedState],
        outputs: Sequence[NDArray[np.int64] | Sequence[int]],
        *,
        temperature: float,
        detach_value: bool = True,
    ) -> Scores:
        """Log-probs of given outputs, with gradients.

        Args:
            outputs: ids per state; each at least one token long.
            temperature: as used when sampling; 0 scores at temperature 1.
            detach_value: stop the value's gradient at the hidden state.
        """
        rows = [[int(i) for i in output] for output in outputs]
        width = max(len(row) for row in rows)
        inputs = self._embed(states, rows)
        with self._hidden() as hidden:
            # L + 1 positions: the last prompt token predicts the first output token
            logits = self.backbone(**inputs, logits_to_keep=width + 1, use_cache=False).logits[:, :-1]
        logits = logits.to(torch.float32) / (temperature or 1.0)  # (B, L, V)
        ban = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
        ban[self.banned] = True
        logprobs = torch.log_softmax(logits.masked_fill(ban, -torch.inf), -1)
        targets = torch.full((len(rows), width), self.eos_id, device=logits.device)
        mask = torch.zeros((len(rows), width), dtype=torch.bool, device=logits.device)
        for index, row in enumerate(rows):
            targets[index, : len(row)] = torch.tensor(row, device=logits.device)
            mask[index, : len(row)] = True
        chosen = logprobs.gather(2, targets.unsqueeze(-1)).squeeze(-1)
        entropies = -(logprobs.exp() * logprobs.masked_fill(ban, 0.0)).sum(-1)
        prompt_end = hidden[0][:, -width - 1]
        values = self.value_head(prompt_end.detach() if detach_value else prompt_end)
        return Scores(chosen.masked_fill(~mask, 0.0), entropies.masked_fill(~mask, 0.0), mask, values)

    @torch.no_grad()
    def values(self, states: Sequence[EncodedState]) -> Tensor:
        """V(s), float32 (B,), without sampling anything."""
        values: Tensor = self.value_head(self._prompt_end(states))
        return values

    def calibrate_value_head(self, states: Sequence[EncodedState]) -> None:
        """Standardise what the critic reads, as it is spread over ``states``; several distinct ones are needed."""
        self.value_head.calibrate(self._prompt_end(states))

    @torch.no_grad()
    def _prompt_end(self, states: Sequence[EncodedState]) -> Tensor:
        """The last prompt tokens' last hidden states, (B, width)."""
        with self._hidden() as hidden:
            self.backbone(**self._embed(states, []), logits_to_keep=1, use_cache=False)
        return hidden[0][:, -1]


def banned_tokens(tokenizer: Any, config: Any) -> list[int]:
    """Ids never sampled: every special token but the end token (a sampled image token would end training).

    Ids beyond the tokenizer's vocabulary (padding of the embedding table) are banned too.
    """
    banned = {int(i) for i in tokenizer.all_special_ids}
    if getattr(config, "image_token_id", None) is not None:
        banned.add(int(config.image_token_id))
    banned |= set(range(len(tokenizer), config.get_text_config().vocab_size))
    banned.discard(int(tokenizer.eos_token_id))
    return sorted(banned)


def output_lengths(ids: Tensor, eos_id: int) -> Tensor:
    """Tokens per row up to and with the first end token, int64 (B,); ids is (B, L)."""
    is_end = ids == eos_id
    first = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, ids.shape[1])
    return first.to(torch.int64)
