"""``vlmagent train --plan``: what a run would train and take, without weights, network or a run.

The network is built on torch's meta device, where tensors have shapes and nothing else. Memory and time are estimates;
the constants below say what they rest on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn

from vlmagent.config import Config, ModelConfig
from vlmagent.errors import UsageError
from vlmagent.models import lora
from vlmagent.models.architectures import Architecture, find_architecture
from vlmagent.models.families import Family, family_of
from vlmagent.models.hf import quiet
from vlmagent.models.lora import Part, count_parts
from vlmagent.models.value_head import ValueHead
from vlmagent.tasks.base import Task
from vlmagent.tasks.registry import task_from_config
from vlmagent.training.plan.hardware import GIB, REFERENCES, Hardware, find_hardware
from vlmagent.training.plan.share import Memory, Share
from vlmagent.training.sft.samples import solver_samples

PROMPT_CHARACTERS = 4.0
OUTPUT_CHARACTERS = 3.0
"""By token: the tokenizers of large models take about four characters of English together, fewer of JSON and digits."""
SAMPLES = 64
UPDATE_EFFICIENCY = 0.4
"""Share of the peak that forward and backward passes of such models reach."""
DECODE_STEP_SECONDS = 0.03
"""Least time of one generated token on a GPU: launching the kernels of all layers, one after another."""
RESERVE = 1.5 * GIB
"""Kept by CUDA and its libraries."""
FRAGMENTATION = 1.1
LOGIT_COPIES = 6
"""Float32 tables of (output tokens x vocabulary) that scoring holds at once."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one sample; ``vision`` are patches inside the encoder. Prompt and output are estimates."""

    picture: int
    prompt: int
    output: int
    vision: int

    @property
    def total(self) -> int:
        """What the language model reads."""
        return self.picture + self.prompt + self.output


