"""A session as the play screen conducts it: who is to act, what is asked of whoever thinks, what is known.

All of it runs on the screen's own thread; the tables and the log are stepped on another one, thinking is another
process. Deliberately knows no widget: it is told when to act and says when something changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vlmagent.config import Config
from vlmagent.errors import StoreError
from vlmagent.play.client import ThinkingProcess
from vlmagent.play.desk import Desk, Opinion, Place, place_of
from vlmagent.play.messages import Event
from vlmagent.play.plan import Hints, Opponent, SessionPlan, find_opponent, run_config
from vlmagent.play.score import Score
from vlmagent.play.session import THEM, YOU, PlaySession
from vlmagent.play.table import Moment
from vlmagent.training.saved import newest_checkpoint
from vlmagent.tui.data.source import Worker

Seat = Literal["human", "opponent"]
# the actor of a person's steps, as the log has it
HUMAN = "human"


@dataclass(frozen=True, slots=True)
class Choice:
    """One step of a person, what the opponent would have done there, and what the expert.

    Attributes:
        theirs, expert: None where it is not known (yet), or there is no expert.
    """

    before: Moment
    action: str
    reward: float
    theirs: str | None
    expert: str | None


class Game:
    """One session.

    Args:
        plan: what is played.
        changed: called after every change that ``heard`` does not tell of.
        post: called on another thread with every event of the process that thinks; hands it to ``heard``.

    Attributes:
        moments: where each table stands; empty before the session is open.
        seat: who acts at the first table.
        hints: when the opponent's opinion is shown to a person.
        asked: whether it was asked for in the present state.
        problem: what went wrong last, one sentence; "" when nothing did.
        newer: the name of a checkpoint that is newer than the one that thinks, or None.
    """

    def __init__(self, plan: SessionPlan, changed: Callable[[], None], post: Callable[[Event], None]) -> None:
        self.plan = plan
        self.hints: Hints = plan.hints
        self.seat: Seat = "opponent" if plan.mode == "watch" else "human"
        self.opponent = plan.opponent
        self.advice = plan.advice
        self._config = plan.config
        self.desk = Desk(plan.seed)
        self.moments: tuple[Moment, ...] = ()
        self.asked = False
        self.problem = ""
        self.newer: str | None = None
        self.score = Score()
        self._changed = changed
        self._post = post
        self._worker = Worker("play")
        self.session: PlaySession | None = None
        self._process: ThinkingProcess | None = None
        # where the first table stood before each step made here, and where it stands; steps that a continued episode
        # began with are not in it
        self._path: list[Moment] = []
        # by state: what the opponent would do there, and what the expert; of this episode only
        self._theirs: dict[Place, str] = {}
        self._experts: dict[Place, str | None] = {}
        # tables that are being stepped on the other thread: a second decision would be for a state that is gone
        self._stepping: set[int] = set()

    # -- opening and closing

    async def open(self) -> None:
        """Begin the session.

        Raises:
            VlmAgentError: it cannot begin.
        """
        self._begun(await self._worker.call(self._make))

    async def close(self) -> None:
        """End the session and the process; the log is complete when this returns."""
        # first the process: an answer that comes while the log is closed is for nobody
        if self._process is not None:
            self._process.close()
            self._process = None
        await self._worker.call(self._finish)
        self._worker.close()

    # -- looking

    @property
    def versus(self) -> bool:
        """Whether there is a second table."""
        return self.plan.mode == "versus"

    @property
    def you(self) -> Moment | None:
        """Where the first table stands, at which a person sits or looks on; None before the session is open."""
        return self.moments[YOU] if self.moments else None

    @property
    def them(self) -> Moment | None:
        """Where the opponent's own table stands; None unless both play."""
        return self.moments[THEM] if len(self.moments) > THEM else None

    @property
    def over(self) -> bool:
        """Whether the episode at the first table has ended."""
        return self.you is not None and self.you.end is not None

    @property
    def settled(self) -> bool:
        """Whether every table's episode has ended."""
        return bool(self.moments) and all(moment.end is not None for moment in self.moments)

    @property
    def your_turn(self) -> bool:
        """Whether a person is to act."""
        return self.seat == "human" and self.you is not None and not self.over

    @property
    def opinion(self) -> Opinion | None:
        """Of the present state at the first table; once it is over, of the one before the last step."""
        if self.you is None:
            return None
        # nobody is asked about the end of an episode: beside it stands what was thought of the last decision
        seed, actions = place_of(self.you)
        return self.desk.opinion((seed, actions[:-1] if self.over else actions))

    @property
    def shows_opinion(self) -> bool:
        """Whether a person may see it."""
        # an opponent that plays hides nothing; a person sees it as the hints are set
        asked = self.hints == "on" or (self.hints == "ask" and self.asked)
        return self.seat == "opponent" or (asked and not self.over)

    def can_take(self, index: int) -> bool:
        """Whether it is the opponent's turn at a table, and it has decided."""
        if index >= len(self.moments) or index in self._stepping or (index == YOU and self.seat == "human"):
            return False
        moment = self.moments[index]
        opinion = self.desk.opinion(place_of(moment))
        return moment.end is None and opinion is not None and opinion.done and opinion.decision is not None

    @property
    def alike(self) -> tuple[int, int]:
        """How often both chose the same so far, and in how many states both did."""
        same, compared = self._compare()
        return self.score.alike + same, self.score.compared + compared

    async def choices(self) -> list[Choice]:
        """The person's steps of this episode beside the opponent's and the expert's."""
        found, session = [], self.session
        you = self.you
        if you is None or session is None:
            return []
        # the path has the present state too, one more than steps made here: those are the last `len(path) - 1`
        first = len(you.steps) - len(self._path) + 1
        for before, step in zip(self._path, you.steps[first:], strict=False):
            if step.actor == HUMAN:
                # on the other thread: some experts search, which takes longer than a frame
                expert = await self._expert(session, before)
                theirs = self._theirs.get(place_of(before))
                found.append(Choice(before, step.action, step.reward, theirs, expert))
        return found

    async def _expert(self, session: PlaySession, moment: Moment) -> str | None:
        """The expert's move in a state, which is looked for once."""
        place = place_of(moment)
        if place not in self._experts:
            self._experts[place] = await self._worker.call(lambda: session.expert(moment))
        return self._experts[place]

    # -- acting

    async def choose(self, action: str) -> None:
        """A person's action; nothing happens when it is not legal (any more)."""
        session = self.session
        if session is not None and self.seat == "human":
            moment = await self._worker.call(lambda: session.choose(action))
            if moment is not None:
                self._moved(YOU, moment)

    async def take(self, index: int = YOU) -> None:
        """Carry out what the opponent has decided for a table."""
        session, moment = self.session, self.moments[index]
        opinion = self.desk.opinion(place_of(moment))
        if session is None or opinion is None or opinion.decision is None or index in self._stepping:
            return
        # taken before waiting: the session refuses the decision if the table has gone on meanwhile
        decision, where = opinion.decision, place_of(moment)
        self._stepping.add(index)
        try:
            moved = await self._worker.call(lambda: session.take(index, decision, where))
        finally:
            self._stepping.discard(index)
        if moved is not None:
            self._moved(index, moved)

    async def begin(self, *, again: bool = False) -> None:
        """The next episode, or the same once more."""
        session = self.session
        if session is not None:
            # counted before the new deal: what both chose is forgotten with the episode
            same, compared = self._compare()
            moments = await self._worker.call(lambda: session.begin(again=again))
            # after the deal, because where that fails the old episode goes on and would count twice
            self.score = self.score.with_choices(same, compared)
            self._begun(moments)

    def change_seat(self) -> None:
        """The opponent takes over, or gives back."""
        self.seat = "human" if self.seat == "opponent" else "opponent"
        self.think()
        self._changed()

    def change_hints(self, hints: Hints) -> None:
        """Show the opponent's opinion at other times."""
        self.hints = hints
        self.think()
        self._changed()

    def ask(self) -> None:
        """Show what the opponent would do here."""
        self.asked = True
        self.think()
        self._changed()

    def think(self) -> None:
        """Ask whatever is to be known now; called after every change."""
        you, them = self.you, self.them
        if you is None:
            return
        # behind whatever a person waits for: the opponent's own table can take its time
        if them is not None and them.end is None:
            self.desk.ask(them, urgent=False)
        # with a second table also without hints: for the comparison of both players' choices
        if you.end is None and (self.seat == "opponent" or self.shows_opinion or self.versus):
            self.desk.ask(you, urgent=self.shows_opinion)
        # a model takes much memory and seconds to load: no process before anyone wants to know something
        wanted = self.versus or self.seat == "opponent" or self.hints != "off"
        if wanted and self.desk.state == "absent" and self.opponent is not None:
            self._wake()

    def heard(self, event: Event) -> None:
        """Take in what the process that thinks said."""
        before = self.desk.actor
        place = self.desk.take(event)
        # an answer may be about a state that was left: it still belongs into the review
        if place is not None:
            self._remember(place)
        # in the log too, where the checkpoint that thought must be told from newer ones
        if self.desk.actor and self.desk.actor != before and self.session is not None:
            with contextlib.suppress(StoreError):  # the next step will tell
                self.session.note(f"thinking: {self.desk.actor}")
        self.think()

    async def reload(self) -> None:
        """A newer checkpoint, or a new process where the old one died or nobody was there."""
        self.newer, self.problem = None, ""
        # the run may have written its first checkpoint since the session began
        if self.opponent is None:
            self.opponent, self._config = await self._worker.call(self._find)
        if self.desk.state == "ready":
            self.desk.reload()
        elif self.desk.state != "loading" and self.opponent is not None:
            self._wake()
        self._changed()

    async def look_for_newer(self) -> None:
        """Whether the run has written a checkpoint since."""
        run = self.opponent.run if self.opponent else None
        if run is None or self.desk.state != "ready":
            return
        newest = await self._worker.call(lambda: newest_checkpoint(run))
        # actors of checkpoints are called so by the process that thinks
        newer = newest.name if newest and self.desk.actor != f"model {newest.name}" else None
        if newer != self.newer:
            self.newer = newer
            self._changed()

    # -- inside

    def _make(self) -> tuple[Moment, ...]:
        self.session = PlaySession(self.plan)
        return self.session.moments

    def _finish(self) -> None:
        session = self.session
        self.session = None
        if session is not None:
            session.close()

    def _wake(self) -> None:
        """Start the process that thinks."""
        assert self.opponent is not None
        if self._process is not None:
            self._process.close()
        # it posts from a thread of its own, see `post`
        self._process = ThinkingProcess(self._config, self.opponent.run, self.opponent.baseline, self._post)
        self.desk.open(self._process.send)

    def _find(self) -> tuple[Opponent | None, Config]:
        """Whoever could think by now, and the config to do it with."""
        found = find_opponent(self.plan)
        # another run's checkpoint needs its own prompts and lengths: its config instead of the session's
        if found is None or found.run is None or found.run == self.plan.run:
            return found, self.plan.config
        return found, run_config(found.run, {})

    def _remember(self, place: Place) -> None:
        opinion = self.desk.opinion(place)
        if opinion is not None and opinion.decision is not None:
            # the first answer counts: it stood when the person chose, also after a newer checkpoint was loaded
            self._theirs.setdefault(place, opinion.decision.parsed.action)

    def _begun(self, moments: tuple[Moment, ...]) -> None:
        # the same deal keeps its answers, another one lets go of them
        self.desk.turn_to(moments[YOU].seed)
        self.moments, self._path, self._theirs, self._experts = moments, [moments[YOU]], {}, {}
        self.asked = False
        for moment in moments:
            self._remember(place_of(moment))
        self.think()
        self._changed()

    def _moved(self, index: int, moment: Moment) -> None:
        if index == YOU:
            # without a second table nobody needs an answer about the state just left
            if not self.versus:
                self.desk.drop_all()
            self._path.append(moment)
            self.asked = False
        self.moments = tuple(moment if place == index else old for place, old in enumerate(self.moments))
        self._remember(place_of(moment))
        if self.settled:
            # counted once: it is settled by the move that ends the last table
            for ended in self.moments:
                self.score = self.score.with_episode(ended)
        self.think()
        self._changed()

    def _compare(self) -> tuple[int, int]:
        """Of this episode: in how many states both chose the same, and in how many both chose."""
        you = self.you
        if you is None:
            return 0, 0
        steps = you.steps[len(you.steps) - len(self._path) + 1 :]
        pairs = [
            (step.action, self._theirs[place_of(before)])
            for before, step in zip(self._path, steps, strict=False)
            if step.actor == HUMAN and place_of(before) in self._theirs
        ]
        return sum(ours == theirs for ours, theirs in pairs), len(pairs)
