"""A vision-language policy with a critic: encode states, sample outputs, score outputs.

    pi(v_out | o, v_in) = prod_i p(token_i | o, v_in, tokens before i)          (paper, equation 4.2)

Sampling and scoring use ONE distribution: float32 softmax of logits / temperature, special tokens other than the
end token banned in both, so that with unchanged weights the scored log-probs equal the sampled ones. Knows nothing
of tasks, rewards or optimisers.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import GenerationConfig

from vlmagent.models.families import EncodedState, family_of
from vlmagent.models.features import PictureFeatures
from vlmagent.models.logprob import Scores
from vlmagent.models.lora import count_parts, describe_parts
from vlmagent.models.recompute import recomputing
from vlmagent.models.tokens import banned_tokens, end_tokens, output_lengths
from vlmagent.models.value_head import ValueHead
from vlmagent.types import ImageArray

__all__ = ["EncodedState", "Policy", "SampledOutput", "output_lengths"]

ROW_CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class SampledOutput:
    """One sampled output: ids int64 (L,), log-probs float32 (L,), V(s)."""

    token_ids: NDArray[np.int64]
    token_logprobs: NDArray[np.float32]
    value: float


class Policy(nn.Module):
    """A vision-language backbone and a value head on the last prompt token's last hidden state.

    Args:
        backbone: the network, or a PEFT model around it.
        frozen_vision: whether vision encoder and projector never learn; picture features are then kept.
        recompute: whether activations are recomputed in the backward pass.

    Attributes:
        source: folder that the network came from, or None.
        tiles: whether pictures are cut into tiles (see ``ModelConfig``).
    """

    def __init__(
        self,
        backbone: Any,
        processor: Any,
        value_hidden: Sequence[int],
        seed: int = 0,
        *,
        frozen_vision: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.family = family_of(self.model.config.model_type)
        with torch.random.fork_rng(devices=[]):  # the critic's fresh weights depend on the seed alone
            torch.manual_seed(seed)
            self.value_head = ValueHead(self.model.config.get_text_config().hidden_size, value_hidden)
        self.end_ids = end_tokens(processor, self.model.generation_config)
        self.eos_id = self.end_ids[0]
        pad_id = self.tokenizer.pad_token_id
        self.pad_id = self.eos_id if pad_id is None else int(pad_id)
        self.banned = banned_tokens(self.tokenizer, self.model.config, self.end_ids)
        self.features = PictureFeatures(frozen_vision)
        self.recompute = recompute
        self.source: Path | None = None
        self.tiles = True
        self._half = any(p.dtype == torch.bfloat16 for p in backbone.parameters())
        self._rows: OrderedDict[tuple[str, bytes], EncodedState] = OrderedDict()
        self._rows_bytes = 0

    @property
    def model(self) -> Any:
        """The network itself, with any adapters inside it."""
        backbone: Any = self.backbone
        return backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.backbone.parameters()).device  # type: ignore[no-any-return]

    @property
    def exact(self) -> bool:
        """Whether sampling and scoring agree to rounding; in bfloat16 they differ by up to 0.05 nats a token, and in
        8 bits a row's result depends on its batch."""
        return not (self._half or getattr(self.model, "is_quantized", False))

    def trained_parameters(self) -> list[nn.Parameter]:
        """The backbone's parameters that learn; the value head's are not among them."""
        return [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]

    def describe(self) -> str:
        """What is trained, with counts, in one line."""
        return describe_parts(count_parts(self.model, [("value_head", self.value_head)]))

    def decode(self, token_ids: Sequence[int] | NDArray[np.int64]) -> str:
        """Text of output ids, special tokens left out."""
        text: str = self.tokenizer.decode(
            [int(i) for i in token_ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def tokenize_output(self, text: str) -> list[int]:
        """Ids of an output as the model should write it, the end token included; what looks like a special token in
        it is text."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        return [*ids, self.eos_id]

    def encode(self, prompt: str, image: ImageArray | None) -> EncodedState:
        """A state as the model reads it, through the processor's own chat template. Recent states are cached.

        Args:
            image: None for a prompt alone; the states of one batch all have a picture or none has.
        """
        if image is None:
            return self.family.encode_text(self.processor, prompt)
        key = (prompt, hashlib.sha256(np.ascontiguousarray(image).data).digest())
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
            return row
        row = self.family.encode(self.processor, prompt, Image.fromarray(image), key[1])
        self._rows[key] = row
        self._rows_bytes += row.nbytes
        while self._rows_bytes > ROW_CACHE_BYTES and len(self._rows) > 1:
            self._rows_bytes -= self._rows.popitem(last=False)[1].nbytes
        return row

    def _embed(self, states: Sequence[EncodedState], outputs: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Model inputs: prompts padded on the left, outputs on the right, distinct pictures encoded once."""
        return self.family.inputs(self.model, states, outputs, self.pad_id, self.features)

    def _precision(self) -> AbstractContextManager[Any]:
        """Matrix products in the weights' own precision, also those of float32 adapters beside bfloat16 weights."""
        return torch.autocast(self.device.type, torch.bfloat16) if self._half else nullcontext()

    @contextmanager
    def _forward(
        self, states: Sequence[EncodedState], outputs: Sequence[Sequence[int]]
    ) -> Iterator[tuple[dict[str, Tensor], list[Tensor]]]:
        """The model's inputs, and where the last hidden states will be found once it ran on them."""
        # a checkpoint's own generation settings (penalties, top-k) would make the sampler differ from the scorer
        own, self.model.generation_config = self.model.generation_config, GenerationConfig()
        try:
            with (
                self._precision(),
                self._hidden() as hidden,
                self.family.serving(self.model, states, self.features),
            ):
                yield self._embed(states, outputs), hidden
        finally:
            self.model.generation_config = own

    @contextmanager
    def _hidden(self) -> Iterator[list[Tensor]]:
        """Collects what the output layer reads: the last hidden states, without keeping every layer's."""
        seen: list[Tensor] = []

        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not seen:
                seen.append(inputs[0])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(hook)
        try:
            yield seen
        finally:
            handle.remove()

    @torch.no_grad()
    def sample(
        self,
        states: Sequence[EncodedState],
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        on_tokens: Callable[[Tensor], None] | None = None,
    ) -> list[SampledOutput]:
        """One output per state from one batched generation.

        Args:
            temperature: 0 takes the likeliest token; log-probs are then those at temperature 1.
            seed: all randomness of this call derives from it.
            on_tokens: called after every token with all ids so far, int64 (B, n); what it raises ends the call.
        """
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        devices = [self.device] if self.device.type == "cuda" else []
        with self._forward(states, []) as (inputs, hidden), torch.random.fork_rng(devices=devices):
            inputs.pop("position_ids", None)  # generation counts for itself
            if on_tokens is not None:
                prompt = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
                sampling["stopping_criteria"] = [_watcher(on_tokens, prompt)]
            torch.manual_seed(seed)
            out = self.model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                suppress_tokens=self.banned,
                eos_token_id=self.end_ids,
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
        lengths = output_lengths(ids, self.end_ids).tolist()
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

        Rows that are alike go through the network once: small tasks at low temperatures say the same again and again.

        Args:
            outputs: ids per state; each at least one token long.
            temperature: as used when sampling; 0 scores at temperature 1.
            detach_value: stop the value's gradient at the hidden state.
        """
        rows = [[int(i) for i in output] for output in outputs]
        if self.training:  # dropout draws masks for each row
            return self._scored(states, rows, temperature, detach_value)
        found: dict[tuple[Any, ...], int] = {}
        places = [
            found.setdefault((state.image_key, *state.input_ids.tolist(), None, *row), len(found))
            for state, row in zip(states, rows, strict=True)
        ]
        firsts = [places.index(place) for place in range(len(found))]
        scores = self._scored(
            [states[i] for i in firsts], [rows[i] for i in firsts], temperature, detach_value
        )
        return scores if len(firsts) == len(rows) else scores.take(places)

    def _scored(
        self,
        states: Sequence[EncodedState],
        rows: Sequence[list[int]],
        temperature: float,
        detach_value: bool,
    ) -> Scores:
        """Every row through the network."""
        width = max(len(row) for row in rows)
        with self._forward(states, rows) as (inputs, hidden), recomputing(self.model, self.recompute):
            # L + 1 positions: the last prompt token predicts the first output token
            logits = self.model(**inputs, logits_to_keep=width + 1, use_cache=False).logits[:, :-1]
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
        with self._forward(states, []) as (inputs, hidden):
            self.model(**inputs, logits_to_keep=1, use_cache=False)
        return hidden[0][:, -1]


def _watcher(on_tokens: Callable[[Tensor], None], prompt: int) -> Callable[..., Tensor]:
    """A stopping criterion of transformers that stops nothing: it only looks on, past the ``prompt`` first ids."""

    def look(input_ids: Tensor, _scores: Tensor, **_: Any) -> Tensor:
        on_tokens(input_ids[:, prompt:])
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    return look
