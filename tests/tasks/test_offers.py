"""What a task or an environment offers beside what all have: looked for in one place each, and absent from most."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from tests.tasks.alfworld_states import SMALL, STATE, needs_alfworld
from tests.tui.play.many_task import ManyTask
from vlmagent.tasks.base import HasDrills, HasKinds, HasNames, HasPrimer, PricesIllegalOutputs, offers_of
from vlmagent.tasks.environments import abilities_of, as_lost, was_lost
from vlmagent.tasks.numberline import NumberLineTask
from vlmagent.tasks.registry import build_task


@pytest.mark.parametrize("task", [NumberLineTask(), ManyTask()])
def test_a_task_that_only_is_one_offers_nothing(task):
    offers = offers_of(task)
    assert (offers.illegal_reward, offers.eval_episodes, offers.exchangeable) == (0.0, None, ())
    assert offers.primer is None
    assert offers.drill is None
    assert offers.kind({"goal": True}) is None


def test_blackjack_asks_for_more_episodes():
    assert offers_of(build_task("blackjack")).eval_episodes == 1000


@needs_alfworld
def test_alfworld_offers_all_but_a_number_of_episodes():
    task = build_task("alfworld", env=SMALL)
    for protocol in (HasDrills, HasKinds, HasNames, HasPrimer, PricesIllegalOutputs):
        assert isinstance(task, protocol)
    offers = offers_of(task)
    assert (offers.illegal_reward, offers.eval_episodes) == (-1.0, None)
    assert "mug" in offers.exchangeable
    assert offers.kind(STATE) == STATE["task_type"] == "cool"
    assert offers.primer is not None
    assert offers.primer(np.random.default_rng(0))[1].startswith("{")


class Early(NumberLineTask):
    """Written for what the program looked for first: each part alone, the kind of an episode in its state."""

    illegal_reward = -2
    eval_episodes = 7
    exchangeable = ("one",)

    def primer(self, rng: np.random.Generator) -> tuple[str, str]:
        return "Count", "one"


def test_each_part_is_optional_by_itself():
    offers = offers_of(Early())
    assert (offers.illegal_reward, offers.eval_episodes, offers.exchangeable) == (-2.0, 7, ("one",))
    assert offers.primer is not None
    assert offers.drill is None
    assert offers.kind({"task_type": "heat"}) == "heat"
    assert offers.kind({"task_type": 3}) == "3"


class Plain(gym.Env[Any, Any]):
    """An environment with Gymnasium's interface alone."""


class Slow(Plain):
    """One that steps elsewhere."""

    def __init__(self) -> None:
        self.begun: list[Any] = []

    def begin_step(self, action: Any) -> None:
        self.begun.append(action)


def test_abilities_of_an_environment():
    plain = abilities_of(Plain())
    plain.begin_reset(3)  # does nothing
    plain.begin_step("look")
    assert not plain.may_be_lost
    slow = Slow()
    abilities = abilities_of(gym.wrappers.RecordEpisodeStatistics(slow))
    abilities.begin_step("look")
    abilities.begin_reset(3)  # that, it cannot
    assert slow.begun == ["look"]
    assert abilities.may_be_lost


def test_an_info_says_whether_the_process_was_lost():
    assert not was_lost({})
    assert not was_lost({"lost": False})
    assert as_lost({"step": 3}) == {"step": 3, "lost": True}
    assert was_lost(as_lost({"step": 3}))
