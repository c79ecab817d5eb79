"""The agent without language: its decisions, and actions that are the same or differ from state to state."""

import numpy as np
import pytest
import torch

from tests.models.test_cnn import network
from vlmagent.agents.cnn import CnnAgent, action_slot
from vlmagent.tasks.registry import build_task
from vlmagent.training.rollout import Rollout
from vlmagent.types import Learner, Observation


def observation(legal: tuple[str, ...], text: str | None = None, shade: int = 255) -> Observation:
    return Observation(np.full((60, 60, 3), shade, dtype=np.uint8), text, legal)


def test_a_decision_is_all_action_and_no_thought():
    policy = network(text=False, names=("+", "-"), actions=2)
    agent = CnnAgent(policy, build_task("numberline"))
    assert isinstance(agent, Learner)
    (decision,) = agent.act([observation(("+", "-"))], [{}], seed=1)
    assert decision.parsed.legal_output
    assert decision.output == decision.parsed.action == decision.parsed.action_text
    assert (decision.prompt, decision.thoughts, decision.thought_logprob) == ("", "", 0.0)
    assert (
        decision.logprob
        == decision.action_logprob
        == pytest.approx(float(decision.generation.token_logprobs[0]))
    )
    assert decision.generation.action_start == 0
    assert decision.generation.token_ids.tolist() == [("+", "-").index(decision.output)]
    assert decision.generation.value == pytest.approx(float(agent.values([observation(("+", "-"))])[0]))


def test_each_actions_share_is_told():
    policy = network(text=False, names=("+", "-", "="), actions=3)
    agent = CnnAgent(policy, build_task("numberline"))
    with torch.no_grad():
        policy.head[-1].weight.zero_()
        policy.head[-1].bias.copy_(torch.log(torch.tensor([0.6, 0.2, 0.2])))
    assert agent.action_probs(observation(("+", "-"))) == pytest.approx({"+": 0.75, "-": 0.25})


def test_the_states_text_is_what_it_reads():
    agent = CnnAgent(network(), build_task("ezpoints"))
    (decision,) = agent.act([observation(("+", "-", "="), text="3*")], [{}], seed=0)
    assert decision.prompt == "3*"


def test_actions_that_differ_from_state_to_state_are_hashed():
    """A slot that stands for none, or for two, of a state's actions names none: one is drawn and marked."""
    policy = network(text=False, names=(), actions=64)
    agent = CnnAgent(policy, build_task("numberline"))
    actions = tuple(f"go to shelf {i}" for i in range(20))
    slots = [action_slot(a, policy) for a in actions]
    assert len(set(slots)) > 10
    with torch.no_grad():
        policy.head[-1].weight.zero_()
        policy.head[-1].bias.fill_(-30.0)
        unique = next(a for a in actions if slots.count(action_slot(a, policy)) == 1)
        policy.head[-1].bias[action_slot(unique, policy)] = 30.0
    (decision,) = agent.act([observation(actions)], [{}], seed=0)
    assert (decision.parsed.action, decision.parsed.legal_output) == (unique, True)
    others = tuple(a for a in actions if a != unique)
    (decision,) = agent.act([observation(others)], [{}], seed=0)
    assert decision.parsed.action in others
    assert (decision.parsed.legal_output, decision.output) == (False, "")


def test_logged_actions_are_scored_in_their_own_states():
    task = build_task("numberline")
    policy = network(text=False, names=("+", "-"), actions=2)
    agent = CnnAgent(policy, task)
    rollout = Rollout(
        task, agent, num_envs=3, split="train", seed=0, episode_seeds=lambda env, count: 10 * env + count
    )
    rollout.start()
    agent.calibrate([slot.observation for slot in rollout.slots])
    transitions = [t for _ in range(4) for t in rollout.step()]
    scores = agent.score(transitions)
    logged = np.array([t.decision.logprob for t in transitions])
    assert scores.token_logprobs[:, 0].detach().numpy() == pytest.approx(logged, abs=1e-5)
    assert scores.values.detach().numpy() == pytest.approx([t.value for t in transitions], abs=1e-5)
    assert len(agent.sizes(transitions)) == 12
    rollout.close()
