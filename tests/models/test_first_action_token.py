"""Where the action begins, under tokenizers that show unfinished characters in different ways."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.models.made_tokenizers import END, KINDS, llama, mistral
from vlmagent.models.logprob import first_action_token
from vlmagent.tasks.parsing import find_action_key


def by_looking_at_every_prefix(ids: list[int], key: int, made: Tokenizer) -> int:
    """The first token up to which the text agrees with the whole one to the key's first character."""
    wanted = made.decode(ids)[: key + 1]
    return next(k for k in range(len(ids)) if made.decode(ids[: k + 1]).startswith(wanted))


def found(ids: list[int], made: Tokenizer) -> int:
    return first_action_token(ids, find_action_key(made.decode(ids)), made.decode)


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    "thoughts",
    [
        "",
        "I add.",
        "数字是三，所以加一。",
        "😀😀😀😀",
        "número é três",
        "👨‍👩‍👧",
        "�",
        "ünï😀",
        "混ぜ mixed 文字",
    ],
)
def test_the_first_token_of_the_key(make, thoughts):
    """The token that writes the key's quote is found, whatever is written in bytes before it."""
    made = make()
    ids = [*made.encode(f'{{\n"thoughts": "{thoughts}",\n"action": "+"\n}}').ids, made.token_to_id(END)]
    at = found(ids, made)
    key = made.decode(ids).rindex('"action"')
    assert at == by_looking_at_every_prefix(ids, key, made)
    assert '"action' not in made.decode(ids[:at])
    assert len(made.decode(ids[:at])) <= key < len(made.decode(ids[: at + 1]))
    assert '"' in made.decode([ids[at]])


@pytest.mark.parametrize("make", [llama, mistral])
def test_a_prefix_may_be_longer_than_one_that_goes_on(make):
    """Two bytes of an emoji are longer than the emoji: what fooled a search by length."""
    made = make()
    ids = made.encode('😀😀😀😀😀😀😀😀"action": "+"').ids
    lengths = [len(made.decode(ids[:count])) for count in range(len(ids))]
    assert lengths != sorted(lengths)
    assert max(lengths) > made.decode(ids).index('"')
    at = found(ids, made)
    assert made.decode(ids[:at]) == "😀" * 8
    assert made.decode(ids[: at + 1]).startswith("😀" * 8 + '"')


@pytest.mark.parametrize("make", [llama, mistral])
def test_a_key_written_in_bytes_is_hidden_by_an_unfinished_character_behind_it(make):
    made = make()
    in_bytes = [made.token_to_id(f"<0x{value:02X}>") for value in 'é"action":中中中中'.encode()]
    assert made.decode(in_bytes[:4]) == 'é"a'
    assert '"' not in made.decode(in_bytes[:-1])
    assert found(in_bytes, made) == 2


WORDS = st.one_of(
    st.sampled_from(
        ['"action"', '"action":', '{"', "\n", " ", '"', "thoughts", "the quick", "é", "中文", "😀", "�"]
    ),
    st.characters(exclude_categories=["Cs"]),
)
TEXTS = st.lists(WORDS, max_size=30).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), TEXTS, TEXTS)
@example(llama, "数字是三", ' "+"')
@example(mistral, "😀é", '"😀"')
def test_any_output_with_a_key(make, before, after):
    made = make()
    ids = made.encode(f'{before}"action":{after}').ids
    key = find_action_key(made.decode(ids))
    assert key is not None
    assert found(ids, made) == by_looking_at_every_prefix(ids, key, made)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_any_tokens_around_a_key(make, data):
    """Sampled ids need not be how the tokenizer would write a text, nor text at all."""
    made = make()
    some = st.lists(st.integers(0, made.get_vocab_size() - 1), max_size=12)
    in_bytes = st.text('é中😀"a', max_size=4).map(lambda text: _bytes(made, text))
    key = st.sampled_from([made.encode('"action": "+"').ids, _bytes(made, '"action":')])
    ids = [i for part in data.draw(st.tuples(some, in_bytes, key, in_bytes, some)) for i in part]
    offset = find_action_key(made.decode(ids))
    if offset is None:
        assert found(ids, made) == len(ids)
    else:
        assert found(ids, made) == by_looking_at_every_prefix(ids, offset, made)


def _bytes(made: Tokenizer, text: str) -> list[int]:
    """A text in tokens of single bytes; as the tokenizer writes it where it has none."""
    ids = [made.token_to_id(f"<0x{value:02X}>") for value in text.encode()]
    return made.encode(text).ids if None in ids else ids
