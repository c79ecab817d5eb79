"""Pillow's own embedded font, in any size: no font is read from the system or from disk."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The embedded font (Aileron) at ``size`` pixels.

    Raises:
        RuntimeError: this Pillow was built without FreeType.
    """
    # sizes need FreeType; without it Pillow falls back to one small bitmap font
    loaded = ImageFont.load_default(size)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise RuntimeError("This Pillow has no FreeType; install the official wheel: pip install pillow")
    return loaded


@lru_cache(maxsize=1024)
def fitting_size(text: str, width: int, largest: int) -> int:
    """The largest size in pixels, up to ``largest``, at which ``text`` is at most ``width`` pixels wide."""
    # a text's width grows in proportion to its size
    return max(1, min(largest, int(largest * width / max(1.0, font(largest).getlength(text)))))
