"""The split of an output's log-probability, against literal arrays and adversarial tokenisations."""

import pytest
import torch

from vlmagent.models.logprob import first_action_token, split_logprob


def decoder(pieces):
    return lambda ids: "".join(pieces[i] for i in ids)


def test_split_with_weights():
    logprobs = torch.tensor([[-1.0, -2.0, -4.0, -8.0], [-1.0, -1.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    split = split_logprob(logprobs, mask, torch.tensor([2, 1]), thought_weight=0.5)
    assert split.thought.tolist() == [-3.0, -1.0]
    assert split.action.tolist() == [-12.0, -1.0]
    assert split.weighted.tolist() == [-13.5, -1.5]


def test_without_a_key_everything_is_thought_and_has_a_real_logprob():
    split = split_logprob(
        torch.tensor([[-1.0, -2.0]]), torch.ones(1, 2, dtype=torch.bool), torch.tensor([2]), 0.5
    )
    assert (split.thought.item(), split.action.item(), split.weighted.item()) == (-3.0, 0.0, -1.5)


def test_padding_may_hold_anything():
    logprobs = torch.tensor([[-1.0, float("nan")]])
    split = split_logprob(logprobs, torch.tensor([[True, False]]), torch.tensor([0]), 0.5)
    assert split.weighted.tolist() == [-1.0]


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="shapes differ"):
        split_logprob(torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 1), 0.5)


@pytest.mark.parametrize(
    ("pieces", "offset", "expected"),
    [
        (["abc", '"action"', ': "x"'], 3, 1),  # a token begins at the key
        (['abc"', 'action": "x"'], 3, 0),  # a token straddles it: it holds the key's first character
        (['"action"', ": x"], 0, 0),
        (["a", "", "", '"action"'], 1, 3),  # tokens that write nothing before the key are thought
        (["abc", "def"], None, 2),
    ],
)
def test_first_action_token(pieces, offset, expected):
    assert first_action_token(list(range(len(pieces))), offset, decoder(pieces)) == expected


def test_bisection_decodes_little():
    calls = []
    pieces = ["x"] * 256

    def decode(ids):
        calls.append(len(ids))
        return "".join(pieces[i] for i in ids)

    assert first_action_token(list(range(256)), 200, decode) == 200
    assert len(calls) <= 10
