"""Which key means which action: the action's own character where it has one, else a letter of its name.

Knows neither widgets nor tasks: names in, keys out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RESERVED = frozenset("?xXtTnNrRvViIzZq")
"""Letters that the screen's commands have."""
MOST_KEYS = 20
ROW = 76
"""Columns that the keys may take."""
# cards that two characters name: 0 for the ten, and the letters that are printed on them. The queen's comes before the
# command q, which asks before it leaves
_CARDS = {"10": "0", "11": "j", "12": "q", "13": "k"}
# the number line: arrows point where - and + lead, and the signs themselves work too
_ARROWS = {"-": ("left", "←"), "+": ("right", "→")}


@dataclass(frozen=True, slots=True)
class ActionKey:
    """An action and its keys: ``shown`` as people write the first one, ``keys`` as the terminal names them."""

    action: str
    shown: str
    keys: tuple[str, ...]

    @property
    def label(self) -> str:
        """What stands beside the key: nothing where the key is the action."""
        return "" if self.shown == self.action else self.action

    @property
    def width(self) -> int:
        """Columns it takes in a row."""
        return len(self.shown) + (len(self.label) + 1 if self.label else 0) + 2


def keys_for(actions: Sequence[str]) -> list[ActionKey] | None:
    """One entry per action, or None when a row of keys cannot hold them: they are then chosen from a list."""
    if not 0 < len(actions) <= MOST_KEYS:
        return None
    if set(actions) == set(_ARROWS):
        return [ActionKey(action, arrow, (name, action)) for action, (name, arrow) in _ARROWS.items()]
    # first those that are a character themselves, so that no other action is given theirs
    taken = {action for action in actions if len(action) == 1}
    found = []
    for action in actions:
        character = action if len(action) == 1 else _free(action, taken)
        if character is None:
            return None
        taken.add(character)
        found.append(ActionKey(action, character, (character,)))
    return found if sum(entry.width for entry in found) <= ROW else None


def _free(action: str, taken: set[str]) -> str | None:
    """A card's key, else the first letter of the name that nobody has, else a digit."""
    wanted = [_CARDS[action]] if action in _CARDS else []
    wanted += [letter for letter in action.lower() if letter.isalnum() and letter not in RESERVED]
    return next((key for key in [*wanted, *"123456789"] if key not in taken), None)
