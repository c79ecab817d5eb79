"""Which characters each token wrote, under tokenizers that show unfinished characters in different ways."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.models.made_tokenizers import END, KINDS, llama, mistral
from vlmagent.tui.data import pieces
from vlmagent.tui.data.pieces import split_output


def by_looking_at_every_prefix(output: str, ids: list[int], made: Tokenizer) -> list[str]:
    """Token k ends where the first k tokens' text stops agreeing with the output, and never before token k - 1 does."""
    ends = [0]
    for count in range(1, len(ids) + 1):
        text = made.decode(ids[:count])
        agrees = next((k for k, (a, b) in enumerate(zip(text, output, strict=False)) if a != b), len(text))
        ends.append(max(ends[-1], min(agrees, len(output))))
    ends[-1] = len(output)
    return [output[start:end] for start, end in pairwise(ends)]


@pytest.mark.parametrize("make", KINDS)
def test_the_token_that_completes_a_character_wrote_it(make):
    made = make()
    ids = [*made.encode("a中é😀b").ids, made.token_to_id(END)]
    found = split_output("a中é😀b", ids, made.decode, made.id_to_token)
    assert found is not None
    assert [text for text in found.texts if text] == ["a", "中", "é", "😀", "b"]
    assert found.names == {**found.names, len(ids) - 1: END}


WORDS = st.sampled_from(["the quick ", "I add", " ", "  ", "\n", '"action": "', "é", "中文", "😀", "�"])


@pytest.mark.parametrize("stride", [2, 128])
@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KINDS), st.lists(WORDS, max_size=25).map("".join), st.data())
@example(llama, "the quick brown" + " " * 9, None)
@example(mistral, "中文中文 é中文", None)
def test_any_output(stride, make, text, data):
    made = make()
    size = made.get_vocab_size() - 1
    some = data.draw(st.lists(st.integers(0, size), max_size=10)) if data is not None else []
    ids = [*made.encode(text).ids, *some]
    output = made.decode(ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "STRIDE", stride)  # windows begin anew after a few tokens, as in a long output
        found = split_output(output, ids, made.decode, made.id_to_token)
    assert found is not None
    assert "".join(found.texts) == output
    assert len(found.texts) == len(ids)
    if "�" not in output:  # which of its bytes is the one that shows a broken character is a matter of taste
        assert list(found.texts) == by_looking_at_every_prefix(output, ids, made)
