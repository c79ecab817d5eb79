"""One small adapter per model family for what differs between them."""

from __future__ import annotations

from vlmagent.models.families.base import EncodedState, Family
from vlmagent.models.families.llava import Llava
from vlmagent.models.families.llava_next import LlavaNext
from vlmagent.models.families.others import Gemma3, Generic, Idefics3, PaliGemma, Qwen

__all__ = ["EncodedState", "Family", "family_of"]

_KNOWN: tuple[type[Family], ...] = (Llava, LlavaNext, Qwen, Idefics3, PaliGemma, Gemma3)


def family_of(model_type: str) -> Family:
    """The adapter of a config's ``model_type``; the fallback when nothing special is known of it."""
    for kind in _KNOWN:
        if model_type in kind.model_types:
            return kind()
    return Generic()
