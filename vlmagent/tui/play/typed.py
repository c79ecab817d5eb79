"""Commands of the table whose letters cannot be typed while letters filter the actions: other keys for them."""

from __future__ import annotations

from textual.binding import Binding

from vlmagent.tui.keys import key

LETTERS = {
    "hint": ("f2", "Hint"),
    "hints": ("f3", "Hints"),
    "seat": ("f4", "Seat"),
    "reload": ("f5", "Reload"),
    "new": ("f6", "New"),
    "review": ("f7", "Review"),
    "prompt": ("f8", "Prompt"),
    "zoom": ("f9", "Zoom"),
}
"""Commands that have a letter, with the key and the name they go by while letters are typed into the filter."""


def typing_bindings() -> list[Binding]:
    """A binding for each of ``LETTERS``."""
    return [
        key(
            function,
            f"typed('{name}')",
            words,
            f"play.{name}-typed",
            f"{words}, while letters filter the actions",
        )
        for name, (function, words) in LETTERS.items()
    ]
