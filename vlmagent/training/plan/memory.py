"""What one process of a run holds in its device's memory, by what it is held for, and at which moment.

Throughout: weights, AdamW's moments, the reference of ``ppo.kl_coef``, kept picture features. Above that, one after the
other: prompts are read, outputs are written, outputs are scored with gradients, the optimiser steps. The fullest moment
decides. Outputs count at their longest (``rollout.max_new_tokens``): an untrained model writes so much.

Knows neither seconds nor files. Where a number stands for something that another module decides, that module is named.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlmagent.config import Config
from vlmagent.models.features import KEPT_BYTES
from vlmagent.models.output_layer import SLICE_NUMBERS
from vlmagent.models.policy import STATE_CACHE_BYTES
from vlmagent.training.plan.hardware import GIB, Hardware
from vlmagent.training.plan.share import Memory, Share
from vlmagent.training.plan.sizes import Layers, Sizes, Tokens

FLOAT = 4
"""Bytes of what is held in float32 whatever the weights are: adapters, value head, gradients, moments, logits."""
RESERVE = 1.5 * GIB
"""What a process takes without any model: on a GPU CUDA and its libraries, in host memory Python's and torch's."""
FRAGMENTATION = 1.1
"""An allocator takes blocks of a few sizes; what is asked of it fills them to about nine tenths."""
LAYER_VECTORS, LAYER_INNER = 10, 4
"""What a layer keeps of one token for its backward pass: vectors of its width, and of its MLP's."""
BACKWARD = 0.4
"""Share of one layer's part that gradients take while they go back through it."""
READING_VECTORS, READING_INNER = 3, 5
"""What a layer holds of one token at its fullest place, the MLP, without gradients."""
STREAM_VECTORS = 6
"""Around the layers: embeddings before and after pictures are put in, the last norm in float32 and what it gives."""
SAMPLING_TABLES = 6
"""Float32 tables (environments x vocabulary) of one step: logits, a copy of ``generate``'s, log-probs, probabilities,
and their sums in float64, which count twice (``models.distribution``)."""
SCORING_TABLES, SCORING_TABLES_ENTROPY = 5, 8
"""Float32 tables (rows x positions x vocabulary) while outputs are scored: logits, their log-softmax and three of the
entropy (``Policy.score``); three of them stay, with gradients of their own, where the entropy has a gradient."""
QUANTISED_BITS = {"8bit": 8.0, "4bit": 4.5}
"""By weight; those of 4 bits carry a scale for each block of 64."""


@dataclass(frozen=True, slots=True)
class Pass:
    """A micro-batch on its way forward and back.

    Attributes:
        rows: samples in it.
        activations: what is kept for going back until it is needed.
        layer: what one layer takes above that while it is gone through.
        logits: the tables over the vocabulary; they are there before the first layer is gone back through.
    """

    rows: int
    activations: float
    layer: float
    logits: float

    @property
    def total(self) -> float:
        """Bytes at its fullest moment."""
        return self.activations + max(self.layer, self.logits)


