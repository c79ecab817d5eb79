import numpy as np
import pytest

from vlmagent.play.desk import Desk, place_of
from vlmagent.play.messages import (
    Decided,
    Died,
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
from vlmagent.play.table import Moment, Step
from vlmagent.types import Decision, Observation, ParsedAction

DECISION = Decision("p", "out", "", ParsedAction("+", True, "+", None))


def moment(*actions: str, seed: int = 1) -> Moment:
    steps = tuple(Step(action, "human", 0.0, True) for action in actions)
    observation = Observation(np.zeros((2, 2, 3), np.uint8), None, ("+", "-"))
    return Moment(seed, 1, observation, {"current": len(actions)}, "prompt", steps)


class Office:
    """A desk with somebody behind it who never answers by themselves."""

    def __init__(self, ready: bool = True) -> None:
        self.desk = Desk(seed=7)
        self.sent: list[Request] = []
        self.desk.open(self.sent.append)
        if ready:
            self.desk.take(Ready("model step-1", True))

    @property
    def asked(self) -> list[int]:
        """How many steps the states had that were asked about."""
        return [
            len(request.state) and int(request.state["current"]) for request in self.sent if _thinks(request)
        ]

    @property
    def number(self) -> int:
        return max(request.number for request in self.sent if isinstance(request, Think))

    def answer(self) -> None:
        number = self.number
        self.desk.take(Decided(number, DECISION))
        self.desk.take(Judged(number, {"+": 0.75, "-": 0.25}))
        self.desk.take(Finished(number))


def _thinks(request: Request) -> bool:
    return isinstance(request, Think)


def test_an_answer_grows() -> None:
    office = Office()
    here = moment("+")
    office.desk.ask(here)
    place = place_of(here)
    assert place == (1, ("+",))
    assert office.desk.opinion(place) is None
    assert office.desk.waits(place)
    assert office.desk.take(Writing(office.number, "th")) == place
    growing = office.desk.opinion(place)
    assert growing is not None
    assert (growing.text, growing.decision, growing.done) == ("th", None, False)
    office.answer()
    known = office.desk.opinion(place)
    assert known is not None
    assert (known.text, known.decision, known.probabilities) == ("out", DECISION, {"+": 0.75, "-": 0.25})
    assert known.done
    office.desk.ask(here)
    assert len(office.sent) == 1, "each state is asked about once"


def test_one_at_a_time_the_urgent_ones_first() -> None:
    office = Office()
    for request in (moment(), moment("+")):
        office.desk.ask(request, urgent=False)
    office.desk.ask(moment("+", "+"))
    assert office.asked == [0]
    office.answer()
    assert office.asked == [0, 2]
    office.desk.ask(moment("+", "-", "+"), urgent=False)
    office.desk.ask(moment("+", "-", "+"), urgent=True)
    office.answer()
    assert office.asked == [0, 2, 3]
    office.answer()
    assert office.asked == [0, 2, 3, 1]


def test_the_seed_depends_on_the_state_alone() -> None:
    def seed_of(*before: Moment) -> int:
        office = Office()
        for one in (*before, moment("+")):
            office.desk.ask(one)
            office.answer()
        last = office.sent[-1]
        assert isinstance(last, Think)
        return last.seed

    assert seed_of() == seed_of(moment(), moment("-", "-"))


def test_nothing_is_asked_before_anybody_is_there() -> None:
    office = Office(ready=False)
    office.desk.ask(moment())
    assert (office.desk.state, office.sent) == ("loading", [])
    office.desk.take(Loading("opening", 2, 4))
    assert (office.desk.words, office.desk.progress) == ("opening", 0.5)
    office.desk.take(Ready("expert", True))
    assert (office.desk.state, office.desk.actor, office.asked) == ("ready", "expert", [0])


def test_dropped_questions() -> None:
    office = Office()
    office.desk.ask(moment())
    office.desk.ask(moment("+"), urgent=False)
    office.desk.drop_all()
    assert office.sent[-1] == Forget(office.number)
    office.desk.take(Writing(office.number, "half"))
    office.desk.take(Finished(office.number))
    assert office.desk.opinion(place_of(moment())) is None
    assert office.asked == [0]
    office.desk.ask(moment())
    assert office.asked == [0, 0]
    assert office.desk.take(Writing(office.number - 1, "late")) is None


def test_a_question_that_could_not_be_answered() -> None:
    office = Office()
    office.desk.ask(moment())
    office.desk.take(Finished(office.number, "out of memory"))
    known = office.desk.opinion(place_of(moment()))
    assert known is not None
    assert (known.done, known.problem, known.decision) == (True, "out of memory", None)
    office.desk.ask(moment())
    assert office.asked == [0]
    office.desk.reload()
    office.desk.ask(moment())
    office.desk.take(Ready("model step-1", False))
    assert office.asked == [0, 0]


@pytest.mark.parametrize(("changed", "kept"), [(True, False), (False, True)])
def test_a_newer_checkpoint_thinks_anew(changed: bool, kept: bool) -> None:
    office = Office()
    office.desk.ask(moment())
    office.answer()
    office.desk.reload()
    assert office.sent[-1] == Reload()
    assert office.desk.state == "loading"
    office.desk.take(Ready("model step-2", changed))
    assert (office.desk.opinion(place_of(moment())) is not None) is kept


def test_whoever_died_is_asked_again() -> None:
    office = Office()
    office.desk.ask(moment("+"))
    office.desk.take(Died("It ended."))
    assert (office.desk.state, office.desk.words, office.desk.actor) == ("dead", "It ended.", "")
    office.desk.open(office.sent.append)
    office.desk.take(Ready("model step-1", True))
    assert office.asked == [1, 1]
    assert office.number == 2


def test_dead_and_no_longer_asked() -> None:
    office = Office()
    office.desk.ask(moment("+"))
    office.desk.take(Died("It ended."))
    office.desk.drop_all()
    office.desk.open(office.sent.append)
    office.desk.take(Ready("model step-1", True))
    assert office.asked == [1]


def test_a_refusal() -> None:
    office = Office(ready=False)
    office.desk.take(Refused("no checkpoint"))
    assert (office.desk.state, office.desk.words) == ("dead", "no checkpoint")
    office = Office()
    office.desk.ask(moment())
    office.answer()
    office.desk.reload()
    office.desk.take(Refused("broken"))
    assert office.desk.state == "ready", "what was loaded before still stands"
    assert office.desk.opinion(place_of(moment())) is not None


def test_other_episodes_are_forgotten() -> None:
    office = Office()
    for seed in (1, 2):
        office.desk.ask(moment(seed=seed))
        office.answer()
    office.desk.turn_to(2)
    assert office.desk.opinion(place_of(moment(seed=1))) is None
    assert office.desk.opinion(place_of(moment(seed=2))) is not None
