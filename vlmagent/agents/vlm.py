"""The agent that thinks in text: a policy samples v_out, the task reads the action in it.

Joins a task's words to a policy's tokens. Knows nothing of environments, rewards or optimisers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vlmagent.models.batching import Size
from vlmagent.models.logprob import Scores, first_action_token, split_logprob
from vlmagent.models.policy import EncodedState, Policy, SampledOutput
from vlmagent.tasks.base import Task
from vlmagent.tasks.parsing import extract_thoughts, find_action_key, parse_action
from vlmagent.types import Decision, Generation, Observation, Transition

RESCORED_TOGETHER = 16


class VlmAgent:
    """Implements ``types.Learner`` and ``rl.ppo.Scorer``.

    Args:
        policy: the network.
        task: writes prompts and reads actions.
        temperature: of sampling and scoring alike; 0 decodes greedily.
        max_new_tokens: outputs are cut after this many tokens.
        thought_weight: the paper's lambda, for the log-prob that is logged.
        detach_value: whether scoring stops the value's gradient at the hidden state.
        rescore: whether log-probs and values come from the training forward pass instead of from generation. In
            bfloat16 the two differ by more than PPO's clip range; costs one more pass without gradients.

    Attributes:
        on_text: called while acting, after every token, with the first output so far; what it raises ends the call.
    """

    def __init__(
        self,
        policy: Policy,
        task: Task,
        *,
        temperature: float,
        max_new_tokens: int,
        thought_weight: float,
        detach_value: bool = True,
        rescore: bool = False,
        name: str = "vlm",
    ) -> None:
        self.policy = policy
        self.task = task
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.thought_weight = thought_weight
        self.detach_value = detach_value
        self.rescore = rescore
        self.name = name
        self.on_text: Callable[[str], None] | None = None

    def act(
        self, observations: Sequence[Observation], states: Sequence[Mapping[str, Any]], seed: int
    ) -> list[Decision]:
        """One sampled output and its action per observation; the true states are not looked at."""
        prompts = [self.task.prompt(observation) for observation in observations]
        encoded = [self.policy.encode(p, o.image) for p, o in zip(prompts, observations, strict=True)]
        on_text = self.on_text
        sampled = self.policy.sample(
            encoded,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
            on_tokens=on_text and (lambda ids: on_text(self.policy.decode(ids[0].tolist()))),
        )
        if self.rescore:
            sampled = self._rescored(encoded, sampled)
        rng = np.random.default_rng([seed, 1])
        return [
            self._decide(prompt, observation, output, rng)
            for prompt, observation, output in zip(prompts, observations, sampled, strict=True)
        ]

    @torch.no_grad()
    def _rescored(
        self, states: Sequence[EncodedState], sampled: Sequence[SampledOutput]
    ) -> list[SampledOutput]:
        """The same outputs with the log-probs and values that training would compute."""
        result: list[SampledOutput] = []
        for start in range(0, len(sampled), RESCORED_TOGETHER):
            part = sampled[start : start + RESCORED_TOGETHER]
            scores = self.policy.score(
                states[start : start + RESCORED_TOGETHER],
                [output.token_ids for output in part],
                temperature=self.temperature,
            )
            logprobs, values = scores.token_logprobs.cpu().numpy(), scores.values.tolist()
            for row, (output, value) in enumerate(zip(part, values, strict=True)):
                length = len(output.token_ids)
                result.append(SampledOutput(output.token_ids, logprobs[row, :length].copy(), value))
        return result

    def _decide(
        self, prompt: str, observation: Observation, output: SampledOutput, rng: np.random.Generator
    ) -> Decision:
        text = self.policy.decode(output.token_ids)
        start = first_action_token(output.token_ids.tolist(), find_action_key(text), self.policy.decode)
        split = split_logprob(
            torch.from_numpy(output.token_logprobs)[None].double(),
            torch.ones((1, len(output.token_ids)), dtype=torch.bool),
            torch.tensor([start]),
            self.thought_weight,
        )
        return Decision(
            prompt=prompt,
            output=text,
            thoughts=extract_thoughts(text),
            parsed=parse_action(text, observation.legal_actions, rng),
            logprob=float(split.weighted),
            thought_logprob=float(split.thought),
            action_logprob=float(split.action),
            generation=Generation(text, output.token_ids, output.token_logprobs, start, output.value),
        )

    def values(self, observations: Sequence[Observation]) -> NDArray[np.float32]:
        """V(s) per observation, float32 (B,)."""
        encoded = [self.policy.encode(self.task.prompt(o), o.image) for o in observations]
        values: NDArray[np.float32] = self.policy.values(encoded).cpu().numpy()
        return values

    def calibrate(self, observations: Sequence[Observation]) -> None:
        """Standardise the critic's input over these states; before its first update, never after."""
        self.policy.calibrate_value_head(
            [self.policy.encode(self.task.prompt(o), o.image) for o in observations]
        )

    def sizes(self, transitions: Sequence[Transition]) -> list[Size]:
        """Tokens that scoring each transition takes."""
        return [
            Size(
                len(self.policy.encode(t.decision.prompt, t.image).input_ids),
                len(t.decision.generation.token_ids) if t.decision.generation else 0,
            )
            for t in transitions
        ]

    def score(self, transitions: Sequence[Transition]) -> Scores:
        """Scores of logged outputs under the prompt and picture that produced them."""
        outputs = []
        for transition in transitions:
            if transition.decision.generation is None:
                raise ValueError(f"transition {transition.id} has no tokens")
            outputs.append(transition.decision.generation.token_ids)
        return self.policy.score(
            [self.policy.encode(t.decision.prompt, t.image) for t in transitions],
            outputs,
            temperature=self.temperature,
            detach_value=self.detach_value,
        )
