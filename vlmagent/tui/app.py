"""The dashboard's application: opens the first screen, knows the themes and what every screen has.

Deliberately knows neither SQL nor training; never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import SystemCommand
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

from vlmagent.errors import unknown_choice
from vlmagent.paths import Run
from vlmagent.tui import preload
from vlmagent.tui.keymap import read_keys
from vlmagent.tui.keys import key
from vlmagent.tui.messages import OpenTrain
from vlmagent.tui.navigate import OpeningApp
from vlmagent.tui.settings import load_theme, save_theme
from vlmagent.tui.themes import DEFAULT, THEMES
from vlmagent.tui.widgets.picture import IMAGE_MODES

# long enough to read a sentence or two
KEYS_SECONDS = 15.0


class VlmAgentApp(OpeningApp):
    """The workbench beside a run.

    Args:
        run: the folder of the run to open at once; None stays at the list of runs.
        images: how pictures are drawn, one of ``IMAGE_MODES``.
        notice: a sentence to show at the beginning.
    """

    TITLE = "vlmagent"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar = [
        key("question_mark", "help", "Help", "app.help", "All keys of this screen", display="?"),
        key("q", "quit", "Quit", "app.quit", "Leave the dashboard; runs go on", show=False),
        key("ctrl+t", "next_theme", "Theme", "app.theme", "Dark or light", show=False),
    ]

    def __init__(self, run: Run | None = None, images: str = "half", *, notice: str = "") -> None:
        if images not in IMAGE_MODES:
            raise unknown_choice("way to draw pictures", images, IMAGE_MODES)
        super().__init__()
        self.run_folder = run
        self.images = images
        self._notice = notice
        # a movement drawn in many frames would take time from the training beside it
        self.animation_level = "none"
        for theme in THEMES:
            self.register_theme(theme)
        # a theme that is not registered (any more) would be refused with an exception
        known = load_theme()
        self.theme = known if known in self.available_themes else DEFAULT

    def on_mount(self) -> None:
        """Open what is to be seen first."""
        self._take_keys()
        self.open_first()
        if self._notice:
            self.notify(self._notice, markup=False)

    def _take_keys(self) -> None:
        """Keys of one's own, and what is wrong with them."""
        own = read_keys()
        if own.keys:
            self.set_keymap(own.keys)
        if own.notice:
            self.notify(own.notice, severity="warning", markup=False, timeout=KEYS_SECONDS)

    def handle_bindings_clash(self, clashed_bindings: set[Binding], node: DOMNode) -> None:
        """Nothing: Textual asks at every look at the keys, and clashes were told once, when their file was read."""

    def on_ready(self) -> None:
        """Where people watch, for hours: keep frames in time."""
        if not self.is_headless:
            self.set_timer(preload.AFTER_SECONDS, preload.spare_what_stays)

    def open_first(self) -> None:
        """The list of runs, and on top of it the run that was asked for."""
        # imported here, because `vlmagent play` replaces this method and shows no list
        from vlmagent.tui.screens.runs import RunsScreen

        self.push_screen(RunsScreen(self.run_folder))
        if self.run_folder is not None:
            self.open_train(OpenTrain(self.run_folder))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """What the screen's keys do, by name, then what every Textual application has."""
        # one binding stands here once for each of its keys; `system` marks Textual's own and the digits that seek
        seen: set[str] = set()
        for active in screen.active_bindings.values():
            binding = active.binding
            if active.enabled and binding.tooltip and not binding.system and binding.id not in seen | {None}:
                seen.add(str(binding.id))
                title = f"{binding.description}: {binding.tooltip}"  # the palette looks through titles only
                pressed = f"key {self.get_key_display(binding)}"
                # the node is where the action is looked up: `move` of a chart is not `move` of its screen. Both are
                # defaults of the lambda, so that each command keeps its own and not the last ones of the loop
                action, node = binding.action, active.node
                yield SystemCommand(title, pressed, lambda a=action, n=node: self.run_action(a, n))
        yield from super().get_system_commands(screen)

    def action_help(self) -> None:
        """Show the keys of the present screen."""
        from vlmagent.tui.screens.help import HelpScreen, KeyHelp, keys_of

        if not isinstance(self.screen, HelpScreen):
            name = type(self.screen).__name__.removesuffix("Screen").lower()
            # the table of `vlmagent play` has keys that are no bindings: those of the actions, which change with the
            # state
            more: list[KeyHelp] = getattr(self.screen, "more_keys", list)()
            self.push_screen(HelpScreen(name, [*more, *keys_of(self.screen)]))

    def action_next_theme(self) -> None:
        """The other of our own themes."""
        # one of Textual's themes may have been chosen in the palette: from there the key leads back to the first of
        # these
        names = [theme.name for theme in THEMES]
        self.theme = names[(names.index(self.theme) + 1) % len(names)] if self.theme in names else names[0]

    def watch_theme(self, theme: str) -> None:
        """Remember the choice."""
        # the constructor sets the theme as well, which is nobody's choice
        if self.is_running:
            save_theme(theme)
