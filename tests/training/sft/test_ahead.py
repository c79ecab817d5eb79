"""Batches made in a thread while the ones before them are used."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from vlmagent.training.sft.sft import ahead


def test_the_same_items_in_their_order() -> None:
    assert list(ahead(iter(["a", "b", "c"]))) == ["a", "b", "c"]
    assert list(ahead(iter([]))) == []


def test_the_next_one_is_made_while_this_one_is_used() -> None:
    """And no further: whoever stops has drawn one that he did not use."""
    made: list[int] = []
    begun = threading.Event()

    def numbers() -> Iterator[int]:
        for number in range(1, 10):
            made.append(number)
            begun.set() if number == 2 else None
            yield number

    items = ahead(numbers())
    assert next(items) == 1
    # waits for what another thread does by itself; without one it would never happen
    assert begun.wait(timeout=60)
    items.close()
    assert made == [1, 2]


def test_an_error_reaches_whoever_asks() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no more cards")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more cards"):
        next(items)
