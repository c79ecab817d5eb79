"""Solver samples, the cache's key, the number of samples."""

import re
from itertools import islice

import numpy as np
import pytest
import torch

from vlmagent.config import Config
from vlmagent.errors import UsageError
from vlmagent.models.hf import build_policy
from vlmagent.sft import (
    CAPTION_PROMPT,
    SftInterruptedError,
    cache_key,
    captions,
    corpus,
    mixed,
    solver_samples,
    train_sft,
    warmup_cosine,
)
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


def test_stages_come_in_order_and_captions_are_mixed_in(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
):
    stages = {"language_samples": 8, "caption_samples": 16, "caption_share": 0.5, "samples": 64}
    config = with_sft(small_config, **stages, batch_size=8)
    task = task_from_config(config)
    prompts: list[bool] = []

    def spy(policy, batch):
        prompts.extend(sample.prompt == CAPTION_PROMPT for sample in batch)
        return sum(p.sum() for p in policy.backbone.parameters()) * 0.0

    monkeypatch.setattr("vlmagent.sft.response_loss", spy)
    policy = build_policy(config.model, corpus(task, with_captions=True), 0)
    curve = train_sft(policy, config, task, lambda _: None)
    assert [any(prompts[:8]), all(prompts[8:24])] == [False, True]
    assert 16 < sum(prompts[24:]) < 48
    assert curve[-1].samples == len(prompts) == 88


def test_captions_say_what_the_picture_shows():
    by_task = {name: next(captions(build_task(name), 3)) for name in ("numberline", "ezpoints", "blackjack")}
    assert {sample.prompt for sample in by_task.values()} == {CAPTION_PROMPT}
    texts = {name: next(solver_samples(build_task(name), 3)).response for name in by_task}
    assert by_task["numberline"].response in texts["numberline"]
    assert by_task["ezpoints"].response in texts["ezpoints"]
    match = re.fullmatch(
        r"I have ([\d +]+) = (\d+ points and the dealer has \d+ points\.)", by_task["blackjack"].response
    )
    assert match is not None
    assert f"I have {match[2]}" in texts["blackjack"]


def test_a_task_without_captions_says_so(monkeypatch: pytest.MonkeyPatch):
    task = build_task("numberline")
    monkeypatch.setattr(type(task), "caption", lambda self, state: None)
    with pytest.raises(UsageError, match=r"'numberline' has no captions.*sft\.caption_share=0"):
        next(captions(task, 0))


def test_a_mixture_repeats_under_its_seed():
    def draw(seed: int) -> list[str]:
        task = build_task("numberline")
        stream = mixed(solver_samples(task, 1), captions(task, 2), 0.25, seed)
        return [sample.prompt for sample in islice(stream, 200)]

    assert draw(5) == draw(5) != draw(6)
    assert 30 < draw(5).count(CAPTION_PROMPT) < 70


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
