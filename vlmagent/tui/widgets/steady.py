"""Text that is replaced often and costs little: nothing is drawn when nothing changed.

Deliberately knows nothing of what it says.
"""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static


class Steady(Static):
    """Shows the ``Content`` it is given; asks for a new layout only when its height changes."""

    def __init__(self, content: str = "", *, id: str | None = None) -> None:
        super().__init__(content, id=id, markup=False)
        self._said = Content(content)

    def say(self, content: Content) -> None:
        """Show another text."""
        # most looks bring nothing new
        if content.is_same(self._said):
            return
        self._said = content
        self.update(content, layout=self._height_changes(content))

    def _height_changes(self, content: Content) -> bool:
        height = self.styles.height
        # a fixed height: the text cannot change the layout
        if height is not None and not height.is_auto:
            return False
        width = self.size.width
        # without a width nothing was laid out yet, so that there is no height to compare with
        return not width or content.get_height(self.styles.get_rules(), width) != self.size.height
