"""The questions a session has for whoever thinks, one at a time, and what is known of the answers.

An answer is a function of the state and a seed, so each state is asked about once. Knows neither widgets nor pipes:
it is handed a way to send requests and told every event. Use it from one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vlmagent.play.messages import (
    Decided,
    Died,
    Event,
    Finished,
    Forget,
    Judged,
    Loading,
    Ready,
    Refused,
    Reload,
    Request,
    Think,
    Writing,
)
from vlmagent.play.table import Moment
from vlmagent.seeding import derive
from vlmagent.types import Decision

Place = tuple[int, tuple[str, ...]]
"""A state: the episode's seed and the actions so far."""


def place_of(moment: Moment) -> Place:
    """Where a moment is."""
    return moment.seed, moment.actions


@dataclass(frozen=True, slots=True)
class Opinion:
    """What is known so far about one state.

    Attributes:
        text: the output so far.
        probabilities: of each legal action, None where there are none (yet).
        done: nothing more will come; ``problem`` says why there is no decision, "" if there is one.
    """

    text: str = ""
    decision: Decision | None = None
    probabilities: Mapping[str, float] | None = None
    done: bool = False
    problem: str = ""


class Desk:
    """Asks one question at a time, the urgent ones first.

    Attributes:
        state: ``absent`` (nobody is there), ``loading``, ``ready`` or ``dead``.
        words: how far loading is, or why nobody can be asked.
        progress: share of loading that is done, in [0, 1].
        since: when loading began, on the monotonic clock.
        actor: who answers, such as ``model step-512``; "" before it is known.
    """

    def __init__(self, seed: int) -> None:
        self.state = "absent"
        self.words = ""
        self.progress = 0.0
        self.since = 0.0
        self.actor = ""
        self._seed = seed
        self._send: Callable[[Request], None] = lambda _: None
        self._known: dict[Place, Opinion] = {}
        self._waiting: list[tuple[Place, Moment]] = []
        self._asked: tuple[int, Place, Moment] | None = None
        self._number = 0

    def open(self, send: Callable[[Request], None]) -> None:
        """Somebody is coming: requests go to ``send``."""
        self._send = send
        self._load("starting")

    def reload(self) -> None:
        """Have a newer checkpoint looked for; questions that could not be answered may be asked again."""
        # answers stay, since the checkpoint may turn out to be the same; if it is not, `_ready` drops them
        self._known = {place: opinion for place, opinion in self._known.items() if not opinion.problem}
        self._load("looking for a newer checkpoint")
        self._send(Reload())

    def opinion(self, place: Place) -> Opinion | None:
        """What is known about a state; None when it was never asked about."""
        return self._known.get(place)

    def waits(self, place: Place) -> bool:
        """Whether an answer is still to come."""
        return place in (waiting for waiting, _ in self._waiting) or (
            self._asked is not None and self._asked[1] == place
        )

    def ask(self, moment: Moment, *, urgent: bool = True) -> None:
        """Ask about a state, unless that was done."""
        place = place_of(moment)
        if self.waits(place):
            # ask again urgently: to the front of the queue, the others keep their order (sorting is stable)
            if urgent and any(place == waiting for waiting, _ in self._waiting):
                self._waiting.sort(key=lambda entry: entry[0] != place)
        elif (known := self._known.get(place)) is None or not known.done:
            self._waiting.insert(0 if urgent else len(self._waiting), (place, moment))
            # also a state whose answer was dropped half-way is asked anew
            self._next()

    def drop_all(self) -> None:
        """The answers still to come are no longer wanted; what has come of them so far is forgotten."""
        self._waiting = []
        if self._asked is not None:
            # the answer is still awaited: `Finished` comes for every question, and only then the next one may be asked
            self._send(Forget(self._asked[0]))

    def turn_to(self, seed: int) -> None:
        """Another episode begins: what is known about others is no longer needed."""
        self.drop_all()
        # a state is only reached within its episode, so other seeds' answers would only use memory
        self._known = {place: opinion for place, opinion in self._known.items() if place[0] == seed}

    def take(self, event: Event) -> Place | None:
        """Take in an event; returns the state it is about, if any."""
        match event:
            case Loading():
                self.words, self.progress = event.words, event.done / event.total
            case Ready():
                self._ready(event)
            case Refused():
                # an older checkpoint may still be open: then it goes on thinking
                self.state = "ready" if self.actor else "dead"
                self.words = event.words
                self._next()
            case Died():
                self.state, self.words, self.actor = "dead", event.words, ""
                if self._asked is not None:  # whoever comes next is asked again
                    self._waiting.insert(0, self._asked[1:])
                    self._asked = None
            case Writing() | Decided() | Judged() | Finished():
                return self._learn(event)
        return None

    def _load(self, words: str) -> None:
        self.state = "loading"
        self.words = words
        self.progress = 0.0
        self.since = time.monotonic()

    def _ready(self, event: Ready) -> None:
        if event.changed:  # a newer checkpoint thinks otherwise
            self._known.clear()
        self.state = "ready"
        self.words = ""
        self.progress = 1.0
        self.actor = event.actor
        self._next()

    def _learn(self, event: Writing | Decided | Judged | Finished) -> Place | None:
        # said about a question that was forgotten meanwhile
        if self._asked is None or event.number != self._asked[0]:
            return None
        place = self._asked[1]
        self._known[place] = opinion = _more(self._known.get(place, Opinion()), event)
        if isinstance(event, Finished):
            self._asked = None
            # `Forget` ends a question without decision and without problem: as if it had never been asked
            if opinion.decision is None and not opinion.problem:  # it was dropped on the way
                del self._known[place]
            self._next()
        return place

    def _next(self) -> None:
        """Ask the next question when nobody is thinking."""
        if self.state != "ready" or self._asked is not None or not self._waiting:
            return
        place, moment = self._waiting.pop(0)
        self._number += 1
        self._asked = (self._number, place, moment)
        # from the place in the episode, not from a count of questions: asked again, a state gets the same answer
        seed = derive(self._seed, "thinking", moment.seed, len(moment.steps))
        self._send(Think(self._number, moment.observation, _plain(moment.state), seed))


def _more(opinion: Opinion, event: Writing | Decided | Judged | Finished) -> Opinion:
    """An opinion and what an event adds to it."""
    match event:
        case Writing():
            # the text replaces what was there: each message holds the whole output so far
            return Opinion(event.text)
        case Decided():
            return Opinion(event.decision.output, event.decision)
        case Judged():
            return Opinion(opinion.text, opinion.decision, event.probabilities)
        case Finished():
            return Opinion(opinion.text, opinion.decision, opinion.probabilities, True, event.problem)


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that can be pickled: environments may give mapping proxies and the like."""
    return dict(state)
