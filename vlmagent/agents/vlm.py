"""The agent that thinks in text: a policy samples v_out, the task reads the action in it.

Joins a task's words to a policy's tokens. Knows nothing of environments, rewards or optimisers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlmagent.models.batching import MicroBatcher, Size, in_micro_batches
from vlmagent.models.logprob import Scores, first_action_token, split_logprob
from vlmagent.models.policy import EncodedState, EntropyUse, Policy, SampledOutput
from vlmagent.tasks.base import Task
from vlmagent.tasks.parsing import extract_thoughts, find_action_key, parse_action
from vlmagent.types import Decision, Generation, Observation, Transition

RESCORED_TOGETHER = 16
"""Outputs per forward pass of rescoring where the trainer says nothing else."""


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
            bfloat16 the two differ by a sizable part of PPO's clip range; costs one more pass without gradients.
        rescored_together: how outputs go through that pass together: as the trainer's micro-batches, since in bfloat16
            a row's rounding depends on the size of its batch.
        entropy: what is wanted of the entropies of scored outputs.

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
        rescored_together: MicroBatcher | None = None,
        entropy: EntropyUse = "learnt",
        name: str = "vlm",
    ) -> None:
        self.policy = policy
        self.task = task
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.thought_weight = thought_weight
        self.detach_value = detach_value
        self.rescore = rescore
        self.rescored_together = rescored_together or MicroBatcher(RESCORED_TOGETHER)
        self.entropy: EntropyUse = entropy
        self.name = name
        self.on_text: Callable[[str], None] | None = None

    def act(
        self, observations: Sequence[Observation], states: Sequence[Mapping[str, Any]], seed: int
    ) -> list[Decision]:
        """One sampled output and its action per observation; the true states are not looked at."""
        prompts = [self.task.prompt(observation) for observation in observations]
        # one state per environment; the batch is made inside `sample`, which pads
        encoded = [self.policy.encode(p, o.image) for p, o in zip(prompts, observations, strict=True)]
        sampled = self.policy.sample(
            encoded,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
            on_tokens=None if self.on_text is None else self._tell,
        )
        if self.rescore:
            sampled = self._rescored(encoded, sampled)
        # a stream of its own for legal actions that replace illegal outputs: sampling tokens uses `seed` itself
        rng = np.random.default_rng([seed, 1])
        return [
            self._decide(prompt, observation, output, rng)
            for prompt, observation, output in zip(prompts, observations, sampled, strict=True)
        ]

    def _tell(self, ids: Tensor) -> None:
        """Hand on the first output as far as it is written; ids is int64 (B, n)."""
        if self.on_text is not None:
            # row 0 only: whoever watches plays one environment
            self.on_text(self.policy.decode(ids[0].tolist()))

    @torch.no_grad()
    def _rescored(
        self, states: Sequence[EncodedState], sampled: Sequence[SampledOutput]
    ) -> list[SampledOutput]:
        """The same outputs with the log-probs and values that training would compute."""

        def again(indices: Sequence[int]) -> list[SampledOutput]:
            scores = self.policy.score(
                [states[index] for index in indices],
                # no gradients are kept here: values only, under `no_grad`
                [sampled[index].token_ids for index in indices],
                temperature=self.temperature,
                entropy="none",
            )
            logprobs, values = scores.token_logprobs.cpu().numpy(), scores.values.tolist()
            # scores are padded to the longest output of the micro-batch, (b, Lmax); each row is cut to its own length,
            # and copied so that it does not keep the whole block alive
            ids = [sampled[index].token_ids for index in indices]
            return [
                SampledOutput(tokens, logprobs[row, : len(tokens)].copy(), values[row])
                for row, tokens in enumerate(ids)
            ]

        sizes = [
            Size(len(state.input_ids), len(output.token_ids))
            for state, output in zip(states, sampled, strict=True)
        ]
        return in_micro_batches(self.rescored_together, sizes, again)

    def _decide(
        self, prompt: str, observation: Observation, output: SampledOutput, rng: np.random.Generator
    ) -> Decision:
        text = self.policy.decode(output.token_ids)
        # where v_out turns from thoughts into action, as a place among the tokens: it splits the log-prob (paper, 4.3)
        start = first_action_token(output.token_ids.tolist(), find_action_key(text), self.policy.decode)
        split = split_logprob(
            # a batch of one, (1, L). In float64, since hundreds of small float32 terms are added up
            torch.from_numpy(output.token_logprobs)[None].double(),
            # every sampled token counts, the end token included: the mask only matters for padded batches
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
        # steps of people, experts and APIs have no tokens; PPO on them would need log-probs that nobody has
        for transition in transitions:
            if transition.decision.generation is None:
                raise ValueError(f"transition {transition.id} has no tokens")
            outputs.append(transition.decision.generation.token_ids)
        return self.policy.score(
            # the prompt as it was logged, not made anew: the ratio compares the same condition before and after
            [self.policy.encode(t.decision.prompt, t.image) for t in transitions],
            outputs,
            temperature=self.temperature,
            detach_value=self.detach_value,
            entropy=self.entropy,
        )
