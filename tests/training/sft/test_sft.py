"""How supervised fine-tuning learns: its losses and steps, interruptions, the cache and its key."""

import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.training.sft.made_config import with_sft
from vlmagent import paths
from vlmagent.config import Config
from vlmagent.models.hf import build_policy
from vlmagent.paths import Run
from vlmagent.tasks.registry import task_from_config
from vlmagent.training.checkpoint import load_sft_state
from vlmagent.training.schedule import warmup_cosine
from vlmagent.training.sft.cache import cache_key, sft_policy
from vlmagent.training.sft.loss import response_scores, split_loss, text_scores
from vlmagent.training.sft.samples import (
    corpus,
    solver_samples,
)
from vlmagent.training.sft.sft import SftInterruptedError, SftProgress, train_sft
from vlmagent.types import SftSample


def test_prompts_are_scored_like_responses_where_they_teach_language(small_config: Config):
    task = task_from_config(small_config)
    policy = build_policy(small_config.model, corpus(task), 0)
    batch = [
        SftSample(None, prompt, answer) for prompt, answer in (("Go on.", "12 + 3"), ("Go there now.", "7"))
    ]
    lengths = [len(policy.tokenize_output(sample.response)) for sample in batch]
    alone, whole = response_scores(policy, batch), text_scores(policy, batch)
    responses, none = split_loss(alone, lengths)
    again, prompts = split_loss(whole, lengths)
    assert responses.item() == pytest.approx(-alone.token_logprobs.sum().item() / sum(lengths))
    assert none.item() == 0
    assert again.item() == pytest.approx(responses.item(), abs=1e-5)
    for row, (sample, length) in enumerate(zip(batch, lengths, strict=True)):
        assert torch.allclose(
            whole.token_logprobs[row][whole.mask[row]][-length:],
            alone.token_logprobs[row, :length],
            atol=1e-5,
        )
        ids = policy.encode(sample.prompt, None).input_ids.tolist()[1:]
        assert int(whole.mask[row].sum()) == sum(token not in policy.banned for token in ids) + length
    assert prompts.item() > 0
    prompts.backward()
    assert all(p.grad.isfinite().all() for p in policy.trained_parameters() if p.grad is not None)


def test_prompts_are_learnt_in_the_language_stage_alone(small_config: Config):
    def prompt_loss(**changes: float) -> float:
        config = with_sft(small_config, language_samples=320, samples=0, batch_size=8, **changes)
        task = task_from_config(config)
        policy = build_policy(config.model, corpus(task), 0)
        train_sft(policy, config, task, lambda _: None)
        held = [SftSample(None, s.prompt, s.response) for s in islice(solver_samples(task, 99), 4)]
        lengths = [len(policy.tokenize_output(sample.response)) for sample in held]
        with torch.no_grad():
            return float(split_loss(text_scores(policy, held), lengths)[1])

    assert prompt_loss(language_prompts=1.0) < 0.9 * prompt_loss()


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


def test_micro_batches_give_the_same_fine_tuning(small_config: Config):
    task = task_from_config(small_config)
    policies, losses = [], []
    for micro in (0, 5):
        config = with_sft(small_config, samples=48, micro_batch_size=micro)
        policies.append(build_policy(config.model, corpus(task), 0))
        losses.append([point.loss for point in train_sft(policies[-1], config, task, lambda _: None)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    for one, two in zip(*(policy.parameters() for policy in policies), strict=True):
        assert torch.allclose(one, two, atol=1e-4)


def test_running_out_of_memory_makes_micro_batches_smaller(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
):
    sizes: list[int] = []

    def small(policy, batch):
        sizes.append(len(batch))
        if len(batch) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return response_scores(policy, batch)

    monkeypatch.setattr("vlmagent.training.sft.sft.response_scores", small)
    task = task_from_config(small_config)
    config = with_sft(small_config, samples=32)
    train_sft(build_policy(config.model, corpus(task), 0), config, task, lambda _: None)
    assert sizes == [16, 8, 4, 4, 4, 4, 4, 4, 4, 4]


@pytest.mark.parametrize("stages", [{"samples": 96}, {"samples": 48, "language_samples": 48}])
def test_an_interrupted_fine_tuning_continues_exactly(small_config: Config, tmp_path: Path, stages):
    """Stopped after four steps and continued, it ends with the weights and the curve of one left alone."""
    config = with_sft(small_config, **stages)
    task = task_from_config(config)
    alone, _ = sft_policy(config, task, lambda _: None)
    seen: list[SftProgress] = []
    run = Run(tmp_path)
    shutil.rmtree(paths.cache_dir())
    with pytest.raises(SftInterruptedError):
        sft_policy(config, task, seen.append, lambda: len(seen) >= 4, run)
    assert [point.step for point in seen] == [1, 2, 3, 4]
    continued, cached = sft_policy(config, task, seen.append, run=run)
    assert not cached
    assert [point.step for point in seen] == [1, 2, 3, 4, 5, 6]
    assert [point.samples for point in seen] == [16, 32, 48, 64, 80, 96]
    for one, two in zip(alone.parameters(), continued.parameters(), strict=True):
        assert torch.equal(one, two)
    assert not list(run.checkpoints.glob("*"))


def test_progress_is_saved_now_and_then(small_config: Config, tmp_path: Path):
    """A process that is killed loses no more than ``checkpoint_every`` steps."""
    config, run = with_sft(small_config, samples=96, checkpoint_every=2), Run(tmp_path)
    task = task_from_config(config)

    def killed(progress: SftProgress) -> None:
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sft_policy(config, task, killed, run=run)
    found = load_sft_state(run, config.model, config.seed)
    assert found is not None
    assert (found[1].stage, found[1].step, len(found[1].curve)) == (3, 4, 4)


def test_the_cache_key_leaves_out_what_does_not_change_the_result(small_config: Config):
    texts = corpus(task_from_config(small_config))
    key = cache_key(small_config, texts)
    assert cache_key(with_sft(small_config, micro_batch_size=4, checkpoint_every=7), texts) == key


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    small_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("VLMAGENT_CACHE", str(tmp_path / "file"))
    config = with_sft(small_config, samples=16)
    with pytest.warns(UserWarning, match="not kept for later runs"):
        policy, cached = sft_policy(config, task_from_config(config), lambda _: None)
    assert not cached
    assert not policy.training
