import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmagent.store import codec

BITS = st.lists(st.integers(0, 2**32 - 1), max_size=40)


@settings(max_examples=300, deadline=None)
@given(BITS)
def test_every_float32_comes_back_bit_by_bit(bits: list[int]) -> None:
    values = np.array(bits, dtype=np.uint32).view(np.float32)
    text = codec.encode_floats(values)
    back = codec.decode_floats(text)
    assert np.array_equal(np.isnan(values), np.isnan(back))
    numbers = ~np.isnan(values)
    assert np.array_equal(values.view(np.uint32)[numbers], back.view(np.uint32)[numbers])
    again = [np.float32(x) for x in json.loads(text) if x is not None]  # what any other reader would do
    assert np.array_equal(np.array(again, dtype=np.float32), values[numbers])


def test_floats_are_short_and_valid_json() -> None:
    values = np.array([-0.1, -1e-10, 0.0, -0.0, -12.5], dtype=np.float32)
    assert codec.encode_floats(values) == "[-0.1,-1e-10,0.0,-0.0,-12.5]"
    odd = codec.encode_floats(np.array([-math.inf, math.nan, math.inf, 0.5], dtype=np.float32))
    assert odd == "[-1e999,null,1e999,0.5]"
    assert codec.encode_floats(np.zeros(0, dtype=np.float32)) == "[]"


def test_ints() -> None:
    values = np.array([0, 5, 151_000], dtype=np.int64)
    assert codec.encode_ints(values) == "[0,5,151000]"
    assert np.array_equal(codec.decode_ints("[0,5,151000]"), values)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain é 😀", "plain é 😀"),
        ("a\ud800b", "a�b"),
        ("\ud83d\ude00", "😀"),
        ("\udc80", "�"),
        ("a\0b", "a\0b"),
    ],
)
def test_clean_text(text: str, clean: str) -> None:
    assert codec.clean_text(text) == clean


def test_number() -> None:
    assert codec.number(None) is None
    assert codec.number(math.nan) is None
    assert codec.number(np.float32(0.5)) == 0.5
    assert codec.number(math.inf) == math.inf


def test_pictures_are_lossless_and_keyed_by_content_and_shape() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    assert np.array_equal(codec.decode_image(codec.encode_image(image)), image)
    view = np.concatenate([image, image], axis=1)[:, :9]  # not contiguous
    assert codec.image_key(view) == codec.image_key(image)
    assert codec.image_key(image.reshape(9, 7, 3)) != codec.image_key(image)
    with pytest.raises(ValueError, match="uint8"):
        codec.encode_image(image.astype(np.float32))  # type: ignore[arg-type]


def test_a_pictures_key_is_of_its_pixels_and_its_size() -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert codec.picture_key(picture) == codec.picture_key(picture.copy())
    # a view with gaps, and the same pixels in another shape
    assert codec.picture_key(picture[::2]) == codec.picture_key(picture[::2].copy())
    assert codec.picture_key(picture.reshape(2, 8, 3)) != codec.picture_key(picture)
    changed = picture.copy()
    changed[3, 3, 2] += 1
    assert codec.picture_key(changed) != codec.picture_key(picture)
