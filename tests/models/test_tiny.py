"""The built-in model's fresh weights."""

import pytest
import torch

from vlmagent.config import TinyModelConfig
from vlmagent.models.tiny import build_model, build_tokenizer

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
