import numpy as np
import pytest

from vlmagent.agents.human import HumanAgent
from vlmagent.tasks.registry import build_task
from vlmagent.types import Agent, Learner, Observation


def observation() -> Observation:
    return Observation(np.zeros((2, 2, 3), np.uint8), None, ("+", "-"))


def test_decides_what_was_chosen_once() -> None:
    task = build_task("numberline")
    human = HumanAgent(task)
    assert isinstance(human, Agent)
    assert not isinstance(human, Learner)
    human.choose("-")
    (decision,) = human.act([observation()], [{}], 0)
    assert (decision.parsed.action, decision.parsed.legal_output, decision.output) == ("-", True, "")
    assert decision.prompt == task.prompt(observation())
    with pytest.raises(ValueError, match="None is not among"):
        human.act([observation()], [{}], 0)


def test_an_action_that_is_not_legal() -> None:
    human = HumanAgent(build_task("numberline"))
    human.choose("hit")
    with pytest.raises(ValueError, match="'hit' is not among the legal actions"):
        human.act([observation()], [{}], 0)
