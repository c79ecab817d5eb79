"""Key bindings, each with an id (so that keymaps can change it) and a tooltip (for the footer and the help)."""

from __future__ import annotations

from textual.binding import Binding


def key(
    keys: str,
    action: str,
    description: str,
    id: str,
    tooltip: str,
    *,
    show: bool = True,
    display: str | None = None,
) -> Binding:
    """A binding.

    Args:
        keys: one key or several, separated by commas.
        id: unique, such as ``train.smooth``.
        show: in the footer; all are in the help and the command palette.
        display: how the footer writes the key.
    """
    return Binding(keys, action, description, show=show, key_display=display, id=id, tooltip=tooltip)
