"""A vision-language policy with a critic: encode states, sample outputs, score outputs.

    pi(v_out | o, v_in) = prod_i p(token_i | o, v_in, tokens before i)          (paper, equation 4.2)

Sampling and scoring use ONE distribution (``distribution``): float32 softmax of float32 logits / temperature, special
tokens other than the end token banned in both, so that with unchanged weights the scored log-probs equal the sampled
ones. Knows nothing of tasks, rewards or optimisers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from vlmagent.errors import UsageError
from vlmagent.models import lora
from vlmagent.models.caching import SizedCache
from vlmagent.models.distribution import Draw, banned_mask, entropies, tempered
from vlmagent.models.families import EncodedState, family_of
from vlmagent.models.features import PictureFeatures
from vlmagent.models.logprob import Scores
from vlmagent.models.passes import PackedPasses, PaddedPasses, Passes, Reading, decoder_of
from vlmagent.models.tokens import banned_tokens, end_tokens, output_lengths
from vlmagent.models.value_head import ValueHead
from vlmagent.store.codec import picture_key
from vlmagent.types import ImageArray

__all__ = ["EncodedState", "Policy", "SampledOutput", "output_lengths"]

STATE_CACHE_BYTES = 2 * 2**30
"""In host memory. An update scores each of its states in every epoch, and the paper's 1,024 pictures of ALFWorld take
1.35 MB each as CLIP reads them (336 x 336, float32): a cache that holds fewer than an update's states is never hit."""


EntropyUse = Literal["none", "measured", "learnt"]
"""Of scored outputs' entropies: left zero, without gradients, or with them. Their graph holds two more tables of all
predictions over the vocabulary: with 32,000 tokens, 64 rows and 256 positions 4 GB, for a term that most recipes weigh
with 0."""


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
    entropy: EntropyUse


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
        self.passes: Passes = self.padded_passes()
        decoder = decoder_of(self.model, self.family)
        if decoder is not None:
            self.passes = PackedPasses(self._reading(), decoder)
        self._reference: dict[str, Tensor] | None = None

    def _reading(self) -> Reading:
        return Reading(
            lambda: self.model,
            self.family,
            self.features,
            self.end_ids,
            self.pad_id,
            self._half,
            self.recompute,
        )

    def padded_passes(self) -> Passes:
        """transformers' own loops, whatever the architecture: to compare with."""
        return PaddedPasses(self._reading())

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
        # of the picture alone: the prompt, which changes more often, is the other half of the key
        digest = picture_key(image)
        return self.states.find_or_make(
            (prompt, digest),
            lambda: self.family.encode(self.processor, prompt, Image.fromarray(image), digest),
        )

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
        draw = Draw(self.banned, temperature, len(states), max_new_tokens, seed, self.device)
        written, ends = self.passes.written(states, draw, max_new_tokens, on_tokens)
        values, ids, logprobs = self.value_head(ends).tolist(), written.ids, written.logprobs
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
        entropy: EntropyUse = "learnt",
    ) -> Scores:
        """Log-probs of given outputs, with gradients.

        Rows that are alike go through the network once: small tasks at low temperatures say the same again and again.

        Args:
            outputs: ids per state; each at least one token long.
            temperature: as used when sampling; 0 scores at temperature 1.
            detach_value: stop the value's gradient at the hidden state.
            entropy: see ``EntropyUse``.
        """
        options = _Scoring(temperature, detach_value, entropy)
        rows = [[int(i) for i in output] for output in outputs]
        # dropout draws a mask for each row, so that equal rows are different samples
        share = not (self.training and draws_masks(self.model))
        if not share:
            return self._scored(states, rows, options, share=False)
        # by picture, prompt and output
        found: dict[tuple[Any, ...], int] = {}
        places = [
            found.setdefault((*state.key, *row), len(found)) for state, row in zip(states, rows, strict=True)
        ]
        # the first row of each kind, and for every row which kind it is of
        firsts = [places.index(place) for place in range(len(found))]
        scores = self._scored([states[i] for i in firsts], [rows[i] for i in firsts], options, share=True)
        return scores if len(firsts) == len(rows) else scores.take(places)

    def _scored(
        self, states: Sequence[EncodedState], rows: Sequence[list[int]], options: _Scoring, *, share: bool
    ) -> Scores:
        """Every row through the network."""
        found = self.passes.predicted(states, rows, share=share)
        device = found.logits.device
        ban = banned_mask(self.banned, found.logits.shape[-1], device)
        logprobs = torch.log_softmax(tempered(found.logits, ban, options.temperature), -1)  # (M, V)
        mask = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.bool)
        for index, row in enumerate(rows):
            mask[index, : len(row)] = True
        mask = mask.to(device)
        targets = torch.tensor([token for row in rows for token in row], device=device)
        # of the whole table, flattened: one prediction may have several targets
        chosen = logprobs.flatten().index_select(0, found.predictors * logprobs.shape[-1] + targets)
        empty = torch.zeros(mask.shape, device=device)
        spread = empty  # where nobody asks for it
        if options.entropy != "none":
            with torch.set_grad_enabled(torch.is_grad_enabled() and options.entropy == "learnt"):
                spread = empty.masked_scatter(
                    mask, entropies(logprobs, ban).index_select(0, found.predictors)
                )
        values = self.value_head(found.ends.detach() if options.detach_value else found.ends)
        return Scores(empty.masked_scatter(mask, chosen), spread, mask, values)

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
        values: Tensor = self.value_head(self.passes.ends(states))
        return values

    @torch.no_grad()
    def calibrate_value_head(self, states: Sequence[EncodedState]) -> None:
        """Standardise what the critic reads, as it is spread over ``states``; several distinct ones are needed."""
        self.value_head.calibrate(self.passes.ends(states))


def draws_masks(network: nn.Module) -> bool:
    """Whether training mode draws masks of dropout anywhere."""
    modules = list(network.modules())
    # transformers' attention has no module for it
    attention = any(getattr(module, "attention_dropout", 0) for module in modules)
    return bool(attention) or any(isinstance(module, nn.Dropout) and module.p > 0 for module in modules)
