"""The table: a person, a checkpoint or an expert plays, others look on, advise, take over or play along.

Deliberately knows neither environments nor models: ``Game`` conducts the session.
"""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from typing import Any, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.css.query import NoMatches
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, Static

from vlmagent.errors import VlmAgentError
from vlmagent.play.messages import Died, Event, Ready, Refused, Writing
from vlmagent.play.plan import HINTS, SessionPlan
from vlmagent.play.session import THEM, YOU
from vlmagent.play.table import Moment
from vlmagent.tui.background import say_error
from vlmagent.tui.data.playback import Playback
from vlmagent.tui.keys import key
from vlmagent.tui.play.game import Game
from vlmagent.tui.play.mind import Mind, MindKeys
from vlmagent.tui.play.pad import ActionPad, Chosen
from vlmagent.tui.play.review import PlayReviewScreen
from vlmagent.tui.play.state_pane import StatePane, goal_of
from vlmagent.tui.play.status import last_line, leaving_question, score_line, title_line, whose_turn
from vlmagent.tui.play.typed import LETTERS, typing_bindings
from vlmagent.tui.screens.confirm import ConfirmScreen
from vlmagent.tui.screens.help import KeyHelp
from vlmagent.tui.screens.stepping import speed_bindings
from vlmagent.tui.settings import images_of
from vlmagent.tui.text import safe_line
from vlmagent.tui.widgets.picture import Picture
from vlmagent.tui.widgets.steady import Steady

HEIGHTS = [(0, "-low"), (30, "-high")]
WIDTHS = [(0, "-narrow"), (100, "-wide"), (160, "-huge")]
DRAW_SECONDS = 0.05  # between drawings of a text that grows
NEWER_SECONDS = 5.0  # between looks for a newer checkpoint
LOADING_SECONDS = 1.0  # the time spent on loading is shown in seconds
PAUSE_STEPS = 2.5
"""How many steps long the end of an episode is shown before the next one, while the opponent plays."""
WATCHING = ("pause", "step", "faster")
"""Commands for while the opponent acts."""


