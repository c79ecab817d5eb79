"""A vision-language policy with a critic: encode states, sample outputs, score outputs.

    pi(v_out | o, v_in) = prod_i p(token_i | o, v_in, tokens before i)          (paper, equation 4.2)

Sampling and scoring use ONE distribution (``distribution``): float32 softmax of float32 logits / temperature, special
tokens other than the end token banned in both, so that with unchanged weights the scored log-probs equal the sampled
ones. Knows nothing of tasks, rewards or optimisers.
"""

from __future__ import annotations

import hashlib
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

from vlmagent.errors import UsageError
from vlmagent.models import lora
from vlmagent.models.caching import SizedCache
from vlmagent.models.distribution import ChosenLogprobs, banned_mask, tempered
from vlmagent.models.families import EncodedState, family_of
from vlmagent.models.features import PictureFeatures
from vlmagent.models.logprob import Scores
from vlmagent.models.output_layer import float32_output
from vlmagent.models.recompute import recomputing
from vlmagent.models.tokens import banned_tokens, end_tokens, output_lengths
from vlmagent.models.value_head import ValueHead
from vlmagent.types import ImageArray

__all__ = ["EncodedState", "Policy", "SampledOutput", "output_lengths"]

STATE_CACHE_BYTES = 2 * 2**30
"""In host memory. An update scores each of its states in every epoch, and the paper's 1,024 pictures of ALFWorld take
1.35 MB each as CLIP reads them (336 x 336, float32): a cache that holds fewer than an update's states is never hit."""


@dataclass(frozen=True, slots=True)
class SampledOutput:
    """One sampled output: ids int64 (L,), log-probs float32 (L,), V(s)."""

    token_ids: NDArray[np.int64]
    token_logprobs: NDArray[np.float32]
    value: float


@dataclass(frozen=True, slots=True)
class _Scoring:
    """How outputs are scored; see ``Policy.score``."""

    temperature: float
    detach_value: bool
    need_entropy_grad: bool


