"""One episode, step by step: what the agent saw, wrote and did, with the numbers of every token.

Deliberately knows no SQL and no tokenizer: ``ReplayFeed`` reads, ``Playback`` keeps the position.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.css.query import NoMatches
from textual.timer import Timer
from textual.widgets import Footer, Static

from vlmagent.errors import StoreError, VlmAgentError
from vlmagent.paths import Run
from vlmagent.store.rows import TransitionRow
from vlmagent.tui.data.replay_feed import ReplayFeed
from vlmagent.tui.data.step_text import outcome
from vlmagent.tui.data.story import Story
from vlmagent.tui.data.trail import Place, Trail
from vlmagent.tui.keys import key
from vlmagent.tui.messages import OpenPlay
from vlmagent.tui.screens.stepping import SteppingScreen, seek_bindings, speed_bindings
from vlmagent.tui.settings import images_of
from vlmagent.tui.text import fitted, safe, safe_line, safe_text
from vlmagent.tui.widgets.picture import Picture
from vlmagent.tui.widgets.step_facts import StepFacts
from vlmagent.tui.widgets.timeline import Timeline, mark_of
from vlmagent.tui.widgets.tokens import Tokens

WIDTHS = [(0, "-narrow"), (100, "-wide"), (160, "-huge")]
HEIGHTS = [(0, "-low"), (32, "-high")]
# between looks at an episode that is still running
LIVE_SECONDS = 1.0
# before it is said that more of the list is being read: mostly it is there sooner
PATIENCE_SECONDS = 0.5


class ReplayScreen(SteppingScreen[Place]):
    """Replays an episode; dismissed with the place of its trail where it stood last.

    Args:
        run: the run's folder.
        episode_id: the episode to begin with.
        database: where it is; the run's own database by default, else one of its evaluations.
        trail: the episodes that next and previous go through; all of the database by default.
        step: the step to begin with.
    """

    CSS_PATH = "replay.tcss"
    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    BINDINGS: ClassVar = [
        key("space", "play", "Play", "replay.play", "Play or pause"),
        key("left", "move(-1)", "Back", "replay.back", "One step back", show=False, display="←"),
        key("right", "move(1)", "Step", "replay.on", "One step on", show=False, display="→"),
        key("home", "seek(0)", "First", "replay.first", "To the first step", show=False),
        # beyond every episode: `seek` stops at the last step
        key("end", "seek(1000000)", "Last", "replay.last", "To the last step", show=False),
        *seek_bindings("replay"),
        *speed_bindings("replay"),
        key("n", "follow(1)", "Next", "replay.next", "Next episode"),
        key("N", "follow(-1)", "Previous", "replay.previous", "Previous episode", show=False),
        key("p", "play_on", "Play on", "replay.play-on", "Play on from the state shown", show=False),
        key("full_stop", "token(1)", "Token", "replay.next-token", "Next token", display="."),
        key("comma", "token(-1)", "Token", "replay.previous-token", "Previous token", show=False, display=","),
        key("w", "worst", "Worst", "replay.worst", "To the least probable token of this output"),
        key("i", "pane('prompt')", "Prompt", "replay.prompt", "The prompt, shown or hidden"),
        key("t", "pane('thoughts')", "Thoughts", "replay.thoughts", "The thoughts, shown or hidden", show=False),
        key("y", "copy('output')", "Copy", "replay.copy", "Copy the output"),
        key("Y", "copy('prompt')", "Copy prompt", "replay.copy-prompt", "Copy the prompt", show=False),
        key("g", "export('gif')", "GIF", "replay.gif", "Export the episode as an animated GIF"),
        key("x", "export('html')", "HTML", "replay.html", "Export the episode as one web page"),
        key("up", "scroll_text(-1)", "Up", "replay.up", "Scroll the output up", show=False),
        key("down", "scroll_text(1)", "Down", "replay.down", "Scroll the output down", show=False),
        key("pageup", "page(-1)", "Page up", "replay.page-up", "Scroll prompt or output up", show=False),
        key("pagedown", "page(1)", "Page down", "replay.page-down", "Scroll prompt or output down", show=False),
        key("escape", "back", "Back", "replay.close", "Close the token's facts, else go back"),
    ]  # fmt: skip

    def __init__(
        self,
        run: Run,
        episode_id: int,
        *,
        database: Path | None = None,
        trail: Trail | None = None,
        step: int = 0,
    ) -> None:
        super().__init__()
        self.feed = ReplayFeed(run, database, trail, (episode_id, step))
        self._live: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Static("", id="replay-title", markup=False)
        yield Static("", id="replay-problem", markup=False)
        with Horizontal(id="replay-body"):
            with Vertical(id="replay-left"):
                yield Picture(mode=images_of(self.app), id="replay-picture")
                yield StepFacts(id="replay-facts")
            with Vertical(id="replay-right"):
                for name in ("prompt", "thoughts"):
                    with VerticalScroll(id=f"replay-{name}", can_focus=False) as pane:
                        pane.border_title = name
                        yield Static("", markup=False)
                yield Tokens(id="replay-tokens")
        yield Static("", id="replay-note", markup=False)
        yield Timeline(id="replay-timeline")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one("#replay-problem").display = False
        self.query_one("#replay-note").display = False
        self.query_one("#replay-prompt").display = False
        if images_of(self.app) == "off":
            self.query_one(Picture).display = False
        # paused until an episode turns out to be running
        self._live = self.set_interval(LIVE_SECONDS, self._look_again, pause=True)
        self._show_title()
        self._load(*self.feed.place)

    def on_unmount(self) -> None:
        self.feed.close()

    @property
    def story(self) -> Story | None:
        """The episode shown."""
        return self.feed.story

    @property
    def episode_id(self) -> int:
        """Its id, also before it was read."""
        return self.feed.place[0] if self.story is None else self.story.episode.id

    @property
    def row(self) -> TransitionRow | None:
        """The step shown."""
        return self.story.steps[self.playback.at] if self.story else None

    @property
    def marks(self) -> Sequence[str]:
        """What each step earned."""
        return [mark_of(row.reward) for row in self.story.steps] if self.story else ()

    # -- reading

    @work(group="load", exclusive=True)
    async def _load(self, episode_id: int, step: int | None = 0) -> None:
        """Read an episode and show a step of it; None stays at the present one and follows a running one."""
        try:
            story = await self.feed.load(episode_id, step)
        # what was shown stays: the database may only be locked
        except StoreError as error:
            self._say_problem(str(error))
            return
        with contextlib.suppress(NoMatches):  # the screen was closed meanwhile
            self._take(story, step)

    def _take(self, story: Story, step: int | None) -> None:
        if step is None:  # more of the same episode: whoever was at its end stays there
            # asked before `resize`: the end of what was known so far
            step = len(story.steps) if self.playback.last else self.playback.at
        self._say_problem("")
        # first the number of steps, which bounds where `seek` goes
        self.playback.resize(len(story.steps))
        self.playback.seek(step)
        if self._live is not None and story.episode.ended == "running":
            self._live.resume()
        elif self._live is not None:
            self._live.pause()
        self._show_title()
        self._show_step()
        self._fetch_ahead()

    def _look_again(self) -> None:
        """The episode is still running: there may be more of it."""
        # covered by another screen it rests
        if self.is_current:
            self._load(self.episode_id, None)

    @work(group="image", exclusive=True)
    async def _fetch_image(self, row: TransitionRow) -> None:
        image = None
        with contextlib.suppress(StoreError):
            image = await self.feed.image(row.image_sha256)
        with contextlib.suppress(NoMatches):
            # the user may have gone on while the picture was read
            if self.row is row:
                self.query_one(Picture).show(image, moving=self.playback.playing)

    @work(group="ahead", exclusive=True)
    async def _fetch_ahead(self) -> None:
        with contextlib.suppress(StoreError):  # the step that lacks its picture says so
            await self.feed.fetch_ahead()

    # -- showing

    def _show_title(self) -> None:
        """Name, place and numbers on one line; where it is narrow, the name is cut and the numbers stay."""
        feed, story = self.feed, self.story
        parts: list[Content | str | tuple[str, str]] = [f"  episode {self.episode_id:,}"]
        position = feed.position()
        if position is not None:
            parts.append((f" ({position[0]:,} of {position[1]})", "$foreground-muted"))
        if story is not None:
            episode = story.episode
            parts += ["  ", outcome(episode, len(story.steps))]
            update = f" · update {episode.update_index}" if episode.update_index is not None else ""
            parts.append((f"  {episode.split} · seed {episode.seed}{update}", "$foreground-muted"))
        # one cell of air at either end of the line
        facts, room = Content.assemble(*parts), self.size.width - 2
        left = room - facts.cell_length
        if feed.is_runs_own:
            names = [fitted(feed.run.name, left, most=40, style="bold")]
        else:  # two names share what is left
            names = [fitted(feed.run.name, left // 2 - 2, least=6, most=40, style="bold"), Content("  ")]
            rest = left - names[0].cell_length - 2
            names.append(fitted(feed.database.stem, rest, least=6, most=50, style="$primary"))
        self.query_one("#replay-title", Static).update(Content.assemble(*names, facts))

    def on_resize(self) -> None:
        self._show_title()

    def _say_problem(self, text: str) -> None:
        with contextlib.suppress(NoMatches):
            problem = self.query_one("#replay-problem", Static)
            problem.display = bool(text)
            problem.update(safe_line(text))

    def _show_step(self) -> None:
        """Everything that depends on the step."""
        row, story = self.row, self.story
        if row is None or story is None:
            return
        # drawn at once where it is kept: a worker would show the new text beside the old picture for a moment
        image = self.feed.known_image(row.image_sha256)
        if image is None:
            self._fetch_image(row)
        else:
            self.query_one(Picture).show(image, moving=self.playback.playing)
        self.query_one(StepFacts).show(story.steps, self.playback.at, self.feed.weight)
        self.query_one(Tokens).show(row, story.pieces.get(row.id))
        thoughts = self.query_one("#replay-thoughts Static", Static)
        thoughts.update(
            safe_text(row.thoughts) if row.thoughts else Content.styled("none", "$foreground-muted")
        )
        # hidden at first, and often the longest text of the screen: not laid out for nobody
        if self.query_one("#replay-prompt").display:
            self.query_one("#replay-prompt Static", Static).update(safe_text(row.prompt))
        self._show_playing()

    # -- actions

    def action_follow(self, by: int) -> None:
        # without a list, episodes follow each other by their numbers
        if self.feed.trail is None:
            self._go_to_neighbour(by)
            return
        following = self.feed.following(by)
        if following is None:
            self._go_beyond(self.feed.trail, by)
        else:
            self._go_to(following)

    @work(group="load", exclusive=True)
    async def _go_beyond(self, trail: Trail, by: int) -> None:
        """The place after the last one known, or before the first."""
        # the search may take seconds in a ranking that is filtered strongly
        waiting = self.set_timer(PATIENCE_SECONDS, lambda: self._note("Looking further …"))
        try:
            found = await trail.extend(by)
        except StoreError as error:
            self._say_problem(str(error))
            return
        finally:
            waiting.stop()
            self._note("")
        following = self.feed.following(by) if found else None
        if following is not None:
            self._go_to(following)
        else:
            self._show_title()
            self.notify(f"This was the {'last' if by > 0 else 'first'} episode of the list.", timeout=3)

    @work(group="load", exclusive=True)
    async def _go_to_neighbour(self, by: int) -> None:
        # episodes are numbered in the order in which they began
        wanted = self.episode_id + by
        try:
            found = await self.feed.has_episode(wanted)
        except StoreError as error:
            self._say_problem(str(error))
            return
        if found:
            self._go_to((wanted, 0))
        else:
            self.notify(f"There is no {'later' if by > 0 else 'earlier'} episode yet.", timeout=3)

    def _go_to(self, place: Place) -> None:
        self._note("")
        # whoever jumps to an episode wants to look at its first step
        self.playback.playing = False
        self._load(*place)

    def action_token(self, by: int) -> None:
        self.query_one(Tokens).move(by)

    def action_worst(self) -> None:
        self.query_one(Tokens).move_to_worst()

    def action_pane(self, name: str) -> None:
        pane = self.query_one(f"#replay-{name}")
        pane.display = not pane.display
        # a pane that was hidden has the text of an earlier step
        self._show_step()

    def action_scroll_text(self, lines: int) -> None:
        self.query_one(Tokens).scroll_text(lines)

    def action_page(self, pages: int) -> None:
        """Scroll the prompt, or the output, by a page."""
        prompt = self.query_one("#replay-prompt", VerticalScroll)
        if prompt.display:
            # one line of the old page stays in sight, to find the place again
            prompt.scroll_relative(y=pages * max(1, prompt.size.height - 1), animate=False)
        else:
            tokens = self.query_one(Tokens)
            tokens.scroll_text(pages * max(1, tokens.size.height - 2))

    def action_copy(self, what: str) -> None:
        if self.row is not None:
            self.app.copy_to_clipboard(self.row.output if what == "output" else self.row.prompt)
            self.notify(f"Copied the {what} of step {self.playback.at + 1}.", timeout=3)

    @work(group="export")
    async def action_export(self, kind: str) -> None:
        # kept: the user may go on to another episode while this one is written
        story = self.story
        if story is None:
            return
        target = self.feed.export_target(kind)
        self._note(f"Writing {target} …")
        try:
            path = await self.feed.export(story, kind, target)
        except VlmAgentError as error:
            self._note(str(error), bad=True)
            return
        self._note(f"Written: {path}")

    def _note(self, text: str, bad: bool = False) -> None:
        """One line above the timeline that stays until the next one."""
        with contextlib.suppress(NoMatches):
            note = self.query_one("#replay-note", Static)
            note.display = bool(text)
            note.update(Content.styled(safe(text, 500, lines=False), "$error" if bad else "$success"))

    def action_play_on(self) -> None:
        if self.row is not None:
            self.post_message(
                OpenPlay(self.feed.run, self.feed.database, (self.row.episode_id, self.row.step))
            )

    def action_back(self) -> None:
        """Leave the token, else the screen."""
        tokens = self.query_one(Tokens)
        if tokens.cursor >= 0:
            tokens.move_to(-1)
        elif len(self.app.screen_stack) > 1:
            self.dismiss(self.feed.place)