@dataclass(frozen=True, slots=True)
class Sampling:
    """One batched generation of a process's environments.

    Attributes:
        cache: keys and values of whole sequences.
        reading: the prompts' pass through one layer after the other, beside the cache of the prompts alone.
        writing: a step at the end: one layer's cache while it grows, and the tables over the vocabulary.
        gathered: weights that are elsewhere otherwise (ZeRO's stage 3).
    """

    cache: float
    reading: float
    writing: float
    gathered: float

    @property
    def total(self) -> float:
        """Bytes at its fullest moment."""
        return self.gathered + max(self.reading, self.cache + self.writing)


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes that one process holds.

    Attributes:
        half: whether the network's own weights are bfloat16.
        memory: weights, gradients, optimiser and exchange in PPO.
        tuning: the same in supervised fine-tuning, where the value head does not learn.
        reference: what ``ppo.kl_coef`` compares with; 0 without.
        pictures: features of pictures that are kept because the encoder is frozen, at most.
        casts: float32 adapters once more in bfloat16, in which they are multiplied.
        states: encoded states that are kept, at most; in host memory.
        tuning_pass: a micro-batch of fine-tuning, None where there is no such stage.
        scoring: a micro-batch of outputs scored again after sampling, without gradients; None where it is not done.
        step: what AdamW takes while it steps: on a GPU one more number for each that learns.
    """

    half: bool
    memory: Memory
    tuning: Memory
    reference: float
    pictures: float
    casts: float
    states: float
    sampling: Sampling
    scoring: Pass | None
    learning: Pass
    tuning_pass: Pass | None
    step: float
    hardware: Hardware

    @property
    def collecting(self) -> float:
        """While outputs are sampled; gradients are cleared then, except those that ZeRO keeps flat."""
        gradients = self.memory.gradients if self.memory.exchange else 0.0
        again = self.scoring.total if self.scoring else 0.0
        return self._always(self.memory) + gradients + max(self.sampling.total, again)

    @property
    def updating(self) -> float:
        """While a minibatch goes forward and back, or the optimiser steps."""
        held = self._always(self.memory) + self.memory.gradients
        return held + max(self.learning.total, self.step)

    @property
    def tuned(self) -> float:
        """In supervised fine-tuning; 0 where there is none. The reference is not there yet."""
        if self.tuning_pass is None:
            return 0.0
        held = self._always(self.tuning) - self.reference + self.tuning.gradients
        return held + max(self.tuning_pass.total, self.step)

    @property
    def peak(self) -> float:
        """At the fullest moment of all, with what the allocator and libraries take."""
        asked = max(self.collecting, self.updating, self.tuned)
        states = (
            self.states if self.hardware.kind == "cpu" else 0.0
        )  # there the host's memory is the device's
        return asked * FRAGMENTATION + states + RESERVE

    def _always(self, memory: Memory) -> float:
        return (
            memory.weights + memory.optimizer + memory.exchange + self.reference + self.pictures + self.casts
        )


def held(config: Config, sizes: Sizes, tokens: Tokens, share: Share, hardware: Hardware) -> Held:
    """What one process holds of a run.

    Args:
        hardware: what one process has of it.
    """
    half = weights_are_half(config, hardware)
    width = 2 if half else FLOAT
    weights = weight_bytes(config, sizes, half)
    memory = share.memory(weights, sizes.trained)
    # at most as many different states as there are samples and steps
    seen = config.sft.all_samples + config.ppo.env_steps
    longest = Tokens(tokens.picture, tokens.prompt, config.rollout.max_new_tokens, tokens.vision)
    rows = rows_per_micro_batch(config, longest)
    # see `Policy.exact`: else outputs are scored a second time after they were sampled
    exact = not half and config.model.quantization == "none"
    # on a GPU torch's AdamW steps all tensors together, with a temporary of their size
    step = FLOAT * sizes.trained / (share.processes if share.stage else 1) if hardware.kind == "cuda" else 0.0
    return Held(
        half=half,
        memory=memory,
        tuning=share.memory(weights, sizes.trained - sizes.value_head),
        reference=_reference_bytes(config, sizes, weights),
        pictures=min(KEPT_BYTES, seen * _feature_bytes(sizes, tokens, width))
        if not config.model.train_vision
        else 0.0,
        casts=2.0 * sizes.adapters if half else 0.0,
        states=min(STATE_CACHE_BYTES, seen * _state_bytes(sizes, tokens)),
        sampling=_sampling(config, sizes, longest, share, memory, width),
        scoring=None if exact else _pass(config, sizes, longest, rows, width, gradients=False),
        learning=_pass(config, sizes, longest, rows, width, entropy=config.ppo.entropy_coef > 0),
        tuning_pass=_tuning_pass(config, sizes, tokens, share, width) if config.sft.all_samples else None,
        step=step,
        hardware=hardware,
    )


def weights_are_half(config: Config, hardware: Hardware) -> bool:
    """Whether a checkpoint's weights would be bfloat16 there (``models.hf.weights_dtype``, for a device elsewhere)."""
    if config.model.dtype != "auto":
        return config.model.dtype == "bfloat16"
    return hardware.kind == "cuda" and config.model.lora.enabled


def weight_bytes(config: Config, sizes: Sizes, half: bool) -> float:
    """All weights: the network's, adapters and value head."""
    own = 2.0 if half else float(FLOAT)
    bits = QUANTISED_BITS.get(config.model.quantization, 8 * own)
    network = sizes.linear * bits / 8 + (sizes.held - sizes.linear) * own
    return network + FLOAT * (sizes.adapters + sizes.value_head)


def _reference_bytes(config: Config, sizes: Sizes, weights: float) -> float:
    """The policy that RL started from: a copy of the adapters, or of everything where there are none
    (``training.loop``). Every process has it whole, whatever ZeRO divides."""
    if not config.ppo.kl_coef or not config.ppo.env_steps:
        return 0.0
    return float(FLOAT * sizes.adapters) if sizes.adapters else weights


def _state_bytes(sizes: Sizes, tokens: Tokens) -> int:
    """One state as the processor gives it: pixels in float32 and ids of 8 bytes (``models.families.EncodedState``)."""
    return tokens.vision * sizes.patch_numbers * FLOAT + 8 * tokens.read