@dataclass(frozen=True, slots=True)
class Cost:
    """A run on one kind of device. Bytes of one process, and seconds.

    Attributes:
        hardware: what one process has of it.
        memory: weights, gradients, the optimiser.
        generation: keys and values of its environments, above that; in ZeRO's stage 3 also the other weights.
        micro_batch: activations of one micro-batch, above ``memory``.
        rows: samples per micro-batch.
        collect, update: one PPO update's two halves.
    """

    hardware: Hardware
    dtype: str
    memory: Memory
    generation: float
    micro_batch: float
    rows: int
    collect: float
    update: float
    sft: float

    @property
    def peak(self) -> float:
        """Memory at the fullest moment."""
        return (self.memory.total + max(self.generation, self.micro_batch)) * FRAGMENTATION + RESERVE

    @property
    def fits(self) -> bool:
        """Whether one device has that much."""
        return self.peak <= self.hardware.memory


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that ``--plan`` prints."""

    config: Config
    share: Share
    model: str
    family: str
    parts: Sequence[Part]
    value_head: int
    tokens: Tokens
    updates: int
    optimizer_steps: int
    costs: Sequence[Cost]
    notes: Sequence[str]

    @property
    def trained(self) -> int:
        """Trained parameters of the network."""
        return sum(part.trained for part in self.parts)


def make_plan(config: Config) -> Plan:
    """What ``config`` would train and take, on this machine and on GPUs to compare with.

    Raises:
        UsageError: nothing is known of the model, or it is ``tiny``.
    """
    settings = config.model
    if settings.name == "tiny":
        raise UsageError(
            "--plan is for checkpoints: the built-in model 'tiny' trains in minutes on two CPU cores. "
            "Give --model a folder or a hub name, such as llava-hf/llava-v1.6-mistral-7b-hf."
        )
    architecture = find_architecture(settings.name)
    network, family = build_on_meta(architecture, settings)
    parts = count_parts(network)
    tokens = count_tokens(config, task_from_config(config), architecture, family, network.config)
    with torch.device("meta"):
        head = ValueHead(network.config.get_text_config().hidden_size, settings.value_head)
    value_head = sum(parameter.numel() for parameter in head.parameters())
    sizes = Sizes.of(network, settings, value_head)
    share = Share.of(config)
    found = find_hardware()
    others = [] if found.kind == "cuda" else list(REFERENCES)
    devices = others if settings.device == "cuda" and others else [found, *others]
    per_update = -(-config.ppo.steps_per_update // config.ppo.minibatch_size) * config.ppo.epochs
    return Plan(
        config=config,
        share=share,
        model=architecture.name,
        family=network.config.model_type,
        parts=parts,
        value_head=value_head,
        tokens=tokens,
        updates=config.num_updates,
        optimizer_steps=config.num_updates * per_update,
        costs=[estimate(config, sizes, tokens, hardware) for hardware in devices],
        notes=[*_notes(config, family, network), *_notes_on_several(config, share, found)],
    )


def build_on_meta(architecture: Architecture, settings: ModelConfig) -> tuple[Any, Family]:
    """The network with its adapters, without memory for its weights, and its family."""
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    quiet()
    fields = json.loads(json.dumps(dict(architecture.config)))
    saved = CONFIG_MAPPING[fields.pop("model_type")].from_dict(fields)
    config = family_of(saved.model_type).model_config(saved, settings.tiles)
    with torch.device("meta"):
        network = AutoModelForImageTextToText.from_config(config)
        if not settings.train_vision:
            lora.freeze_vision(network)
        if settings.lora.enabled:
            adapted = lora.add_adapters(
                network, settings.lora, train_vision=settings.train_vision, base=architecture.name
            )
            network = adapted.get_base_model()
    return network, family_of(config.model_type)


def count_tokens(
    config: Config, task: Task, architecture: Architecture, family: Family, model: Any
) -> Tokens:
    """Tokens of a typical sample of the task: the expert's own episodes, counted in characters."""
    samples = list(islice(solver_samples(task, config.seed), SAMPLES))
    image = samples[0].image
    assert image is not None  # the solver's samples always have one
    height, width = image.shape[:2]
    pictures = (
        dict(architecture.pictures) if config.model.tiles else {**architecture.pictures, "longest_edge": 0}
    )
    picture = family.image_tokens(model, pictures, height, width)
    prompt = sum(len(sample.prompt) for sample in samples) / len(samples) / PROMPT_CHARACTERS
    output = sum(len(sample.response) for sample in samples) / len(samples) / OUTPUT_CHARACTERS + 1
    merged = getattr(model.vision_config, "spatial_merge_size", getattr(model, "scale_factor", 1)) ** 2
    return Tokens(picture, round(prompt), min(round(output), config.rollout.max_new_tokens), picture * merged)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the estimates need of a network.

    Attributes:
        language, vision: parameters that every token or patch is multiplied with.
        held: all parameters; ``linear`` of them can be quantised.
        trained: parameters that learn, the value head's included; ``inside`` of them are the held ones themselves.
        decoder: config of the language model.
        tower: (layers, width, width of the MLP) of the vision encoder.
    """

    language: int
    vision: int
    held: int
    linear: int
    trained: int
    inside: int
    decoder: Any
    tower: tuple[int, int, int]

    @classmethod
    def of(cls, network: nn.Module, settings: ModelConfig, value_head: int) -> Sizes:
        """Measured on a network with its adapters."""
        config: Any = network.config
        vision_parts = lora.vision_modules(network)
        named = [(name, p) for name, p in network.named_parameters() if "lora_" not in name]
        tables = ("embed_tokens", "lm_head")
        vision = sum(p.numel() for name, p in named if any(f".{part}." in name for part in vision_parts))
        linear = sum(p.numel() for name, p in named if p.dim() == 2 and not any(t in name for t in tables))
        held = sum(p.numel() for _, p in named)
        embedding = sum(p.numel() for name, p in named if any(table in name for table in tables))
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        tower = config.vision_config
        layers = getattr(tower, "num_hidden_layers", None) or tower.depth
        width = getattr(tower, "embed_dim", None) or tower.hidden_size
        return cls(
            language=held - vision - embedding,
            vision=vision if vision_parts else 0,
            held=held,
            linear=linear,
            trained=trained + value_head,
            inside=0 if settings.lora.enabled else trained,
            decoder=config.get_text_config(),
            tower=(layers, width, getattr(tower, "intermediate_size", 4 * width)),
        )


def estimate(config: Config, sizes: Sizes, tokens: Tokens, hardware: Hardware) -> Cost:
    """Memory and time of a run whose processes each have one such device, or their part of the CPU."""
    share = Share.of(config)
    hardware = share.device(hardware)
    half = weights_are_half(config.model, hardware)
    width = 2 if half else 4
    micro = rows_per_micro_batch(config, tokens)
    flops = Flops.of(config, sizes, tokens)
    speed = hardware.flops * UPDATE_EFFICIENCY
    ppo, count = config.ppo, config.ppo.steps_per_update / share.processes
    held = _held_bytes(config.model, sizes, width)
    memory = share.memory(
        held + 4 * (sizes.trained - sizes.inside), sizes.trained, half=half and sizes.inside > 0
    )
    decoding = max(held / hardware.bandwidth, DECODE_STEP_SECONDS if hardware.kind == "cuda" else 0.0)
    batches = -(-ppo.steps_per_update // config.rollout.num_envs)
    again = flops.forward if half else 0.0
    cache = _cache_bytes(sizes, tokens, width) * share.part(config.rollout.num_envs)
    return Cost(
        hardware=hardware,
        dtype="bfloat16" if half else "float32",
        memory=memory,
        generation=cache + memory.gathered,
        micro_batch=activation_bytes(config, sizes, tokens, width) * micro,
        rows=micro,
        collect=count * (flops.forward + again) / speed + batches * tokens.output * decoding,
        update=ppo.epochs * count * flops.training / speed,
        sft=config.sft.samples / share.processes * flops.training / speed,
    )


def weights_are_half(settings: ModelConfig, hardware: Hardware) -> bool:
    """Whether frozen weights would be bfloat16 there."""
    if settings.dtype != "auto":
        return settings.dtype == "bfloat16"
    return hardware.kind == "cuda" and settings.lora.enabled


def _held_bytes(settings: ModelConfig, sizes: Sizes, width: int) -> float:
    """Weights in memory; 4-bit weights carry a scale for each block of 64."""
    bits = {"none": 8 * width, "8bit": 8, "4bit": 4.5}[settings.quantization]
    return sizes.linear * bits / 8 + (sizes.held - sizes.linear) * width


def rows_per_micro_batch(config: Config, tokens: Tokens) -> int:
    """Samples of average length that go through the network together in one process."""
    share = Share.of(config)
    rows = min(config.ppo.micro_batch_size, share.part(config.ppo.minibatch_size))
    budget = config.ppo.max_tokens_per_micro_batch
    return max(1, min(rows, budget // tokens.total) if budget else rows)


def activation_bytes(config: Config, sizes: Sizes, tokens: Tokens, width: int) -> float:
    """What one sample's forward pass keeps for its backward pass.

    A decoder layer keeps about 10 vectors of its width and 4 of its MLP's per token; with checkpointing only its input,
    and one layer at a time with as much again for gradients.
    """
    decoder, (layers, hidden, inner) = sizes.decoder, sizes.tower
    language = (decoder.num_hidden_layers, decoder.hidden_size, decoder.intermediate_size, tokens.total)
    vision = (layers, hidden, inner, tokens.vision)
    total = tokens.output * decoder.vocab_size * 4 * LOGIT_COPIES
    for depth, size, mlp, count in (language, vision) if config.model.train_vision else (language,):
        layer = width * (10 * size + 4 * mlp)
        kept = width * size * depth + 2 * layer if config.model.activation_checkpointing else layer * depth
        total += count * kept
    return float(total)


def _cache_bytes(sizes: Sizes, tokens: Tokens, width: int) -> float:
    """Keys and values of one whole sequence."""
    decoder = sizes.decoder
    head = getattr(decoder, "head_dim", None) or decoder.hidden_size // decoder.num_attention_heads
    heads = getattr(decoder, "num_key_value_heads", None) or decoder.num_attention_heads
    return float(2 * decoder.num_hidden_layers * heads * head * width * tokens.total)


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of one sample: a forward pass; and with its backward pass."""

    forward: float
    training: float

    @classmethod
    def of(cls, config: Config, sizes: Sizes, tokens: Tokens) -> Flops:
        """Two operations per parameter and token; attention adds its own, over half of all pairs.

        Going back costs as much again for the activations, and for the weights as much as their trained share.
        """
        decoder = sizes.decoder
        attention = 2 * decoder.num_hidden_layers * tokens.total**2 * decoder.hidden_size
        head = 2 * decoder.vocab_size * decoder.hidden_size * tokens.output
        forward = 2 * sizes.language * tokens.total + 2 * sizes.vision * tokens.vision + attention + head
        share = min(1.0, sizes.trained / max(sizes.language + sizes.vision, 1))
        again = 1.0 if config.model.activation_checkpointing else 0.0
        return cls(float(forward), float(forward) * (2 + share + again))


