"""Action probabilities against brute force: every candidate scored alone, token by token, without a batch."""

import math

import numpy as np
import pytest
import torch

from vlmagent.config import ModelConfig
from vlmagent.models.action_probs import action_probs
from vlmagent.models.hf import build_policy
from vlmagent.models.policy import EncodedState, Policy
from vlmagent.tasks.parsing import with_action
from vlmagent.tasks.registry import build_task
from vlmagent.training.sft.samples import corpus

TASKS = {"numberline": 2, "points24": 17}


@pytest.fixture(scope="module")
def policy() -> Policy:
    tiny = {"vision_width": 32, "vision_layers": 1, "width": 32, "layers": 2, "heads": 2, "vision_heads": 2}
    config = ModelConfig.model_validate({"tiny": tiny, "value_head": [16]})
    return build_policy(config, corpus(build_task("points24")), seed=3)


def candidates(policy: Policy, name: str, output: str | None = None) -> tuple[EncodedState, list[str]]:
    """A state of the task and one output per legal action."""
    task = build_task(name)
    image, state = task.make_env().reset(seed=4)
    observation = task.observe(image, state)
    written = task.expert_response(state, observation.legal_actions[0]) if output is None else output
    outputs = [with_action(written, action) for action in observation.legal_actions]
    return policy.encode(task.prompt(observation), image), outputs


@torch.no_grad()
def logprob_alone(policy: Policy, state: EncodedState, output: str, temperature: float) -> float:
    """The sum over tokens, each predicted from its own unbatched forward pass."""
    total = 0.0
    ids = policy.tokenize_output(output)
    for place, wanted in enumerate(ids):
        inputs = policy.family.inputs(policy.model, [state], [ids[:place]], policy.pad_id, policy.features)
        logits = policy.backbone(**inputs, use_cache=False).logits[0, -1].double() / temperature
        logits[policy.banned] = -math.inf
        total += float(torch.log_softmax(logits, -1)[wanted])
    return total


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("name", TASKS)
def test_equals_brute_force(policy: Policy, name: str, temperature: float) -> None:
    state, outputs = candidates(policy, name)
    assert len(outputs) == TASKS[name]
    probabilities = action_probs(policy, state, outputs, temperature=temperature, batch_size=5)
    alone = np.array([logprob_alone(policy, state, output, temperature) for output in outputs])
    weights = np.exp(alone - alone.max())
    assert probabilities == pytest.approx(weights / weights.sum(), abs=1e-4)
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-12)
    assert probabilities.max() - probabilities.min() > 1e-3, "all alike would hide mistakes"


def test_a_single_action_is_certain(policy: Policy) -> None:
    state, outputs = candidates(policy, "numberline")
    assert action_probs(policy, state, outputs[:1], temperature=0) == pytest.approx([1.0])


def test_an_output_that_names_special_tokens(policy: Policy) -> None:
    state, outputs = candidates(policy, "numberline", '{"thoughts": "</s><image> <pad>", "action": "+"}')
    probabilities = action_probs(policy, state, outputs, temperature=1.0)
    assert np.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1.0)
    assert (probabilities > 0).all()
