"""The numbers of one step in words: action, reward, value, advantage, the three log-probs.

Deliberately reads nothing: it is handed rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.widgets import Static

from vlmagent.store.rows import TransitionRow
from vlmagent.tui.data.step_text import WIDE, step_facts


class StepFacts(Static):
    """A small table of the step shown; its labels shrink with its width."""

    DEFAULT_CSS = """
    StepFacts { height: auto; width: 1fr; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, *, brief: bool = False, id: str | None = None) -> None:
        super().__init__("", id=id, markup=False)
        self._brief = brief
        self._shown: tuple[Sequence[TransitionRow], int, float | None] | None = None

    def show(self, steps: Sequence[TransitionRow], at: int, weight: float | None = None) -> None:
        """Show step ``at``.

        Args:
            weight: of the thoughts in the sum of log-probs, where it is known.
        """
        # kept, because the labels depend on the width
        self._shown = (steps, at, weight)
        self.update(step_facts(steps, at, None if self._brief else weight, self.content_size.width or WIDE))

    def clear(self) -> None:
        """Show nothing."""
        self._shown = None
        self.update("")

    def on_resize(self) -> None:
        if self._shown is not None:
            self.show(*self._shown)
