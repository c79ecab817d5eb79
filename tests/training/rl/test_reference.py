"""The penalty on leaving the starting policy, against literal log-probs."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from vlmagent.models.batching import MicroBatcher, Size
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

    def __init__(self, room: int = 99) -> None:
        self.scored: list[int] = []
        self.room = room

    def sizes(self, transitions):
        return [Size(10, len(t.decision.generation.token_ids)) for t in transitions]

    def score(self, transitions):
        self.scored.append(len(transitions))
        if len(transitions) > self.room:
            raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)")
        lengths = torch.tensor([len(t.decision.generation.token_ids) for t in transitions])
        mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
        return Scores(-mask.float(), mask.float(), mask, torch.zeros(len(transitions)))


def test_the_penalty_is_the_change_of_the_whole_outputs_logprob():
    start = Start()
    outputs = [transition(-1.0, -1.0), transition(-0.25), transition(-1.5, -0.5, -2.0)]
    result = Reference(start, 0.5, MicroBatcher(2)).penalties(outputs)
    assert result.values == pytest.approx([0.0, 0.5 * 0.75, 0.5 * -1.0])
    assert result.drift == pytest.approx((0.0 + 0.75 - 1.0) / 3)
    assert start.scored == [2, 1]


def test_outputs_go_through_in_as_many_passes_as_tokens_and_memory_allow():
    outputs = [transition(*[-2.0] * length) for length in (1, 3, 2, 3)]
    by_tokens = Start()
    result = Reference(by_tokens, 1.0, MicroBatcher(4, max_tokens=26)).penalties(outputs)
    assert result.values == [-1.0, -3.0, -2.0, -3.0]  # in their own order
    assert by_tokens.scored == [2, 2]
    small = Start(room=1)
    assert Reference(small, 1.0, MicroBatcher(4)).penalties(outputs).values == result.values
    assert small.scored[:3] == [4, 2, 1]


def test_the_starting_weights_are_there_while_scoring_and_only_then():
    steps: list[str] = []

    @contextmanager
    def switched() -> Iterator[None]:
        steps.append("start")
        yield
        steps.append("present")

    class Watching(Start):
        def score(self, transitions):
            steps.append("score")
            return super().score(transitions)

    Reference(Watching(), 1.0, MicroBatcher(1), switched).penalties([transition(-1.0), transition(-2.0)])
    assert steps == ["start", "score", "score", "present"]


def test_one_garbled_output_does_not_outweigh_all_others():
    garbled = transition(*[0.0] * 300)
    result = Reference(Start(), 0.05, MicroBatcher(8)).penalties([garbled, transition(-1.0)])
    assert result.values == pytest.approx([0.05 * 20, 0.0])
    assert result.drift == pytest.approx(150.0)


def test_an_output_without_tokens_has_no_penalty():
    silent = transition(-1.0)
    decision = Decision("p", "", "", silent.decision.parsed)
    without = Transition(7, 1, 1, 0, 0, IMAGE, decision, 0.0, False, False, 0.0)

    class Never:
        def sizes(self, transitions):
            return [Size(1, 1)] * len(transitions)

        def score(self, transitions):
            return Scores(*(torch.zeros(1, 1),) * 3, torch.zeros(1))

    with pytest.raises(ValueError, match="transition 7 has no tokens"):
        Reference(Never(), 0.1, MicroBatcher(4)).penalties([without])
