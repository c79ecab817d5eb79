"""Solver samples, the cache's key, the number of samples."""

from itertools import islice

import numpy as np
import pytest
import torch

from vlmagent.config import Config
from vlmagent.models.hf import build_policy
from vlmagent.sft import SftInterruptedError, cache_key, corpus, solver_samples, train_sft, warmup_cosine
from vlmagent.tasks.registry import build_task, task_from_config
from vlmagent.types import SftSample


def with_sft(config: Config, **changes) -> Config:
    return Config.model_validate({**config.model_dump(), "sft": {**config.sft.model_dump(), **changes}})


def test_solver_samples_repeat_and_are_right():
    task = build_task("numberline")
    one = list(islice(solver_samples(task, 4), 20))
    two = list(islice(solver_samples(task, 4), 20))
    assert [s.response for s in one] == [s.response for s in two]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, two, strict=True))
    assert [s.response for s in one] != [s.response for s in islice(solver_samples(task, 5), 20)]
    assert {s.response.rsplit('"', 2)[1] for s in one} == {"+", "-"}


def test_exactly_as_many_samples_as_configured(small_config: Config):
    config = with_sft(small_config, samples=37, language_samples=10, batch_size=8)
    task = task_from_config(config)
    seen = []
    train_sft(build_policy(config.model, corpus(task), 0), config, task, seen.append)
    assert [p.samples for p in seen] == [8, 10, 18, 26, 34, 42, 47]
    assert [p.step for p in seen] == list(range(1, 8))


def test_the_language_stage_sees_no_picture(small_config: Config, monkeypatch: pytest.MonkeyPatch):
    config = with_sft(small_config, samples=8, language_samples=8, batch_size=8)
    task = task_from_config(config)
    batches: list[list[SftSample]] = []

    def spy(policy, batch):
        batches.append(batch)
        return sum(p.sum() for p in policy.backbone.parameters()) * 0.0

    monkeypatch.setattr("vlmagent.sft.response_loss", spy)
    train_sft(build_policy(config.model, corpus(task), 0), config, task, lambda _: None)
    language, real = batches
    assert all((sample.image == 255).all() for sample in language)
    assert not any((sample.image == 255).all() for sample in real)


def test_stopping_is_asked_between_steps(small_config: Config):
    task = task_from_config(small_config)
    policy = build_policy(small_config.model, corpus(task), 0)
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    with pytest.raises(SftInterruptedError):
        train_sft(policy, small_config, task, lambda _: None, lambda: True)
    assert all(torch.equal(value, policy.state_dict()[key]) for key, value in before.items())


def test_cache_key_depends_on_what_matters_only(small_config: Config):
    texts = corpus(task_from_config(small_config))
    key = cache_key(small_config, texts)
    assert key == cache_key(small_config, texts)
    data = small_config.model_dump()
    assert cache_key(Config.model_validate({**data, "ppo": {**data["ppo"], "lr": 1e-5}}), texts) == key
    for change in ({"seed": 1}, {"cot": False}, {"env": {"n_max": 7}}, {"sft": {**data["sft"], "lr": 1e-4}}):
        assert cache_key(Config.model_validate({**data, **change}), texts) != key
    assert cache_key(small_config, [*texts, "more"]) != key


def test_warmup_then_cosine():
    factors = [warmup_cosine(step, 100, 0.1, 0.2) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10] == 1.0
    assert factors == [*sorted(factors[:11]), *sorted(factors[11:], reverse=True)]
    assert factors[-1] == pytest.approx(0.2, abs=0.01)
