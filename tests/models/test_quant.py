"""Quantised loading: said in a sentence where it cannot be, and what it gives where bitsandbytes is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vlmagent.config import ModelConfig
from vlmagent.errors import UsageError
from vlmagent.models import quant
from vlmagent.models.hf import load_policy
from vlmagent.models.quant import quantization_options


def settings(folder: Path | str = "some/model", **changes: Any) -> ModelConfig:
    model = {
        "name": str(folder),
        "lora": {"enabled": True, "r": 4},
        "quantization": "8bit",
        "value_head": [16],
    }
    return ModelConfig.model_validate({**model, **changes})


def test_nothing_is_asked_of_unquantised_weights() -> None:
    assert quantization_options(settings(quantization="none")) == {}


def test_frozen_weights_need_adapters() -> None:
    with pytest.raises(UsageError, match=r"set model\.lora\.enabled=true"):
        quantization_options(settings(lora={"enabled": False}))


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quant, "find_spec", lambda _name: None)
    with pytest.raises(
        UsageError, match=r"4bit needs the package bitsandbytes: pip install 'vlmagent\[quant\]'"
    ):
        quantization_options(settings(quantization="4bit"))


def test_the_settings_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quant, "find_spec", lambda name: name)
    eight = quantization_options(settings(device="cpu"))
    assert eight["quantization_config"].load_in_8bit
    assert eight["device_map"] == {"": torch.device("cpu")}
    four = quantization_options(settings(quantization="4bit"))["quantization_config"]
    assert (four.load_in_4bit, four.bnb_4bit_quant_type) == (True, "nf4")
    assert four.bnb_4bit_compute_dtype == torch.bfloat16


def test_eight_bits_learn_through_their_adapters(checkpoint: Callable[[str], Path]) -> None:
    pytest.importorskip("bitsandbytes")
    from tests.models.test_families import states

    policy = load_policy(checkpoint("llava"), settings(checkpoint("llava")))
    weight = policy.model.model.language_model.layers[0].mlp.up_proj.base_layer.weight
    assert weight.dtype == torch.int8
    assert not policy.exact, "old log-probs have to come from the training pass"
    sampled = policy.sample(states(policy), temperature=1.0, max_new_tokens=4, seed=0)
    scores = policy.score(states(policy), [output.token_ids for output in sampled], temperature=1.0)
    scores.token_logprobs.sum().backward()
    assert all(p.grad is not None for n, p in policy.backbone.named_parameters() if "lora_B" in n)
