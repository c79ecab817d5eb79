"""The line in which a search or a range of updates is typed."""

from __future__ import annotations

from textual.widgets import Input

SEARCH_HINT = 'words in outputs; "words that follow each other"'
UPDATES_HINT = "updates: 12, 5-20, 5- or -20; nothing for all"


class FilterEntry(Input):
    """One line for two questions; hidden while nothing is asked.

    Attributes:
        asks_updates: whether a range of updates is being typed, not a search.
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, compact=True)
        self.asks_updates = False

    def on_mount(self) -> None:
        self.display = False

    def ask_search(self, text: str) -> None:
        """Ask for words, beginning with those that are searched for now."""
        self._ask(text, SEARCH_HINT, asks_updates=False)

    def ask_updates(self, updates: tuple[int, int] | None) -> None:
        """Ask for a range of updates, beginning with the present one."""
        self._ask("" if updates is None else "{}-{}".format(*updates), UPDATES_HINT, asks_updates=True)

    def _ask(self, value: str, hint: str, *, asks_updates: bool) -> None:
        self.asks_updates = asks_updates
        self.placeholder = hint
        with self.prevent(Input.Changed):  # nothing was typed yet
            self.value = value
        self.display = True
        self.focus()
