"""A tiny random model of every family, written as a checkpoint: a config, a trained BPE tokenizer, no downloads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from vlmagent.models.families.processors import pictures_only

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
TURNS = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{{ 'END' if m['role'] == 'assistant' else '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
CORPUS = [
    'You are playing a game. {"current number": "0123456789", "thoughts": "larger smaller", "action": "+"}',
    "user: assistant: Which way? increase decrease -",
]
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
TOWER = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer(special: list[str], named: dict[str, str]) -> Any:
    """A byte-level BPE with a family's special tokens; ``named`` are attributes of the tokenizer."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=[PAD, BOS, EOS, *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS * 2, trainer)
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, bos_token=BOS, eos_token=EOS, extra_special_tokens=named
    )


def template(image: str, end: str = "{{ eos_token }}") -> str:
    """A chat template that puts ``image`` where the picture is and ``end`` behind an answer."""
    return TURNS.replace("IMAGE", image).replace("'END'", f"'{end}'" if "{" not in end else "eos_token")


def _ids(tokens: Any) -> dict[str, int]:
    return {
        "pad_token_id": tokens.pad_token_id,
        "bos_token_id": tokens.bos_token_id,
        "eos_token_id": tokens.eos_token_id,
    }


def llava() -> tuple[Any, Any]:
    """LLaVA-1.5."""
    tokens = tokenizer(["<image>"], {"image_token": "<image>"})
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**TOWER, image_size=28, patch_size=14),
        text_config=hf.LlamaConfig(**TEXT, vocab_size=len(tokens) + 5, **_ids(tokens)),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
    )
    side = {"height": 28, "width": 28}
    processor = hf.LlavaProcessor(
        CLIPImageProcessorPil(size=side, crop_size=side),
        tokens,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )
    return hf.LlavaForConditionalGeneration(config), processor


def llava_next() -> tuple[Any, Any]:
    """LLaVA-1.6 over Mistral."""
    tokens = tokenizer(["<image>"], {"image_token": "<image>"})
    grid = [[28, 56], [56, 28], [56, 56]]
    config = hf.LlavaNextConfig(
        vision_config=hf.CLIPVisionConfig(**TOWER, image_size=28, patch_size=14),
        text_config=hf.MistralConfig(
            **TEXT,
            num_key_value_heads=1,
            sliding_window=None,  # as the published checkpoint
            vocab_size=len(tokens),
            **_ids(tokens),
        ),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grid,
        vision_feature_layer=-2,
        tie_word_embeddings=False,
    )
    processor = hf.LlavaNextProcessor(
        LlavaNextImageProcessorPil(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=grid
        ),
        tokens,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )
    return hf.LlavaNextForConditionalGeneration(config), processor


QWEN = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_end|>"]
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}


def _qwen_ids(tokens: Any) -> dict[str, int]:
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return dict(zip(names, tokens.convert_tokens_to_ids(QWEN[:4]), strict=True))


def _qwen_processor(kind: Any, tokens: Any, patch: int) -> Any:
    pictures = Qwen2VLImageProcessorPil(
        patch_size=patch, merge_size=2, min_pixels=(4 * patch) ** 2, max_pixels=(4 * patch) ** 2
    )
    place = "<|vision_start|><|image_pad|><|vision_end|>"
    return pictures_only(kind)(pictures, tokens, chat_template=template(place, "<|im_end|>"))


def qwen2_5_vl() -> tuple[Any, Any]:
    """Qwen2.5-VL: turns end with a token that is not the tokenizer's end token."""
    tokens = tokenizer(QWEN, {"image_token": "<|image_pad|>"})
    config = hf.Qwen2_5_VLConfig(
        text_config={
            **TEXT, "num_key_value_heads": 1, "vocab_size": len(tokens), "rope_parameters": ROPE, **_ids(tokens),
        },
        vision_config={
            "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32,
            "patch_size": 4, "spatial_merge_size": 2, "window_size": 16, "fullatt_block_indexes": [1],
        },
        **_qwen_ids(tokens),
    )  # fmt: skip
    return hf.Qwen2_5_VLForConditionalGeneration(config), _qwen_processor(hf.Qwen2_5_VLProcessor, tokens, 4)


