"""Which tokens end an output and which may never be written: sampler and scorer use the same.

Knows nothing of models; works with any tokenizer and processor of transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_MARK = "an answer"
_PLACEHOLDERS = (
    "image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id", "boi_token_id", "eoi_token_id"
)  # fmt: skip


def end_tokens(processor: Any, generation_config: Any) -> list[int]:
    """Ids that end an output, the one that the chat template writes after an answer first.

    Checkpoints disagree on the others: the tokenizer's end token often ends documents, not turns.
    """
    tokenizer = processor.tokenizer
    ends = [*_after_answer(processor), int(tokenizer.eos_token_id)]
    more = getattr(generation_config, "eos_token_id", None)
    if more is not None:
        ends += more if isinstance(more, list) else [more]
    # without doubles, the first of each: position 0 is what an output is ended with
    return list(dict.fromkeys(int(token) for token in ends))


def _after_answer(processor: Any) -> list[int]:
    """The special token that the chat template puts right behind an assistant's answer, if any."""
    turns = [("user", "a question"), ("assistant", _MARK)]
    conversation = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    try:
        text = processor.apply_chat_template(conversation)
    except Exception:  # templates are programs: one that cannot write an answer tells nothing
        return []
    # whatever the template writes behind the answer: "</s>", "<|im_end|>\n", or nothing
    tail = text.rpartition(_MARK)[2].strip()
    ids = processor.tokenizer(tail, add_special_tokens=False)["input_ids"] if tail else []
    # plain text behind it (a line feed, a next role) ends nothing
    return [ids[0]] if ids and ids[0] in special_tokens(processor.tokenizer) else []


def special_tokens(tokenizer: Any) -> set[int]:
    """Ids of all tokens that are no text, listed as special or only marked so."""
    # some checkpoints mark tokens in the tokenizer's file without listing them
    marked = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return marked | {int(index) for index in tokenizer.all_special_ids}


def banned_tokens(tokenizer: Any, config: Any, ends: Sequence[int]) -> list[int]:
    """Ids never sampled: every special token but those that end (a sampled image token would end training).

    Ids beyond the tokenizer's vocabulary (padding of the embedding table) are banned too.
    """
    banned = special_tokens(tokenizer)
    named = [getattr(config, name, None) for name in _PLACEHOLDERS]
    banned |= {int(index) for index in named if index is not None}
    size = config.get_text_config().vocab_size
    # tables are padded to round sizes; their last rows were never trained and decode to nothing
    banned |= set(range(len(tokenizer), size))
    return sorted(index for index in banned - set(ends) if index < size)


def output_lengths(ids: Tensor, ends: Sequence[int]) -> Tensor:
    """Tokens per row up to and with the first end token, int64 (B,); ids is (B, L)."""
    is_end = torch.isin(ids, torch.tensor(list(ends), device=ids.device))
    # argmax of 0s and 1s is the first 1; rows without an end have their whole length
    first = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, ids.shape[1])
    return first.to(torch.int64)