def _feature_bytes(sizes: Sizes, tokens: Tokens, width: int) -> int:
    """One picture as the decoder reads it."""
    return int(tokens.picture * sizes.layers.width * width * sizes.levels)


def rows_per_micro_batch(config: Config, tokens: Tokens) -> int:
    """Samples of such a length that go through the network together in one process."""
    share = Share.of(config)
    rows = min(config.ppo.micro_batch_size, share.part(config.ppo.minibatch_size))
    budget = config.ppo.max_tokens_per_micro_batch
    # a sample that alone is larger than the budget goes alone
    return max(1, min(rows, budget // tokens.total) if budget else rows)


def _sampling(
    config: Config, sizes: Sizes, tokens: Tokens, share: Share, memory: Memory, width: int
) -> Sampling:
    envs, layers = share.part(config.rollout.num_envs), sizes.layers
    # of one environment, over all layers
    by_token = sizes.cached * layers.depth * width
    one_layer = sizes.cached * width * envs * tokens.total
    # keys and values are repeated for every query head that shares them
    repeated = 2 * layers.width * width * envs * tokens.total if sizes.cached < 2 * layers.width else 0
    tables = SAMPLING_TABLES * envs * sizes.decoder.vocab_size * FLOAT
    transient = _layer(layers, width, READING_VECTORS, READING_INNER)
    return Sampling(
        cache=float(envs * tokens.total * by_token),
        reading=float(envs * tokens.read * (by_token + transient)),
        writing=float(one_layer + repeated + tables + _slices(sizes, width)),
        gathered=memory.gathered,
    )


def _tuning_pass(config: Config, sizes: Sizes, tokens: Tokens, share: Share, width: int) -> Pass:
    """Fine-tuning has micro-batches of its own, and dropout, which keeps its masks."""
    batch = share.part(config.sft.batch_size)
    # 0: the whole batch at once
    rows = min(config.sft.micro_batch_size or batch, batch)
    # texts without pictures are scored from their first token on
    positions = tokens.total if config.sft.primer_samples or config.sft.language_samples else tokens.output
    scored = Tokens(tokens.picture, tokens.total - tokens.picture - positions, positions, tokens.vision)
    return _pass(config, sizes, scored, rows, width, dropout=config.model.lora.enabled)


def _pass(
    config: Config,
    sizes: Sizes,
    tokens: Tokens,
    rows: int,
    width: int,
    *,
    gradients: bool = True,
    entropy: bool = False,
    dropout: bool = False,
) -> Pass:
    tables = SCORING_TABLES_ENTROPY if entropy else SCORING_TABLES
    # + 1: the last prompt token's logits are there too (`Policy._scored`)
    logits = rows * (tokens.output + 1) * sizes.decoder.vocab_size * FLOAT * tables + _slices(sizes, width)
    language = (sizes.layers, tokens.total)
    stacks = (language, (sizes.tower, tokens.vision)) if config.model.train_vision else (language,)
    # nothing is kept for a way back: one layer's numbers after the other's, the fullest one counts
    if not gradients:
        layer = max(count * _layer(stack, width, READING_VECTORS, READING_INNER) for stack, count in stacks)
        return Pass(rows, 0.0, float(rows * layer), float(logits))
    recompute = config.model.activation_checkpointing
    # of the residual stream around the layers, which are added below
    kept = float(STREAM_VECTORS * sizes.layers.width * width * tokens.total)
    going = 0.0
    for stack, count in stacks:
        layer = count * _layer(stack, width, LAYER_VECTORS, LAYER_INNER)
        if dropout:  # the inputs of seven products, dropped, and a byte of mask for each number
            layer += count * (width + 1) * (6 * stack.width + stack.inner)
        # recomputing keeps the layers' inputs alone, and has all of one layer while it goes back through it
        kept += stack.depth * (count * width * stack.width if recompute else layer)
        # recompute is 0 or 1: 1 has all of one layer there again
        going = max(going, layer * (BACKWARD + recompute))
    return Pass(rows, rows * kept, rows * going, float(logits))


def _layer(layers: Layers, width: int, vectors: int, inner: int) -> int:
    """Bytes of one token in one layer."""
    return width * (vectors * layers.width + inner * layers.inner)


def _slices(sizes: Sizes, width: int) -> int:
    """Rows of a bfloat16 output layer that are float32 at a time (``models.output_layer``)."""
    decoder = sizes.decoder
    return min(SLICE_NUMBERS, decoder.vocab_size * decoder.hidden_size) * FLOAT if width < FLOAT else 0
