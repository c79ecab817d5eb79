"""The built-in model's fresh weights."""

import pytest
import torch

from vlmagent.config import TinyModelConfig
from vlmagent.models.tiny import build_model, build_tokenizer, repeated_sentences

TEXTS = ["one two three", "two three one"] * 4


def weights(**changes: float) -> dict[str, torch.Tensor]:
    config = TinyModelConfig.model_validate({"image_size": 24, **changes})
    return dict(build_model(config, build_tokenizer(TEXTS, config.vocab_size), 0).named_parameters())


def spread(found: dict[str, torch.Tensor], name: str) -> float:
    return next(float(weight.detach().std()) for key, weight in found.items() if key.endswith(name))


@pytest.mark.parametrize(("field", "expected"), [(None, 0.02), (0.09, 0.09)])
def test_the_decoders_spread(field: float | None, expected: float) -> None:
    found = weights(**({"init_std": field} if field else {}))
    for name in ("embed_tokens.weight", "language_model.layers.0.self_attn.q_proj.weight", "lm_head.weight"):
        assert spread(found, name) == pytest.approx(expected, rel=0.05)
    assert spread(found, "patch_embedding.weight") == pytest.approx(0.02, rel=0.05)


def test_the_embeddings_of_places_and_patches() -> None:
    found = weights(vision_init_std=0.2)
    assert spread(found, "position_embedding.weight") == pytest.approx(0.2, rel=0.15)
    assert spread(found, "patch_embedding.weight") == pytest.approx(0.2, rel=0.05)
    assert spread(found, "lm_head.weight") == pytest.approx(0.02, rel=0.05)


PROMPTS_WITH_FORMULA = [
    f"USER: You play cards. The formula: '{formula}'. Choose from [1, 2, 3, 4, 5].\nAnswer:\nASSISTANT: "
    for formula in ("", "1+", "1+2", "2+")
]


def test_sentences_that_most_prompts_repeat() -> None:
    others = ["USER: What does the picture show?\nASSISTANT: "]
    assert repeated_sentences(PROMPTS_WITH_FORMULA + others) == [
        "Choose from [1, 2, 3, 4, 5].\n",
        "You play cards. ",
        "The formula: ",
    ]
    assert repeated_sentences([]) == []


def test_a_folded_sentence_is_one_token_and_reads_the_same() -> None:
    plain, folded = (build_tokenizer(PROMPTS_WITH_FORMULA * 2, 400, fold=fold) for fold in (False, True))
    text = PROMPTS_WITH_FORMULA[2]
    ids = folded(text, add_special_tokens=False)["input_ids"]
    assert folded.decode(ids) == text
    assert folded.convert_ids_to_tokens(ids)[1] == "You play cards. "
    assert len(ids) < len(plain(text, add_special_tokens=False)["input_ids"])
    assert folded.convert_tokens_to_ids("The formula: ") not in folded.all_special_ids


def test_whole_words_are_the_same_tokens_wherever_they_stand() -> None:
    texts = ["choose 'go to shelf 12', 'take mug 1 from shelf 12'"] * 4
    tokenizer = build_tokenizer(texts, 400, words=True)
    tokens = [tokenizer.decode([i]) for i in tokenizer(texts[0], add_special_tokens=False)["input_ids"]]
    assert "".join(tokens) == texts[0]
    assert tokens[-6:] == [" mug", " 1", " from", " shelf", " 12", "'"]
    assert tokens.count(" shelf") == 2