def _notes(config: Config, family: Family, network: Any) -> list[str]:
    """What a reader should know beside the numbers."""
    notes = ["Memory and time are estimates; prompts and outputs are counted by their characters."]
    settings = config.model
    unused = family.unused_modules(network.config)
    if unused and settings.lora.enabled and not settings.lora.skip_unused and settings.train_vision:
        with_adapters = sum(p.numel() for name, p in network.named_parameters() if _is_unused(unused, name))
        notes.append(
            f"{with_adapters:,} of these parameters sit in a vision layer that the model never reads and get no "
            "gradient; the paper's setting counts them. model.lora.skip_unused=true leaves them out: "
            f"{sum(part.trained for part in count_parts(network)) - with_adapters:,}."
        )
    return notes


def _notes_on_several(config: Config, share: Share, found: Hardware) -> list[str]:
    """What several processes change, and whether this machine has what they need."""
    if share.processes == 1:
        return []
    notes = ["Times leave out what processes wait for each other; ZeRO's stage 3 waits in every layer."]
    here = found.count if found.kind == "cuda" else 0
    wanted = -(-share.processes // share.machines)
    if config.model.device != "cpu" and here < wanted:
        notes.append(f"The run needs {wanted} GPUs on each machine; torch sees {here} here.")
    return notes


def _is_unused(pattern: str, name: str) -> bool:
    return "lora_" in name and re.fullmatch(pattern, name) is not None
