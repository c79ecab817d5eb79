"""The built-in model: the LLaVA architecture in a size that trains on two CPU cores.

Built from a config, never downloaded; its BPE tokenizer is trained on the task's own texts. It is an ordinary
``LlavaForConditionalGeneration`` with a ``LlavaProcessor``: saved with ``save_pretrained`` it opens through
transformers' Auto classes. Knows nothing of the tasks: it is handed their texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from vlmagent.config import TinyModelConfig

IMAGE, PAD, BOS, EOS = "<image>", "<pad>", "<s>", "</s>"
MAX_POSITIONS = 4096
USER = "USER: "
# a digit, or one operator or bracket of the tasks' formulas
DECISIONS = r"\d|[-+*/=()]"
"""What a model decides on one at a time: merged with a neighbour, a digit would be a token that is seldom seen."""
WORDS = r" ?[A-Za-z]+| ?\d+|[^A-Za-z\d]+"
"""Words and numbers with the blank before them, and whatever stands between."""
# up to and with ". ", ": ", "? ", a line feed or the end
SENTENCE = re.compile(r".+?(?:[.:?] |\n|$)", re.DOTALL)

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ 'USER: ' if message['role'] == 'user' else 'ASSISTANT: ' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}"
    "{{ eos_token if message['role'] == 'assistant' else '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT: ' }}{% endif %}"
)


def build_tokenizer(
    texts: Iterable[str], vocab_size: int, *, fold: bool = False, words: bool = False
) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose merges cross words but never a digit or an operator.

    The prompt then costs a handful of tokens, yet each decision (a digit, "+", "=") stays one token of its own.

    Args:
        words: keep every word and number a token of its own as well, so that one that is copied from the prompt is
            the same token there.
        texts: prompts as the chat template writes them, and responses.
        fold: make each sentence that most prompts repeat one token, whatever it is made of.
    """
    texts = list(texts)
    folded = repeated_sentences([text for text in texts if text.startswith(USER)]) if fold else []
    for sentence in folded:  # they get a token each: merges are not to be spent on their words
        # what is left between the sentences is what the vocabulary is for
        texts = [part for text in texts for part in text.split(sentence) if part]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # "isolated": each match a piece of its own, which no merge crosses
            pre_tokenizers.Split(Regex(WORDS if words else DECISIONS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        # at least 2: a merge that is seen once is of no use to any other text
        min_frequency=2,
        special_tokens=[PAD, BOS, EOS, IMAGE],
        # every byte has a token, so that nothing is ever unknown
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=None,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(sentence, normalized=False) for sentence in folded])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def tokenizer_of(config: TinyModelConfig, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """The tokenizer that ``config`` asks for, trained on a task's ``texts``."""
    return build_tokenizer(texts, config.vocab_size, fold=config.fold_prompts, words=config.whole_words)


def repeated_sentences(prompts: Sequence[str]) -> list[str]:
    """Sentences and lines of more than one word that stand in most of the ``prompts``, longest first."""
    # a set: a sentence that one prompt repeats counts once
    counts = Counter(piece for prompt in prompts for piece in set(SENTENCE.findall(prompt)))
    most = [piece for piece, count in counts.items() if 2 * count > len(prompts) and " " in piece.strip()]
    return sorted(most, key=lambda piece: (-len(piece), piece))


def build_processor(config: TinyModelConfig, tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Picture and text preparation. The picture's own mean and std decide whether the model learns to see."""
    side = {"height": config.image_size, "width": config.image_size}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size=side,
            # the whole picture, squeezed: cards and numbers stand near its edges
            do_center_crop=False,
            resample=3,  # bicubic: small digits stay readable
            image_mean=[config.image_mean] * 3,
            image_std=[config.image_std] * 3,
            do_convert_rgb=True,
        ),
        tokenizer=tokenizer,
        patch_size=config.patch_size,
        # "default" counts one token off, CLIP's class token, which is added below
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE,
    )


def llava_config(config: TinyModelConfig, tokenizer: PreTrainedTokenizerFast) -> LlavaConfig:
    """The model's sizes, and the tokens that it knows."""
    vision = CLIPVisionConfig(
        hidden_size=config.vision_width,
        intermediate_size=4 * config.vision_width,
        num_hidden_layers=config.vision_layers,
        num_attention_heads=config.vision_heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        projection_dim=config.vision_width,
        initializer_range=config.vision_init_std,
    )
    text = LlamaConfig(
        # added sentences included, for which `vocab_size` leaves no room
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        intermediate_size=4 * config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=MAX_POSITIONS,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
        initializer_range=config.init_std,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        # the last layer, so that every layer of the encoder is used and trained
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(config.image_size // config.patch_size) ** 2,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def build_model(config: TinyModelConfig, tokenizer: PreTrainedTokenizerFast, seed: int) -> Any:
    """A freshly initialised LLaVA in float32; the same seed gives the same weights."""
    # devices=[]: made on the CPU, whose generator alone is put back
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlavaForConditionalGeneration(llava_config(config, tokenizer))
