import pytest

from vlmagent.tui.play.letters import MOST_KEYS, RESERVED, ROW, keys_for


def keys(*actions: str) -> dict[str, tuple[str, ...]] | None:
    found = keys_for(actions)
    return None if found is None else {entry.action: entry.keys for entry in found}


def test_the_number_line_has_arrows() -> None:
    assert keys("+", "-") == {"-": ("left", "-"), "+": ("right", "+")}


def test_cards() -> None:
    tokens = [*map(str, range(1, 14)), *"+-*/()="]
    found = keys(*tokens)
    assert found is not None
    assert list(found) == tokens
    assert (found["1"], found["10"], found["11"], found["12"], found["13"]) == (
        ("1",),
        ("0",),
        ("j",),
        ("q",),
        ("k",),
    )
    assert found["("] == ("(",)
    assert sum(entry.width for entry in keys_for(tokens) or ()) <= ROW


def test_words_get_a_letter_of_theirs() -> None:
    assert keys("stand", "hit") == {"stand": ("s",), "hit": ("h",)}
    assert keys("north", "south", "east", "exit") == {
        "north": ("o",),
        "south": ("s",),
        "east": ("e",),
        "exit": ("1",),
    }
    found = keys("nix", "next", "tin")
    assert found is not None
    assert not {key for shown in found.values() for key in shown} & RESERVED


def test_one_letter_actions_keep_theirs() -> None:
    assert keys("hit", "h") == {"hit": ("1",), "h": ("h",)}


@pytest.mark.parametrize(
    "actions",
    [[], [f"action {n}" for n in range(MOST_KEYS + 1)], [f"go to the far-off place {n}" for n in range(9)]],
)
def test_what_no_row_of_keys_can_hold(actions: list[str]) -> None:
    assert keys_for(actions) is None
