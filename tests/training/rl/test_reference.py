"""The penalty on leaving the starting policy, against literal log-probs."""

import numpy as np
import pytest
import torch

from vlmagent.models.logprob import Scores
from vlmagent.training.rl.reference import Reference
from vlmagent.types import Decision, Generation, ParsedAction, Transition

IMAGE = np.zeros((1, 1, 3), dtype=np.uint8)


def transition(*logprobs: float) -> Transition:
    generation = Generation("o", np.arange(len(logprobs)), np.array(logprobs, dtype=np.float32), 0, 0.0)
    decision = Decision("p", "o", "", ParsedAction("+", True, "+", None), generation=generation)
    return Transition(1, 1, 1, 0, 0, IMAGE, decision, 0.0, False, False, 0.0)


class Start:
    """Gave every token log-prob -1."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def score(self, transitions):
        self.sizes.append(len(transitions))
        lengths = torch.tensor([len(t.decision.generation.token_ids) for t in transitions])
        mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
        return Scores(-mask.float(), mask.float(), mask, torch.zeros(len(transitions)))


def test_the_penalty_is_the_change_of_the_whole_outputs_logprob():
    start = Start()
    outputs = [transition(-1.0, -1.0), transition(-0.25), transition(-1.5, -0.5, -2.0)]
    result = Reference(start, coef=0.5, micro_batch_size=2).penalties(outputs)
    assert result.values == pytest.approx([0.0, 0.5 * 0.75, 0.5 * -1.0])
    assert result.drift == pytest.approx((0.0 + 0.75 - 1.0) / 3)
    assert start.sizes == [2, 1]


def test_one_garbled_output_does_not_outweigh_all_others():
    garbled = transition(*[0.0] * 300)
    result = Reference(Start(), coef=0.05, micro_batch_size=8).penalties([garbled, transition(-1.0)])
    assert result.values == pytest.approx([0.05 * 20, 0.0])
    assert result.drift == pytest.approx(150.0)


def test_an_output_without_tokens_has_no_penalty():
    silent = transition(-1.0)
    decision = Decision("p", "", "", silent.decision.parsed)
    without = Transition(7, 1, 1, 0, 0, IMAGE, decision, 0.0, False, False, 0.0)

    class Never:
        def score(self, transitions):
            return Scores(*(torch.zeros(1, 1),) * 3, torch.zeros(1))

    with pytest.raises(ValueError, match="transition 7 has no tokens"):
        Reference(Never(), 0.1, 4).penalties([without])
