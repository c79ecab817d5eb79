"""How large a network and its samples are: counted on a network without weights, and on the task's own texts.

The network is built on torch's meta device, where tensors have shapes and nothing else. Knows no device and no seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from statistics import mean
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import LlavaProcessor

from vlmagent.config import Config, ModelConfig
from vlmagent.models import lora, tiny
from vlmagent.models.architectures import Architecture
from vlmagent.models.families import Family, family_of
from vlmagent.models.hf import quiet
from vlmagent.tasks.base import Task
from vlmagent.training.sft.samples import corpus, solver_samples

PROMPT_CHARACTERS = 4.0
OUTPUT_CHARACTERS = 3.0
"""By token: the tokenizers of large models take about four characters of English together, fewer of JSON and digits."""
SAMPLES = 64


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one sample; ``vision`` are patches inside the encoder. Prompt and output are estimates."""

    picture: int
    prompt: int
    output: int
    vision: int

    @property
    def read(self) -> int:
        """What the language model reads before it writes."""
        return self.picture + self.prompt

    @property
    def total(self) -> int:
        """What the language model reads and writes."""
        return self.read + self.output


@dataclass(frozen=True, slots=True)
class Layers:
    """A stack of transformer layers: how many, their width, and that of the MLP in each."""

    depth: int
    width: int
    inner: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the estimates need of a network.

    Attributes:
        language, vision: parameters that every token or patch is multiplied with.
        held: all parameters of the network itself; ``linear`` of them can be quantised.
        adapters: parameters of adapters beside them.
        trained: parameters that learn, the value head's included.
        value_head: parameters of the value head.
        decoder: config of the language model.
        tower: the vision encoder's layers.
        patch_numbers: numbers in one patch as the encoder reads it.
        levels: sets of picture features that the decoder reads (1; more where deeper layers read some of their own).
    """

    language: int
    vision: int
    held: int
    linear: int
    adapters: int
    trained: int
    value_head: int
    decoder: Any
    tower: Layers
    patch_numbers: int
    levels: int

    @classmethod
    def of(cls, network: nn.Module, value_head: int) -> Sizes:
        """Measured on a network with its adapters.

        Args:
            value_head: parameters of the head that will stand beside it.
        """
        config: Any = network.config
        vision_parts = lora.vision_modules(network)
        # adapters are counted on their own
        named = [(name, p) for name, p in network.named_parameters() if "lora_" not in name]
        # embeddings are looked up, not multiplied with; the output layer's products are `speed.Flops`' own term
        tables = ("embed_tokens", "lm_head")
        vision = sum(p.numel() for name, p in named if any(f".{part}." in name for part in vision_parts))
        # matrices: what bitsandbytes packs into 8 or 4 bits
        linear = sum(p.numel() for name, p in named if p.dim() == 2 and not any(t in name for t in tables))
        held = sum(p.numel() for _, p in named)
        embedding = sum(p.numel() for name, p in named if any(table in name for table in tables))
        tower = config.vision_config
        # Qwen2-VL's hidden_size is that of its output, embed_dim its own
        width = getattr(tower, "embed_dim", None) or tower.hidden_size
        return cls(
            language=held - vision - embedding,
            vision=vision if vision_parts else 0,
            held=held,
            linear=linear,
            adapters=sum(p.numel() for name, p in network.named_parameters() if "lora_" in name),
            trained=value_head + sum(p.numel() for p in network.parameters() if p.requires_grad),
            value_head=value_head,
            decoder=config.get_text_config(),
            tower=Layers(
                getattr(tower, "num_hidden_layers", None) or tower.depth,
                width,
                # without intermediate_size: towers whose MLP is four times as wide
                getattr(tower, "intermediate_size", 4 * width),
            ),
            # three colours; Qwen reads a picture as a film of two equal frames
            patch_numbers=3 * tower.patch_size**2 * getattr(tower, "temporal_patch_size", 1),
            levels=1 + len(getattr(tower, "deepstack_visual_indexes", None) or ()),
        )

    @property
    def layers(self) -> Layers:
        """The language model's layers."""
        decoder = self.decoder
        return Layers(decoder.num_hidden_layers, decoder.hidden_size, decoder.intermediate_size)

    @property
    def cached(self) -> int:
        """Numbers that the key-value cache holds of one token in one layer."""
        decoder = self.decoder
        head = getattr(decoder, "head_dim", None) or decoder.hidden_size // decoder.num_attention_heads
        # fewer than query heads where several of those share keys and values
        heads = getattr(decoder, "num_key_value_heads", None) or decoder.num_attention_heads
        # 2: keys and values
        return int(2 * heads * head)


def build_on_meta(architecture: Architecture, settings: ModelConfig) -> tuple[Any, Family]:
    """The network with its adapters, without memory for its weights, and its family."""
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    quiet()
    # a copy: the next line takes something out of it
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


def built_in(config: Config, task: Task) -> tuple[Architecture, LlavaProcessor]:
    """The built-in model's sizes, and its processor, as a run would make them from the task's texts."""
    captions = bool(config.sft.caption_samples or config.sft.caption_share)
    tokenizer = tiny.tokenizer_of(config.model.tiny, corpus(task, captions, config.sft.corpus_samples))
    fields = tiny.llava_config(config.model.tiny, tokenizer).to_dict()
    processor = tiny.build_processor(config.model.tiny, tokenizer)
    return Architecture("the built-in model tiny", fields, {}, None), processor


def count_tokens(
    config: Config,
    task: Task,
    architecture: Architecture,
    family: Family,
    model: Any,
    processor: LlavaProcessor | None = None,
) -> Tokens:
    """Tokens of a typical sample of the task, from the expert's own episodes.

    Args:
        model: the network's config.
        processor: the model's own; None where it is not at hand, and characters tell.
    """
    samples = list(islice(solver_samples(task, config.seed), SAMPLES))
    image = samples[0].image
    assert image is not None  # the solver's samples always have one
    height, width = image.shape[:2]
    # 0 stands for no tiles (`Idefics3.image_tokens`)
    pictures = (
        dict(architecture.pictures) if config.model.tiles else {**architecture.pictures, "longest_edge": 0}
    )
    picture = family.image_tokens(model, pictures, height, width)
    if processor is None:
        prompt = mean(len(sample.prompt) for sample in samples) / PROMPT_CHARACTERS
        output = mean(len(sample.response) for sample in samples) / OUTPUT_CHARACTERS
    else:
        shown = Image.fromarray(image)
        # the processor has put the picture's placeholders among the ids
        prompt = (
            mean(len(family.encode(processor, s.prompt, shown, b"").input_ids) for s in samples) - picture
        )
        output = mean(len(processor.tokenizer(sample.response)["input_ids"]) for sample in samples)
    # patches that the encoder works on become fewer tokens: side by side merged (Qwen) or shuffled together
    # (Idefics3)
    merged = getattr(model.vision_config, "spatial_merge_size", getattr(model, "scale_factor", 1)) ** 2
    end = 1  # the token that ends an output
    return Tokens(
        picture, round(prompt), min(round(output + end), config.rollout.max_new_tokens), picture * merged
    )
