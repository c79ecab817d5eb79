"""The legal actions: as keys in a row, or as a list that filters as one types.

Deliberately knows nothing of tasks; says which action was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from vlmagent.tui.play.letters import ActionKey, keys_for
from vlmagent.tui.text import safe_line


class Chosen(Message):
    """An action was chosen."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self.action = action


class ActionChip(Static):
    """One action with its key; a click chooses it."""

    def __init__(self, entry: ActionKey) -> None:
        gap = " " if entry.label else ""
        label = Content.assemble((entry.shown, "bold $primary"), gap, safe_line(entry.label))
        super().__init__(label, markup=False)
        self._action = entry.action

    def on_click(self) -> None:
        self.post_message(Chosen(self._action))


class ActionPad(Vertical):
    """Shows the legal actions; ``takes_keys`` says whether a person is to choose.

    Once there were too many for a row of keys, it stays a list: what is typed to filter must never act by itself
    because fewer actions were left meanwhile.
    """

    DEFAULT_CSS = """
    ActionPad { height: auto; padding: 0 1; }
    ActionPad > #pad-keys { height: 1; }
    ActionPad ActionChip { width: auto; height: 1; padding: 0 1; }
    ActionPad ActionChip:hover { background: $primary-muted; }
    ActionPad.-resting ActionChip { opacity: 45%; }
    ActionPad > #pad-filter { height: 1; border: none; padding: 0; background: $boost; }
    ActionPad > #pad-list { height: auto; max-height: 8; border: none; padding: 0; background: transparent; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._actions: tuple[str, ...] = ()
        self._entries: list[ActionKey] = []
        self._keys: dict[str, str] = {}
        self._shown: list[str] = []
        # once True it stays so, see the class
        self._lists = False
        self.takes_keys = False

    @property
    def entries(self) -> list[ActionKey]:
        """The actions that have keys."""
        return list(self._entries)

    @property
    def is_list(self) -> bool:
        """Whether actions are chosen from a list."""
        return self._lists

    def compose(self) -> ComposeResult:
        yield Horizontal(id="pad-keys")
        yield Input(placeholder="type to filter the actions, enter takes one", id="pad-filter", compact=True)
        yield OptionList(id="pad-list", markup=False)

    def show(self, actions: Sequence[str], takes_keys: bool) -> None:
        """Show what is legal now."""
        # chips are widgets: made anew only for other actions, not at every step
        fresh, self.takes_keys = tuple(actions) != self._actions, takes_keys
        if fresh:
            self._actions = tuple(actions)
            entries = None if self._lists else keys_for(self._actions)
            # no actions at all, as after the end, are no reason for a list
            self._lists = self._lists or (entries is None and bool(actions))
            self._entries = entries or []
            self._keys = {key: entry.action for entry in self._entries for key in entry.keys}
            row = self.query_one("#pad-keys")
            row.remove_children()
            row.mount_all(ActionChip(entry) for entry in self._entries)
        self.set_class(not takes_keys, "-resting")
        self.query_one("#pad-keys").display = not self.is_list
        entry = self.query_one(Input)
        entry.display = self.query_one(OptionList).display = self.is_list and takes_keys
        if self.is_list and fresh:
            entry.value = ""
            self._fill()
        # a focus that something else has is not taken away
        if entry.display and self.screen.focused is None:
            entry.focus()
        elif not entry.display and self.screen.focused is entry:
            self.screen.set_focus(None)

    def action_of(self, event: events.Key) -> str | None:
        """The action that a key means now."""
        if not self.takes_keys:
            return None
        # by character first, which is what the action is called; arrows have names only
        return self._keys.get(event.character or "") or self._keys.get(event.key)

    # -- the list

    def _fill(self) -> None:
        """The actions that have all the words, those that begin so first."""
        text = self.query_one(Input).value.lower()
        words = text.split()
        passing = [action for action in self._actions if all(word in action.lower() for word in words)]
        # the sort is stable: otherwise the task's order
        self._shown = sorted(passing, key=lambda action: not action.lower().startswith(text.strip()))
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(safe_line(action)) for action in self._shown])
        options.highlighted = 0 if self._shown else None

    @on(Input.Changed)
    def _typed(self) -> None:
        self._fill()

    @on(Input.Submitted)
    def _entered(self) -> None:
        place = self.query_one(OptionList).highlighted
        if place is not None:
            self._choose(place)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self._choose(event.option_index)

    def _choose(self, place: int) -> None:
        # cleared before the action: the list must not open filtered in the next state
        self.query_one(Input).value = ""
        self.post_message(Chosen(self._shown[place]))

    def on_key(self, event: events.Key) -> None:
        """The arrows move through the list while one types."""
        if self.is_list and event.key in ("up", "down", "pageup", "pagedown"):
            # used up here: nothing above is to act on it as well
            event.stop()
            options = self.query_one(OptionList)
            moves: dict[str, Callable[[], None]] = {
                "up": options.action_cursor_up,
                "down": options.action_cursor_down,
                "pageup": options.action_page_up,
                "pagedown": options.action_page_down,
            }
            moves[event.key]()