class Heard(Message):
    """The process that thinks said something."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event


class PlayScreen(Screen[None]):
    """One session of play.

    Args:
        plan: what is played.
    """

    CSS_PATH = "screen.tcss"
    AUTO_FOCUS = ""  # else the hidden line of the list would take the keys
    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    BINDINGS: ClassVar = [
        key("x", "hint", "Hint", "play.hint", "What the opponent would do here, and how sure it is"),
        key("X", "hints", "Hints", "play.hints", "When hints are shown: off, when asked for, always"),
        key("space", "pause", "Play", "play.pause", "Play or pause the opponent's steps"),
        key("right", "step", "Step", "play.step", "One step of the opponent", display="→"),
        *speed_bindings("play"),
        key("t", "seat", "Seat", "play.seat", "Take over from the opponent, or let it take over"),
        key("n,enter", "new", "New", "play.new", "The next episode"),
        key("N", "again", "Again", "play.again", "The same episode from its start", show=False),
        key("v", "review", "Review", "play.review", "The episode's moves beside the opponent's and the expert's"),
        key("r", "reload", "Reload", "play.reload", "Pick up a newer checkpoint; start whoever died again"),
        key("i", "prompt", "Prompt", "play.prompt", "What the agent is told in words, shown or hidden", show=False),
        key("z", "zoom", "Zoom", "play.zoom", "The picture alone, as large as it goes", show=False),
        key("ctrl+down", "text(2)", "Text on", "play.text-down", "Scroll the text of the state down", show=False),
        key("ctrl+up", "text(-2)", "Text back", "play.text-up", "Scroll the text of the state up", show=False),
        *typing_bindings(),
        key("escape", "leave", "Leave", "play.leave", "Leave the table; what was played is kept"),
        key("q", "quit", "Quit", "play.quit", "Leave the program; what was played is kept", show=False),
    ]  # fmt: skip

    def __init__(self, plan: SessionPlan) -> None:
        super().__init__()
        self.game = Game(plan, self._draw, self._post)
        self.playback = Playback(playing=plan.mode == "watch")
        self._step_wanted = False
        self._reviewed = False
        self._commands: tuple[object, ...] = ()
        self._clock: Timer | None = None
        self._drawing: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Steady(id="play-title")
        yield Steady(id="play-goal")
        yield Static("", id="play-problem", markup=False)
        with Horizontal(id="play-body"):
            yield Picture(mode=images_of(self.app), empty="", id="play-picture")
            with Vertical(id="play-right"):
                yield StatePane(id="play-state")
                yield Mind(id="play-mind")
        yield ActionPad(id="play-pad")
        yield Steady(id="play-last")
        yield Steady(id="play-score")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one("#play-problem").display = False
        if images_of(self.app) == "off":
            self.query_one(Picture).display = False
        self.query_one("#play-goal").display = False
        self.query_one("#play-title", Steady).say(Content("opening the session …"))
        self.set_interval(NEWER_SECONDS, lambda: self._do(self.game.look_for_newer()))
        self.set_interval(LOADING_SECONDS, self._draw_loading)
        self._do(self.game.open())

    async def on_unmount(self) -> None:
        """End the session; the log is complete afterwards."""
        with contextlib.suppress(VlmAgentError):
            await self.game.close()

    def on_screen_resume(self) -> None:
        self._draw()

    # -- what happens

    @work(group="play")
    async def _do(self, action: Coroutine[Any, Any, None]) -> None:
        """Something that takes a moment; what goes wrong is said."""
        try:
            await action
        except VlmAgentError as error:
            self.playback.playing = False
            self.game.problem = str(error)
            if self.game.you is None:
                self.query_one("#play-title", Steady).say(Content("the session could not be opened"))
            self._draw()

    def _post(self, event: Event) -> None:
        """Called on another thread."""
        self.post_message(Heard(event))

    @on(Heard)
    def _heard(self, message: Heard) -> None:
        event = message.event
        self.game.heard(event)
        if isinstance(event, Writing):
            # tokens come faster than they can be drawn: one drawing for all within the time
            if self._drawing is None:
                self._drawing = self.set_timer(DRAW_SECONDS, self._draw_mind)
            return
        if isinstance(event, Ready):
            words = "is ready" if event.changed else "is still the newest checkpoint"
            self.notify(f"{event.actor} {words}.", markup=False, timeout=3)
        elif isinstance(event, Refused):
            say_error(self.app, event.words)
        elif isinstance(event, Died):  # what it thought before may still fill the pane
            say_error(self.app, event.words, seconds=5.0)
        self._draw()

    def on_key(self, event: events.Key) -> None:
        """A key of an action."""
        with contextlib.suppress(NoMatches):
            # stopped here, so that a letter that is both an action and a command is the action
            action = self.query_one(ActionPad).action_of(event)
            if action is not None:
                event.stop()
                event.prevent_default()
                self._choose(action)

    @on(Chosen)
    def _chosen(self, message: Chosen) -> None:
        if self.game.your_turn:
            self._choose(message.action)

    def _choose(self, action: str) -> None:
        """Take an action; what is still being written about the state it leaves need not be drawn before it."""
        if self._drawing is not None:
            self._drawing.stop()
            self._drawing = None
        self._do(self.game.choose(action))

    def _go_on(self) -> None:
        """Let the opponent act when its time has come."""
        game = self.game
        if game.can_take(THEM):  # its own table waits for no clock
            self._do(game.take(THEM))
        if game.versus and game.settled and not self._reviewed and self.is_current:
            self._reviewed = True
            self.action_review()
        if game.can_take(YOU) and self._step_wanted:
            self._step_wanted = False
            self._do(game.take(YOU))
        elif self._clock is None and self.playback.playing and game.can_take(YOU):
            self._clock = self.set_timer(1 / self.playback.speed, self._due)
        elif self._clock is None and self.playback.playing and game.seat == "opponent" and game.settled:
            self._clock = self.set_timer(PAUSE_STEPS / self.playback.speed, self._due)

    def _due(self) -> None:
        """The opponent's time has come."""
        self._clock = None
        if self.playback.playing and self.game.can_take(YOU):
            self._do(self.game.take(YOU))
        elif self.playback.playing and self.game.seat == "opponent" and self.game.settled and self.is_current:
            self._do(self._next_episode())

    async def _next_episode(self, again: bool = False) -> None:
        self._reviewed, self.game.problem = False, ""
        await self.game.begin(again=again)

    # -- showing

    def _draw(self) -> None:
        """Everything, from the game."""
        with contextlib.suppress(NoMatches):  # the screen was closed meanwhile
            self._draw_problem()
            you = self.game.you
            if you is not None:
                self._draw_table(you)
            self._draw_mind()
            self._draw_keys()
            self._go_on()

    def _draw_table(self, you: Moment) -> None:
        game = self.game
        self.query_one(Picture).show(you.observation.image, moving=game.seat == "opponent")
        self.query_one(ActionPad).show(you.observation.legal_actions, game.your_turn)
        self.query_one(StatePane).show(you)
        goal, line = goal_of(you), self.query_one("#play-goal", Steady)
        line.display = bool(goal)
        line.say(Content.assemble(("goal  ", "$foreground-muted"), safe_line(goal, style="bold")))
        width = self.size.width - 2  # both lines have one cell of air at either end
        turn = whose_turn(game, self.playback)
        self.query_one("#play-title", Steady).say(title_line(game, you, width))
        self.query_one("#play-last", Steady).say(last_line(game, you, turn, width))
        self.query_one("#play-score", Steady).say(score_line(game, self.playback))

    def _draw_mind(self) -> None:
        self._drawing = None
        with contextlib.suppress(NoMatches):
            typed = MindKeys(*(LETTERS[name][0] for name in ("hint", "hints", "reload")))
            self.query_one(Mind).show(self.game, typed if self.query_one(ActionPad).is_list else MindKeys())

    def _draw_keys(self) -> None:
        """The footer, which costs more than a step, when other commands than before do something."""
        game = self.game
        lists = self.query_one(ActionPad).is_list
        commands = (game.seat, game.your_turn, game.opponent, game.hints, game.asked, lists)
        if commands != self._commands:  # most steps change none
            self._commands = commands
            self.refresh_bindings()

    def _draw_loading(self) -> None:
        """How long loading has taken, while it goes on."""
        if self.game.desk.state == "loading":
            self._draw_mind()

    def _draw_problem(self) -> None:
        problem = self.query_one("#play-problem", Static)
        problem.display = bool(self.game.problem)
        problem.update(safe_line(self.game.problem))

    # -- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Which keys do something now."""
        game = self.game
        if action == "typed":
            typing = game.your_turn and bool(self.query(ActionPad)) and self.query_one(ActionPad).is_list
            return typing and self.check_action(str(parameters[0]), ()) is not False
        if action in WATCHING:
            return game.seat == "opponent"
        if action == "seat":
            return game.opponent is not None and not game.versus
        if action == "hint":
            return game.your_turn and game.hints == "ask" and not game.asked
        return True

    async def action_typed(self, name: str) -> None:
        """What the letter does that cannot be typed now."""
        await self.run_action(name)

    def action_hint(self) -> None:
        self.game.ask()

    def action_hints(self) -> None:
        self.game.change_hints(HINTS[(HINTS.index(self.game.hints) + 1) % len(HINTS)])

    def action_pause(self) -> None:
        self.playback.playing = not self.playback.playing
        self._draw()

    def action_step(self) -> None:
        """One step of the opponent, as soon as it has decided; after the end, the next episode."""
        self.playback.playing = False
        if self.game.settled:
            self._do(self._next_episode())
        else:
            # `_go_on` does it when the decision is there
            self._step_wanted = True
            self._draw()

    def action_faster(self, levels: int) -> None:
        self.playback.faster(levels)
        self._draw()

    def action_seat(self) -> None:
        self._step_wanted = False
        self.game.change_seat()

    @work(group="new", exclusive=True)
    async def action_new(self) -> None:
        if self.game.you is not None and await self._may_leave("Begin another episode"):
            self._do(self._next_episode())

    @work(group="new", exclusive=True)
    async def action_again(self) -> None:
        if self.game.you is not None and await self._may_leave("Begin this episode again"):
            self._do(self._next_episode(again=True))

    @work(group="new", exclusive=True)
    async def action_leave(self) -> None:
        """Leave the zoom, else the table."""
        if self.has_class("-zoomed"):
            self.remove_class("-zoomed")
        elif await self._may_leave("Leave the table"):
            self.dismiss(None)

    @work(group="new", exclusive=True)
    async def action_quit(self) -> None:
        """Leave the program: not at once, for whoever holds a queen may mean the card."""
        if await self._may_leave("Leave the program"):
            self.app.exit()

    async def _may_leave(self, what: str) -> bool:
        """Whether an episode that a person has begun may be left unfinished."""
        question = leaving_question(self.game)
        if question is None:
            return True
        answer: bool | None = await self.app.push_screen_wait(ConfirmScreen(question, what, "Play on"))
        return bool(answer)

    def action_review(self) -> None:
        if self.game.you is not None:
            self.app.push_screen(PlayReviewScreen(self.game), self._reviewed_it)

    def _reviewed_it(self, goes_on: bool | None) -> None:
        if goes_on:
            self.action_new()

    def action_reload(self) -> None:
        """A newer checkpoint, or a new process."""
        self._do(self.game.reload())

    def action_prompt(self) -> None:
        pane = self.query_one(StatePane)
        pane.prompt = not pane.prompt
        self._draw()

    def action_text(self, lines: int) -> None:
        self.query_one(StatePane).move(lines)

    def action_zoom(self) -> None:
        self.toggle_class("-zoomed")

    def more_keys(self) -> list[KeyHelp]:
        """The keys of the actions, for the help."""
        entries = self.query_one(ActionPad).entries
        return [KeyHelp(entry.shown, f"Choose {entry.action}", "actions") for entry in entries]
