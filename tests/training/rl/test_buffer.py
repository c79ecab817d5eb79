"""From transitions to samples: the arrangement into (T, N) and what follows an episode's end."""

import numpy as np
import pytest

from vlmagent.training.rl.buffer import RolloutBuffer
from vlmagent.types import Decision, ParsedAction, Transition

IMAGE = np.zeros((1, 1, 3), dtype=np.uint8)
DECISION = Decision("p", "o", "", ParsedAction("+", True, "+", None))


def step(id_, env, reward, value, terminated=False, truncated=False, bootstrap=None):
    return Transition(id_, 1, 1, env, 0, IMAGE, DECISION, reward, terminated, truncated, value, bootstrap)


def test_two_environments_three_steps():
    buffer = RolloutBuffer(num_envs=2, num_steps=3)
    buffer.add([step(1, 0, 1, 1.0), step(2, 1, 0, 0.5)])
    buffer.add([step(3, 0, 2, 2.0, terminated=True), step(4, 1, 0, 0.5, truncated=True, bootstrap=8.0)])
    assert not buffer.full
    buffer.add([step(5, 0, 3, 3.0), step(6, 1, 1, 0.5)])
    assert buffer.full
    samples = buffer.finish([4.0, 2.0], gamma=0.5, gae_lambda=1.0)
    advantages = {sample.transition.id: sample.advantage for sample in samples}
    assert advantages[5] == pytest.approx(3 + 0.5 * 4 - 3)
    assert advantages[3] == pytest.approx(2 - 2)  # terminal: nothing follows
    assert advantages[1] == pytest.approx((1 + 0.5 * 2 - 1) + 0.5 * 0)
    assert advantages[6] == pytest.approx(1 + 0.5 * 2 - 0.5)
    assert advantages[4] == pytest.approx(0 + 0.5 * 8 - 0.5)  # its own final state, not the next episode's
    assert advantages[2] == pytest.approx((0 + 0.5 * 0.5 - 0.5) + 0.5 * advantages[4])
    for sample in samples:
        assert sample.return_ == pytest.approx(sample.advantage + sample.transition.value)
    assert len(buffer) == 0


def test_penalties_are_taken_off_the_rewards():
    buffer = RolloutBuffer(num_envs=2, num_steps=1)
    buffer.add([step(1, 0, 1, 0.25, terminated=True), step(2, 1, -1, 0.0, terminated=True)])
    assert [t.id for t in buffer.transitions] == [1, 2]
    first, second = buffer.finish([0.0, 0.0], gamma=0.9, gae_lambda=0.9, penalties=[0.5, -0.125])
    assert (first.advantage, first.return_) == (pytest.approx(0.25), pytest.approx(0.5))
    assert second.return_ == pytest.approx(-0.875)
    assert first.transition.reward == 1  # what is logged stays what the environment gave


def test_steps_must_be_whole_and_in_order():
    buffer = RolloutBuffer(num_envs=2, num_steps=1)
    with pytest.raises(ValueError, match="one transition per environment"):
        buffer.add([step(1, 1, 0, 0.0), step(2, 0, 0, 0.0)])
    buffer.add([step(1, 0, 0, 0.0), step(2, 1, 0, 0.0)])
    with pytest.raises(ValueError, match="full"):
        buffer.add([step(3, 0, 0, 0.0), step(4, 1, 0, 0.0)])


def test_an_agent_without_values_cannot_be_trained():
    buffer = RolloutBuffer(num_envs=1, num_steps=1)
    buffer.add([step(1, 0, 0, None)])
    with pytest.raises(ValueError, match="no value"):
        buffer.finish([0.0], gamma=0.9, gae_lambda=0.9)