class Policy(nn.Module):
    """A vision-language backbone and a value head on the last prompt token's last hidden state.

    Args:
        backbone: the network, or a PEFT model around it.
        frozen_vision: whether vision encoder and projector never learn; picture features are then kept.
        recompute: whether activations are recomputed in the backward pass.

    Attributes:
        source: folder that the network came from, or None.
        tiles: whether pictures are cut into tiles (see ``ModelConfig``).
        base_fingerprint: of the weights under the adapters (see ``fitting.fingerprint``), or None.
        notes: sentences on how it was opened that a user should see.
        states: the states encoded last, by prompt and picture.
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
        # without one of its own any id does: the mask hides padding
        self.pad_id = self.eos_id if pad_id is None else int(pad_id)
        self.banned = banned_tokens(self.tokenizer, self.model.config, self.end_ids)
        self.features = PictureFeatures(frozen_vision)
        self.recompute = recompute
        self.source: Path | None = None
        self.tiles = True
        self.base_fingerprint: str | None = None
        self.notes: tuple[str, ...] = ()
        self.states: SizedCache[tuple[str, bytes], EncodedState] = SizedCache(
            STATE_CACHE_BYTES, lambda state: state.nbytes
        )
        # asked once: the precision of frozen weights never changes
        self._half = any(p.dtype == torch.bfloat16 for p in backbone.parameters())
        self._reference: dict[str, Tensor] | None = None

    @property
    def model(self) -> Any:
        """The network itself, with any adapters inside it."""
        return lora.network_of(self.backbone)

    @property
    def has_adapters(self) -> bool:
        """Whether adapters (LoRA) stand beside the network's own weights."""
        return lora.has_adapters(self.backbone)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.backbone.parameters()).device  # type: ignore[no-any-return]

    @property
    def exact(self) -> bool:
        """Whether sampling and scoring agree to rounding. In bfloat16 hidden states are rounded otherwise when tokens
        come one by one, and in 8 bits a row's result depends on its batch."""
        return not (self._half or getattr(self.model, "is_quantized", False))

    def trained_parameters(self) -> list[nn.Parameter]:
        """The backbone's parameters that learn; the value head's are not among them."""
        return [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]

    def describe(self) -> str:
        """What is trained, with counts, and how it was opened where that was not as usual: one line."""
        counted = lora.describe_parts(lora.count_parts(self.model, [("value_head", self.value_head)]))
        return "; ".join([counted, *self.notes])

    def decode(self, token_ids: Sequence[int] | NDArray[np.int64]) -> str:
        """Text of output ids, special tokens left out."""
        # clean_up would move blanks, and with them the character at which the action begins
        text: str = self.tokenizer.decode(
            [int(i) for i in token_ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def tokenize_output(self, text: str) -> list[int]:
        """Ids of an output as the model should write it, the end token included; what looks like a special token in
        it is text."""
        # split_special_tokens: a demonstration that quotes `</s>` must not teach to end there
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        return [*ids, self.eos_id]

    def encode(self, prompt: str, image: ImageArray | None) -> EncodedState:
        """A state as the model reads it, through the processor's own chat template. Recent states are cached.

        Args:
            image: None for a prompt alone; the states of one batch all have a picture or none has.
        """
        # not cached: such states are read once, in fine-tuning
        if image is None:
            return self.family.encode_text(self.processor, prompt)
        # of the pixels alone: the prompt, which changes more often, is the other half of the key
        digest = hashlib.sha256(np.ascontiguousarray(image).data).digest()
        return self.states.find_or_make(
            (prompt, digest),
            lambda: self.family.encode(self.processor, prompt, Image.fromarray(image), digest),
        )

    def inputs(self, states: Sequence[EncodedState], outputs: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """What the network takes: prompts padded on the left, outputs on the right, distinct pictures encoded once."""
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
                float32_output(self.model),
                self._hidden() as hidden,
                self.family.serving(self.model, states, self.features),
            ):
                yield self.inputs(states, outputs), hidden
        finally:
            self.model.generation_config = own

    @contextmanager
    def _hidden(self) -> Iterator[list[Tensor]]:
        """Collects what the output layer reads: the last hidden states, without keeping every layer's."""
        seen: list[Tensor] = []

        # what it reads are hidden states after the last norm, at the positions that are kept
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if (
                not seen
            ):  # while generating: the prompt's, which the value is read from, and none of a later token
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
        # the CPU's generator is always put back; other devices' where they are named
        devices = [self.device] if self.device.type == "cuda" else []
        with self._forward(states, []) as (inputs, hidden), torch.random.fork_rng(devices=devices):
            inputs.pop("position_ids", None)  # generation counts for itself
            # with embeddings instead of ids (`Llava`) `generate` returns the written tokens alone
            prompt = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
            chosen = ChosenLogprobs(self.banned, temperature, prompt, on_tokens)
            torch.manual_seed(seed)
            sequences = self.model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                logits_processor=[chosen.warp],
                stopping_criteria=[chosen.look],
                eos_token_id=self.end_ids,
                pad_token_id=self.pad_id,
                do_sample=temperature > 0,
                # the processor above has tempered already, and nothing else may change the distribution
                **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if temperature > 0 else {}),
            )
        # (B, width) at the last prompt token, which left padding puts into the last column for all rows
        values = self.value_head(hidden[0][:, -1]).tolist()
        ids = sequences[:, prompt:]  # (B, L)
        logprobs = chosen.table()[:, : ids.shape[1]]  # a device may run one step ahead of its stopping rule
        lengths = output_lengths(ids, self.end_ids).tolist()
        table, probs = ids.cpu().numpy(), logprobs.cpu().numpy()
        return [
            # copies: a view of one row would keep the whole table
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
        need_entropy_grad: bool = True,
    ) -> Scores:
        """Log-probs of given outputs, with gradients.

        Rows that are alike go through the network once: small tasks at low temperatures say the same again and again.

        Args:
            outputs: ids per state; each at least one token long.
            temperature: as used when sampling; 0 scores at temperature 1.
            detach_value: stop the value's gradient at the hidden state.
            need_entropy_grad: whether entropies carry gradients. Their graph holds two more tables (B, L, V): with
                32,000 tokens, 64 rows and 256 positions 4 GB, for a term that most recipes weigh with 0.
        """
        rows = [[int(i) for i in output] for output in outputs]
        options = _Scoring(temperature, detach_value, need_entropy_grad)
        if self.training:  # dropout draws a mask for each row, so that equal rows are different samples
            return self._scored(states, rows, options)
        # by picture, prompt and output; None stands between the last two, which could otherwise run into each other
        found: dict[tuple[Any, ...], int] = {}
        places = [
            found.setdefault((state.image_key, *state.input_ids.tolist(), None, *row), len(found))
            for state, row in zip(states, rows, strict=True)
        ]
        # the first row of each kind, and for every row which kind it is of
        firsts = [places.index(place) for place in range(len(found))]
        scores = self._scored([states[i] for i in firsts], [rows[i] for i in firsts], options)
        return scores if len(firsts) == len(rows) else scores.take(places)

    def _scored(self, states: Sequence[EncodedState], rows: Sequence[list[int]], options: _Scoring) -> Scores:
        """Every row through the network."""
        width = max(len(row) for row in rows)
        with self._forward(states, rows) as (inputs, hidden), recomputing(self.model, self.recompute):
            # L + 1 positions: the last prompt token predicts the first output token
            logits = self.model(**inputs, logits_to_keep=width + 1, use_cache=False).logits[:, :-1]
        ban = banned_mask(self.banned, logits.shape[-1], logits.device)
        logprobs = torch.log_softmax(tempered(logits, ban, options.temperature), -1)  # (B, L, V)
        # (B, L), end tokens where rows are shorter: any id does there, since the mask hides it
        targets = torch.full((len(rows), width), self.eos_id, device=logits.device)
        mask = torch.zeros((len(rows), width), dtype=torch.bool, device=logits.device)
        for index, row in enumerate(rows):
            targets[index, : len(row)] = torch.tensor(row, device=logits.device)
            mask[index, : len(row)] = True
        chosen = logprobs.gather(2, targets.unsqueeze(-1)).squeeze(-1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and options.need_entropy_grad):
            # -inf at banned tokens, whose probability is 0: 0 * inf would be no number
            entropies = -(logprobs.exp() * logprobs.masked_fill(ban, 0.0)).sum(-1)
            entropies = entropies.masked_fill(~mask, 0.0)
        # L + 1 columns were kept: the first is the last prompt token's
        prompt_end = hidden[0][:, -width - 1]
        values = self.value_head(prompt_end.detach() if options.detach_value else prompt_end)
        return Scores(chosen.masked_fill(~mask, 0.0), entropies, mask, values)

    def keep_reference(self, folder: Path) -> None:
        """Hold a frozen copy of the adapters in ``folder`` beside those that learn, for ``reference``.

        It takes the adapters' memory once more, where a second model would take all weights' (7 B with adapters of rank
        128: 1.3 GB instead of 16 GB). Over several processes with ZeRO stage 3 to be called inside ``engine.whole()``.

        Args:
            folder: a checkpoint of the same adapters, such as the one that RL started from.

        Raises:
            UsageError: this policy has no adapters, or those in ``folder`` are others.
        """
        if not self.has_adapters:
            raise UsageError(
                "A reference beside the weights needs adapters (model.lora.enabled): load a second model."
            )
        self._reference = lora.read_beside(self.backbone, folder)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """While open, the network computes with the adapters that ``keep_reference`` read, without gradients.

        Score inside, and nothing else: no optimiser step, no saving. Under ZeRO stage 3 inside ``engine.whole()``.

        Raises:
            ValueError: no reference is held.
        """
        if self._reference is None:
            raise ValueError("keep_reference was not called")
        with torch.no_grad(), lora.exchanged(self.backbone, self._reference):
            yield

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
