"""Every key of every screen and widget, wherever it is defined."""

from collections import Counter

import pytest
from textual.dom import DOMNode

from vlmagent.tui.keymap import owners


def test_they_are_found() -> None:
    names = {owner.__name__ for owner in owners()}
    assert {"RunsScreen", "TrainScreen", "EpisodesScreen", "ReplayScreen", "CompareScreen", "Chart"} <= names


@pytest.mark.parametrize("owner", owners(), ids=lambda owner: owner.__name__)
def test_every_binding_has_an_id_and_a_tooltip(owner: type[DOMNode]) -> None:
    for binding in owner.__dict__["BINDINGS"]:
        assert binding.id, binding
        assert len(binding.tooltip) > 4, binding


def test_ids_are_unique() -> None:
    ids = Counter(binding.id for owner in owners() for binding in owner.__dict__["BINDINGS"])
    assert [id_ for id_, count in ids.items() if count > 1] == []