def qwen3_vl() -> tuple[Any, Any]:
    """Qwen3-VL: picture features enter deeper layers again."""
    tokens = tokenizer(QWEN, {"image_token": "<|image_pad|>"})
    config = hf.Qwen3VLConfig(
        text_config={
            **TEXT, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": len(tokens), "rope_parameters": ROPE,
            **_ids(tokens),
        },
        vision_config={
            "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32,
            "patch_size": 4, "spatial_merge_size": 2, "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        **_qwen_ids(tokens),
    )  # fmt: skip
    return hf.Qwen3VLForConditionalGeneration(config), _qwen_processor(hf.Qwen3VLProcessor, tokens, 4)


IDEFICS = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
IDEFICS += [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]


def _idefics(config: Any, model: Any, tokens: Any, pictures: Any, kind: Any) -> tuple[Any, Any]:
    built = config(
        vision_config={**TOWER, "image_size": 16, "patch_size": 4},
        text_config=hf.LlamaConfig(**TEXT, vocab_size=len(tokens), **_ids(tokens)),
        scale_factor=2,
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
        pad_token_id=tokens.pad_token_id,
    )
    images = pictures(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    processor = kind(images, tokens, image_seq_len=4, chat_template=template("<image>", "<end_of_utterance>"))
    return model(built), processor


def smolvlm() -> tuple[Any, Any]:
    """SmolVLM with its tiles."""
    return _idefics(
        hf.SmolVLMConfig,
        hf.SmolVLMForConditionalGeneration,
        tokenizer(IDEFICS, {"image_token": "<image>"}),
        SmolVLMImageProcessorPil,
        pictures_only(hf.SmolVLMProcessor),
    )


def idefics3() -> tuple[Any, Any]:
    """Idefics3 with its tiles."""
    return _idefics(
        hf.Idefics3Config,
        hf.Idefics3ForConditionalGeneration,
        tokenizer(IDEFICS, {"image_token": "<image>"}),
        Idefics3ImageProcessorPil,
        hf.Idefics3Processor,
    )


def paligemma() -> tuple[Any, Any]:
    """PaliGemma: no chat template, a prompt that sees itself both ways."""
    tokens = tokenizer(["<image>"], {"image_token": "<image>"})
    pictures = SiglipImageProcessorPil(size={"height": 28, "width": 28})
    pictures.image_seq_length = 4
    processor = hf.PaliGemmaProcessor(pictures, tokens)
    config = hf.PaliGemmaConfig(
        vision_config=hf.SiglipVisionConfig(**TOWER, image_size=28, patch_size=14, vision_use_head=False),
        text_config=hf.GemmaConfig(
            **TEXT, num_key_value_heads=1, head_dim=16, vocab_size=len(tokens), **_ids(tokens)
        ),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        projection_dim=32,
    )
    return hf.PaliGemmaForConditionalGeneration(config), processor


def gemma3() -> tuple[Any, Any]:
    """Gemma3: turns end with a token of their own, layers with sliding windows."""
    special = ["<image_soft_token>", "<start_of_image>", "<end_of_image>", "<end_of_turn>"]
    named = {"image_token": special[0], "boi_token": special[1], "eoi_token": special[2]}
    tokens = tokenizer(special, named)
    image, begin, end = tokens.convert_tokens_to_ids(special[:3])
    config = hf.Gemma3Config(
        vision_config=hf.SiglipVisionConfig(**TOWER, image_size=28, patch_size=7, vision_use_head=False),
        text_config=hf.Gemma3TextConfig(
            **TEXT, num_key_value_heads=1, head_dim=16, vocab_size=len(tokens), sliding_window=8,
            layer_types=["sliding_attention", "full_attention"], **_ids(tokens),
        ),
        image_token_index=image,
        boi_token_index=begin,
        eoi_token_index=end,
        mm_tokens_per_image=4,
    )  # fmt: skip
    processor = hf.Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 28, "width": 28}),
        tokens,
        chat_template=template("<start_of_image>", "<end_of_turn>"),
        image_seq_length=4,
    )
    return hf.Gemma3ForConditionalGeneration(config), processor


def qwen2_vl() -> tuple[Any, Any]:
    """Qwen2-VL."""
    tokens = tokenizer(QWEN, {"image_token": "<|image_pad|>"})
    config = hf.Qwen2VLConfig(
        text_config={
            **TEXT, "num_key_value_heads": 1, "vocab_size": len(tokens), "rope_parameters": ROPE, **_ids(tokens),
        },
        vision_config={
            "depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4,
            "spatial_merge_size": 2,
        },
        **_qwen_ids(tokens),
    )  # fmt: skip
    return hf.Qwen2VLForConditionalGeneration(config), _qwen_processor(hf.Qwen2VLProcessor, tokens, 4)


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    kind.__name__: kind
    for kind in (
        llava, llava_next, qwen2_vl, qwen2_5_vl, qwen3_vl, smolvlm, idefics3, paligemma, gemma3
    )
}  # fmt: skip


def write(family: str, folder: Path) -> Path:
    """A random checkpoint of ``family`` in ``folder``; the same one every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model, processor = BUILDERS[family]()
        for parameter in model.parameters():  # large enough that mistakes show in the log-probs
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
