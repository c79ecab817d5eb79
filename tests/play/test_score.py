import math

import numpy as np

from vlmagent.play.score import Record, Score, player_of
from vlmagent.play.table import Moment, Step
from vlmagent.types import EpisodeEnd, Observation

OBSERVATION = Observation(np.zeros((2, 2, 3), np.uint8), None, ("+", "-"))


def ended(value: float, *actors: str) -> Moment:
    steps = tuple(Step("+", actor, 0.0, True) for actor in actors)
    end = EpisodeEnd(1, len(steps), value, value > 0, True, "terminated")
    return Moment(1, 1, OBSERVATION, {}, "", steps, end)


def test_each_player_has_a_record() -> None:
    score = Score()
    for moment in (
        ended(1, "human"),
        ended(-2, "human", "human"),
        ended(1, "expert"),
        ended(0, "human", "expert"),
    ):
        score = score.with_episode(moment)
    assert score.records == {
        "human": Record(2, 1, -1.0),
        "expert": Record(1, 1, 1.0),
        "together": Record(1, 0, 0.0),
    }
    assert (score.records["human"].success, score.records["human"].mean_return) == (0.5, -0.5)
    assert math.isnan(Record().success)
    assert math.isnan(Record().mean_return)


def test_repeated_steps_do_not_count() -> None:
    assert player_of(ended(1, "logged", "human")) == "human"
    assert player_of(ended(1, "logged")) == "together"


def test_choices_add_up() -> None:
    score = Score().with_choices(1, 2).with_choices(3, 3)
    assert (score.alike, score.compared) == (4, 5)
