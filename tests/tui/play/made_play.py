"""A table for tests: the real session, and somebody to think who says what the test wants."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot

from tests.play.made import plan_play
from tests.tui.driving import shown, until
from tests.tui.made_episodes import Host
from vlmagent.paths import Run
from vlmagent.play.messages import Decided, Event, Finished, Judged, Loading, Ready, Request, Think, Writing
from vlmagent.play.plan import SessionPlan
from vlmagent.tui.play import game as play_game
from vlmagent.tui.play.game import Game
from vlmagent.tui.play.screen import PlayScreen
from vlmagent.types import Decision, Generation, ParsedAction

SEED = 11
SECONDS = 60.0


class Brain:
    """Stands in for ``ThinkingProcess``.

    Attributes:
        choose: the action for a question; None leaves every question open.
        made: all brains of this test, in their order.
    """

    choose: Callable[[Think], str] | None = None
    actor = "model step-8"
    made: list[Brain]

    def __init__(
        self, _config: object, run: object, baseline: object, on_event: Callable[[Event], None]
    ) -> None:
        self.sent: list[Request] = []
        self.closed = False
        self.say = on_event
        self.whom = (run, baseline)
        Brain.made.append(self)

    def send(self, request: Request) -> None:
        self.sent.append(request)
        choose = type(self).choose
        if isinstance(request, Think) and choose is not None:
            self.answer(request, choose(request))

    def close(self) -> None:
        self.closed = True

    @property
    def thinks(self) -> list[Think]:
        return [request for request in self.sent if isinstance(request, Think)]

    def load(self, actor: str = actor, changed: bool = True) -> None:
        self.say(Loading("opening the checkpoint", 2, 3))
        self.say(Ready(actor, changed))

    def answer(self, question: Think, action: str, *, legal: bool = True, text: str | None = None) -> None:
        output = text or f'{{"thoughts": "because of {action}", "action": "{action}"}}'
        self.say(Writing(question.number, output[: len(output) // 2]))
        tokens = Generation(output, np.array([5]), np.array([-0.5], np.float32), 0, 0.625)
        parsed = ParsedAction(action, legal, action, None)
        decision = Decision("p", output, "", parsed, -0.5, -0.25, -0.25, tokens, actor=self.actor)
        self.say(Decided(question.number, decision))
        actions = question.observation.legal_actions
        rest = 0.25 / max(1, len(actions) - 1)
        self.say(Judged(question.number, {name: 0.75 if name == action else rest for name in actions}))
        self.say(Finished(question.number))


@pytest.fixture
def brains(monkeypatch: pytest.MonkeyPatch) -> list[Brain]:
    """Nobody real thinks in this test."""
    Brain.made, Brain.choose = [], None
    monkeypatch.setattr(play_game, "ThinkingProcess", Brain)
    return Brain.made


def plan(task: str = "numberline", run: Run | None = None, **more: Any) -> SessionPlan:
    """A session against the expert, or beside a run."""
    more = {"seed": SEED, **more}
    if run is None:
        return plan_play(task, opponent=more.pop("opponent", "expert"), **more)
    return plan_play(task, run=str(run), **more)


def alone(task: str, **more: Any) -> SessionPlan:
    """A session in which nobody else is there."""
    return plan_play(task, human=True, seed=SEED, **more)


def host(chosen: SessionPlan) -> Host:
    return Host(PlayScreen(chosen))


def table(pilot: Pilot[Any]) -> PlayScreen:
    """The play screen, whatever is on top of it."""
    return next(screen for screen in pilot.app.screen_stack if isinstance(screen, PlayScreen))


def game(pilot: Pilot[Any]) -> Game:
    return table(pilot).game


async def begin(pilot: Pilot[Any]) -> Game:
    """Wait until the first state is shown."""
    await happens(pilot, lambda: any(isinstance(s, PlayScreen) for s in pilot.app.screen_stack))
    await happens(pilot, lambda: game(pilot).you is not None)
    await pilot.pause()
    return game(pilot)


async def happens(pilot: Pilot[Any], condition: Callable[[], object]) -> None:
    await until(pilot, condition, SECONDS)


async def press(pilot: Pilot[Any], key: str) -> None:
    """Press an action's key and wait for the step to be shown."""
    you = game(pilot).you
    assert you is not None
    await pilot.press(key)
    await happens(pilot, lambda: game(pilot).you is not you)


def logged(database: Path, columns: str = "action, actor", where: str = "") -> list[tuple[Any, ...]]:
    """Steps in a session's log."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(f"SELECT {columns} FROM transitions {where} ORDER BY id").fetchall()


def database(pilot: Pilot[Any]) -> Path:
    session = game(pilot).session
    assert session is not None
    return session.database


def words(pilot: Pilot[Any], selector: str) -> str:
    return shown(table(pilot).query_one(selector))


def mind(pilot: Pilot[Any]) -> str:
    """What stands in the pane, as one line."""
    return " ".join(" ".join(words(pilot, part) for part in ("#mind-facts", "#mind-output")).split())
