"""Tokenizers of the kinds that models come with, trained on a few sentences: no downloads."""

import json
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from vlmagent.models.tiny import build_tokenizer

TEXTS = (
    '{\n"thoughts": "The current number is 3, so I add one.",\n"action": "+"\n}',
    "USER: Which action do you choose?\nASSISTANT: ",
    "the quick brown fox jumps over a lazy dog",
) * 5
END = "</s>"


@lru_cache
def llama() -> Tokenizer:
    """Words with ``▁`` for blanks, and a token for each byte, in which whatever the vocabulary lacks is written."""
    made = _with_bytes(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None)
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1),
        ]
    )
    return made


@lru_cache
def mistral() -> Tokenizer:
    """The same from the library's newer parts."""
    blanks: dict[str, Any] = {"replacement": "▁", "prepend_scheme": "first"}
    made = _with_bytes(None, pre_tokenizers.Metaspace(**blanks))
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(**blanks), decoders.Fuse()])
    return made


@lru_cache
def gpt2() -> Tokenizer:
    """Every text as bytes, frequent ones joined (Qwen's are of this kind, too)."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


@lru_cache
def own() -> Tokenizer:
    """The program's own."""
    made: Tokenizer = build_tokenizer(TEXTS, 400, fold=True).backend_tokenizer
    return made


def _with_bytes(normalizer: Any, pre_tokenizer: Any) -> Tokenizer:
    """A trained BPE that falls back to bytes.

    The trainer would take the tokens of bytes for special ones, which decoding leaves out; so they are added to its
    vocabulary afterwards.
    """
    learner = Tokenizer(models.BPE())
    if normalizer is not None:
        learner.normalizer = normalizer
    if pre_tokenizer is not None:
        learner.pre_tokenizer = pre_tokenizer
    learner.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=200, show_progress=False))
    learnt = json.loads(learner.to_str())["model"]
    tokens = ["<unk>", END, *(f"<0x{value:02X}>" for value in range(256)), *learnt["vocab"]]
    merges = [tuple(pair) for pair in learnt["merges"]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    made.add_special_tokens(["<unk>", END])
    if normalizer is not None:
        made.normalizer = normalizer
    if pre_tokenizer is not None:
        made.pre_tokenizer = pre_tokenizer
    return made


KINDS = (llama, mistral, gpt2, own)
