"""One PPO update with a scorer small enough to follow by hand."""

import math

import numpy as np
import pytest
import torch

from tests.training.distributed.thread_ranks import ThreadRanks, together
from vlmagent.config import PpoConfig
from vlmagent.errors import RunFailedError
from vlmagent.models.batching import Size
from vlmagent.models.logprob import Scores
from vlmagent.training.engines.local import LocalEngine
from vlmagent.training.rl.buffer import Sample
from vlmagent.training.rl.ppo import PpoUpdater
from vlmagent.training.schedule import cosine_factor
from vlmagent.types import Decision, Generation, ParsedAction, Transition

IMAGE = np.zeros((1, 1, 3), dtype=np.uint8)


class Bandit(torch.nn.Module):
    """Two-token outputs (a thought, an action) of a policy with one logit vector for each, and a constant critic."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(2, 3))
        self.value = torch.nn.Parameter(torch.zeros(()))
        self.scored: list[int] = []

    def sizes(self, transitions):
        """Outputs of one to three tokens after prompts of ten."""
        return [Size(10, 1 + transition.id % 3) for transition in transitions]

    def score(self, transitions):
        self.scored.append(len(transitions))
        table = torch.log_softmax(self.logits, -1)
        ids = torch.tensor(np.stack([t.decision.generation.token_ids for t in transitions]))
        chosen = torch.stack([table[0][ids[:, 0]], table[1][ids[:, 1]]], dim=1)
        entropy = -(table.exp() * table).sum(-1).expand(len(transitions), 2)
        mask = torch.ones(len(transitions), 2, dtype=torch.bool)
        return Scores(chosen, entropy, mask, self.value.expand(len(transitions)))


def samples(count=32, advantage=lambda action: 1.0 if action == 2 else -1.0):
    rng = np.random.default_rng(0)
    result = []
    for index in range(count):
        ids = rng.integers(0, 3, 2)
        logprobs = np.full(2, math.log(1 / 3), dtype=np.float32)
        generation = Generation("", ids.astype(np.int64), logprobs, 1, 0.0)
        decision = Decision("", "", "", ParsedAction("+", True, "+", None), generation=generation)
        transition = Transition(index + 1, 1, 1, 0, 0, IMAGE, decision, 0.0, False, False, 0.0)
        result.append(Sample(transition, advantage(int(ids[1])), 1.5))
    return result


def updater(bandit, **changes):
    config = PpoConfig(**{"minibatch_size": 16, "micro_batch_size": 16, "epochs": 3, "lr": 0.05, **changes})
    engine = LocalEngine([{"params": list(bandit.parameters()), "lr": config.lr}], config.max_grad_norm)
    return PpoUpdater(bandit, engine, config)


def test_good_actions_become_likelier_and_everything_is_measured():
    bandit = Bandit()
    stats = updater(bandit).update(samples(), seed=0)
    probabilities = torch.softmax(bandit.logits, -1).detach()
    assert probabilities[1, 2] > 1 / 3
    assert float(bandit.value.detach()) > 0  # towards the returns
    assert stats.first_ratio_error == pytest.approx(0.0, abs=1e-6)
    assert stats.kl > 0
    assert stats.entropy == pytest.approx(math.log(3), abs=0.05)
    assert stats.grad_norm > 0
    assert stats.skipped == 0
    assert 0 <= stats.clip_fraction <= 1


def test_thought_weight_zero_leaves_the_thoughts_alone():
    bandit = Bandit()
    updater(bandit, thought_weight=0.0, value_coef=0.0).update(samples(), seed=0)
    assert torch.equal(bandit.logits[0], torch.zeros(3))
    assert not torch.equal(bandit.logits[1], torch.zeros(3))


def test_the_critics_loss_is_counted_in_its_unit():
    """Returns of 15 in units of 10 are what returns of 1.5 are in units of 1."""
    results = []
    for unit in (1.0, 10.0):
        bandit = Bandit()
        large = [sample._replace(return_=sample.return_ * unit) for sample in samples()]
        config = PpoConfig(minibatch_size=32, epochs=1, value_scale=unit)
        engine = LocalEngine([{"params": [bandit.logits, bandit.value], "lr": 0.0}], 1e9)
        results.append(PpoUpdater(bandit, engine, config).update(large, seed=0))
    assert results[0].value_loss == pytest.approx(0.5 * 1.5**2)
    assert results[1].value_loss == pytest.approx(results[0].value_loss)


@pytest.mark.parametrize("micro", [1, 5, 16])
def test_micro_batches_give_the_same_update(micro):
    whole, parts = Bandit(), Bandit()
    updater(whole).update(samples(), seed=3)
    updater(parts, micro_batch_size=micro).update(samples(), seed=3)
    assert max(parts.scored) <= micro
    assert torch.allclose(whole.logits, parts.logits, atol=1e-5)
    assert torch.allclose(whole.value, parts.value, atol=1e-5)


def test_the_seed_decides_the_order():
    results = []
    for seed in (1, 1, 2):
        bandit = Bandit()
        updater(bandit, minibatch_size=4, micro_batch_size=4).update(samples(), seed=seed)
        results.append(bandit.logits.detach().clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_target_kl_leaves_epochs_out():
    bandit = Bandit()
    updater(bandit, epochs=10, target_kl=1e-6).update(samples(), seed=0)
    assert len(bandit.scored) < 20


def test_the_entropy_bonus_works():
    sharp, bonus = Bandit(), Bandit()
    for bandit, coefficient in ((sharp, 0.0), (bonus, 5.0)):
        bandit.logits.data[0] = torch.tensor([2.0, 0.0, 0.0])
        updater(bandit, entropy_coef=coefficient, thought_weight=0.0).update(samples(), seed=0)
    assert sharp.logits[0, 0] == 2.0
    assert bonus.logits[0, 0] < 2.0


class Talker(Bandit):
    """Outputs of one to four tokens, all under one logit vector: the longer ones have more of the entropy."""

    def score(self, transitions):
        outputs = [torch.tensor(t.decision.generation.token_ids) for t in transitions]
        ids = torch.nn.utils.rnn.pad_sequence(outputs, batch_first=True)
        mask = (
            torch.arange(ids.shape[1])[None, :] < torch.tensor([len(output) for output in outputs])[:, None]
        )
        table = torch.log_softmax(self.logits[0], -1)
        chosen = torch.where(mask, table[ids], torch.zeros(()))
        entropy = -(table.exp() * table).sum().expand(ids.shape)
        return Scores(
            chosen, torch.where(mask, entropy, torch.zeros(())), mask, self.value.expand(len(transitions))
        )


def talk(count=12):
    """Samples of outputs of different lengths."""
    rng = np.random.default_rng(1)
    result = []
    for index, sample in enumerate(samples(count)):
        length = 1 + (index + 1) % 4
        ids = rng.integers(0, 3, length)
        generation = Generation("", ids, np.full(length, math.log(1 / 3), dtype=np.float32), 0, 0.0)
        decision = Decision("", "", "", ParsedAction("+", True, "+", None), generation=generation)
        transition = Transition(index + 1, 1, 1, 0, 0, IMAGE, decision, 0.0, False, False, 0.0)
        result.append(Sample(transition, sample.advantage, 1.5))
    return result


@pytest.mark.parametrize("micro_batch_size", [1, 3, 5])
def test_what_is_learnt_does_not_depend_on_how_memory_cuts_a_minibatch(micro_batch_size):
    def learnt(size):
        bandit = Talker()
        bandit.logits.data[0] = torch.tensor([1.0, 0.0, -1.0])
        stats = updater(
            bandit, minibatch_size=12, micro_batch_size=size, epochs=2, entropy_coef=2.0, thought_weight=0.7
        ).update(talk(), seed=0)
        return bandit.logits.detach(), stats

    whole, cut = learnt(12), learnt(micro_batch_size)
    assert torch.allclose(whole[0], cut[0], atol=1e-6)
    assert not torch.allclose(whole[0][0], torch.tensor([1.0, 0.0, -1.0]))
    assert cut[1].entropy == pytest.approx(whole[1].entropy, rel=1e-5)
    assert cut[1].policy_loss == pytest.approx(whole[1].policy_loss, abs=1e-6)


def test_not_a_number_changes_nothing_and_stops_in_the_end():
    bandit = Bandit()
    broken = samples(advantage=lambda _: float("nan"))
    with pytest.raises(RunFailedError, match="4 optimiser steps in a row"):
        updater(bandit, max_skipped=3, normalize_advantages=False, epochs=10).update(broken, seed=0)
    assert torch.equal(bandit.logits, torch.zeros(2, 3))


def test_cosine_factor():
    assert cosine_factor(0, 25, 0.1) == 1.0
    assert cosine_factor(25, 25, 0.1) == pytest.approx(0.1)
    assert cosine_factor(12, 24, 0.0) == pytest.approx(0.5)
    assert cosine_factor(100, 25, 0.1) == pytest.approx(0.1)  # flat after the end, not up again


def test_clipping_bounds_the_step():
    """With a plain gradient step the change of a weight never exceeds lr * max_grad_norm."""
    weight = torch.nn.Parameter(torch.zeros(3))
    engine = LocalEngine([{"params": [weight], "lr": 1.0}], max_grad_norm=0.5)
    engine.optimizer = torch.optim.SGD([weight], lr=1.0)
    engine.backward((weight * torch.tensor([30.0, 40.0, 0.0])).sum())
    assert engine.step() == pytest.approx(50.0)
    assert float(weight.norm()) == pytest.approx(0.5, rel=1e-4)


def test_a_token_budget_gives_the_same_update():
    whole, parts = Bandit(), Bandit()
    updater(whole).update(samples(), seed=3)
    updater(parts, max_tokens_per_micro_batch=40).update(samples(), seed=3)
    assert max(parts.scored) <= 3
    assert torch.allclose(whole.logits, parts.logits, atol=1e-5)
    assert torch.allclose(whole.value, parts.value, atol=1e-5)


@pytest.mark.parametrize("budget", [0, 1000])
def test_running_out_of_memory_halves_the_micro_batch_for_good(budget):
    """The failed attempt leaves no trace: the update is the one that smaller micro-batches give."""

    class Small(Bandit):
        failures = 0

        def score(self, transitions):
            if len(transitions) > 5:
                self.failures += 1
                if self.failures > 1:  # after a first micro-batch that went well
                    raise torch.OutOfMemoryError("CUDA out of memory")
            return super().score(transitions)

    whole, small = Bandit(), Small()
    updater(whole, max_tokens_per_micro_batch=budget).update(samples(), seed=3)
    worker = updater(small, max_tokens_per_micro_batch=budget, micro_batch_size=8)
    worker.update(samples(), seed=3)
    assert worker.batcher.shrunk >= 1
    assert small.scored[-1] <= 5
    assert small.failures == worker.batcher.shrunk + 1
    assert torch.allclose(whole.logits, small.logits, atol=1e-5)
    assert torch.allclose(whole.value, small.value, atol=1e-5)


def test_one_sample_that_does_not_fit_ends_the_update():
    class Full(Bandit):
        def score(self, transitions):
            raise torch.OutOfMemoryError("CUDA out of memory")

    bandit = Full()
    with pytest.raises(torch.OutOfMemoryError):
        updater(bandit).update(samples(), seed=0)
    assert bandit.logits.grad is None


class Averaging(LocalEngine):
    """An engine of one of several threads: gradients are averaged when it steps."""

    def __init__(self, ranks: ThreadRanks, bandit: Bandit, each_pass: bool) -> None:
        super().__init__([{"params": list(bandit.parameters()), "lr": 0.05}], 0.5)
        self.ranks, self.averages_each_pass = ranks, each_pass

    def step(self):
        for parameter in self._parameters:
            every = self.ranks.table(parameter.grad.flatten().tolist())
            parameter.grad = torch.tensor(every.mean(0), dtype=torch.float32).view_as(parameter)
        return super().step()


class Narrow(Bandit):
    """Has room for five samples, but notices only after a first micro-batch that went well."""

    failed = 0

    def score(self, transitions):
        if len(transitions) > 5 and self.scored:
            self.failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().score(transitions)


def shared_update(bandits, each_pass, **changes):
    """Two processes update on half of the samples each."""
    config = PpoConfig(**{"minibatch_size": 32, "micro_batch_size": 8, "epochs": 3, **changes})

    def work(ranks):
        engine = Averaging(ranks, bandits[ranks.rank], each_pass)
        half = samples()[ranks.rank * 16 : ranks.rank * 16 + 16]
        return PpoUpdater(bandits[ranks.rank], engine, config, ranks).update(half, seed=3)

    return together(2, work)


@pytest.mark.parametrize("budget", [0, 1000])
def test_a_process_that_runs_out_of_memory_tries_again_alone(budget):
    """Nobody else notices, and the update is that of one process with room for everything."""
    whole = Bandit()
    expected = updater(whole, minibatch_size=32, micro_batch_size=32).update(samples(), seed=3)
    bandits = [Bandit(), Narrow()]
    stats, others = shared_update(bandits, each_pass=False, max_tokens_per_micro_batch=budget)
    assert bandits[1].failed >= 1
    assert bandits[1].scored[-1] <= 5
    assert set(bandits[0].scored) == {8}
    for bandit in bandits:
        assert torch.allclose(whole.logits, bandit.logits, atol=1e-5)
        assert torch.allclose(whole.value, bandit.value, atol=1e-5)
    assert stats.policy_loss == others.policy_loss == pytest.approx(expected.policy_loss, abs=1e-5)


@pytest.mark.parametrize(
    ("budget", "advice"),
    [
        (0, r"--set ppo\.micro_batch_size=4 \(it held 8 samples\)"),
        (110, r"--set ppo\.max_tokens_per_micro_batch=\d\d \(it held \d\d+ tokens\)"),
    ],
)
def test_where_the_others_wait_in_the_middle_it_says_what_to_set(budget, advice):
    with pytest.raises(RunFailedError, match=rf"^Memory ran out .* \d samples.*{advice}.*--deepspeed zero1"):
        shared_update([Bandit(), Narrow()], each_pass=True, max_tokens_per_micro_batch=budget)


def test_everybody_goes_back_as_often_as_the_others_wait_for():
    bandits = [Bandit(), Bandit()]
    bandits[1].sizes = lambda transitions: [Size(60, 40)] * len(transitions)
    shared_update(bandits, each_pass=True, max_tokens_per_micro_batch=200, epochs=1)
    assert bandits[1].scored == [2] * 8
    assert bandits[0].scored == [8, 8, 1, 1, 1, 1, 1, 1]
    assert torch.allclose(bandits[0].logits, bandits[1].logits, atol=1e-6)
