"""The baseline through the whole program: trained, interrupted, evaluated; and what cannot be used is told at once."""

import sqlite3
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import SMALL
from vlmagent.config import Config
from vlmagent.errors import UsageError
from vlmagent.evaluation.evaluate import EvaluationPlan, evaluate
from vlmagent.evaluation.systems import checkpoint_system
from vlmagent.models.cnn import CnnPolicy
from vlmagent.models.encoders import check_encoders
from vlmagent.paths import Run
from vlmagent.runs import folders
from vlmagent.store.reader import StoreReader
from vlmagent.tasks.registry import task_from_config
from vlmagent.training.checkpoint import load_checkpoint, load_network
from vlmagent.training.learners import initial_network, learning_rates, network_name
from vlmagent.training.saved import find_checkpoint
from vlmagent.training.train import train

CNN = {**SMALL, "agent": "cnn", "cnn": {"hidden": [16, 16], "lr": 1e-3}}


def new_run(folder: Path, **changes) -> Run:
    return folders.create_run(Config.model_validate({**CNN, **changes}), folder)


def transitions(run: Run) -> list[tuple]:
    with sqlite3.connect(f"file:{run.database}?mode=ro", uri=True) as connection:
        return connection.execute("SELECT * FROM transitions ORDER BY id").fetchall()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cnn")
        patch.setenv("VLMAGENT_CACHE", str(folder / "cache"))
        run = new_run(folder / "run")
        assert train(run, lambda: False) == "done"
        return run


def test_a_run_of_the_baseline_is_a_run_like_any_other(trained: Run):
    with StoreReader(trained.database) as reader:
        run = reader.run()
        assert run is not None
        assert (run.model, run.status, reader.env_steps()) == ("cnn", "done", 96)
        names = set(reader.metric_names())
        rows = reader.transitions_after(0)
        first_error = max(row.value for row in reader.metric_series("ppo/first_ratio_error"))
    assert {"rollout/success", "ppo/kl", "ppo/entropy", "ppo/learning_rate"} <= names
    assert not any(name.startswith("sft/") for name in names)
    assert first_error < 1e-5
    assert all(len(row.token_ids) == 1 and row.legal_output for row in rows)
    assert all(row.thought_logprob == 0.0 and row.logprob == row.action_logprob for row in rows)
    assert all(row.advantage is not None for row in rows)
    assert {row.output for row in rows} == {"+", "-"}


@pytest.mark.parametrize("calls", [0, 5, 13])
def test_an_interrupted_one_ends_like_one_left_alone(trained: Run, tmp_path: Path, calls: int):
    run = new_run(tmp_path / "run")
    count = iter(range(10**9))
    assert train(run, lambda: next(count) >= calls) == "stopped"
    torch.manual_seed(calls)
    assert train(run, lambda: False) == "done"
    assert transitions(run) == transitions(trained)
    for file in ("cnn.safetensors", "optimizer.safetensors"):
        mine, theirs = load_file(find_checkpoint(run) / file), load_file(find_checkpoint(trained) / file)
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_its_checkpoint_is_evaluated_on_the_same_episodes(trained: Run):
    config = Config.model_validate(CNN)
    task = task_from_config(config)
    untrained = checkpoint_system(config, task, find_checkpoint(trained, "start"))
    system = checkpoint_system(config, task, find_checkpoint(trained))
    assert (untrained.name, system.name, system.model) == ("cnn untrained", "cnn", "tiny")
    found = evaluate(EvaluationPlan(config, task, system, episodes=8, seed=0))
    assert found.result.temperature == 1.0  # its own distribution
    assert found.result.legal_rate == 1.0
    assert evaluate(EvaluationPlan(config, task, system, episodes=8, seed=0)).outcomes == found.outcomes


def test_a_language_model_is_not_expected_in_it(trained: Run):
    with pytest.raises(UsageError, match="the baseline 'cnn', which has no words"):
        load_checkpoint(find_checkpoint(trained))
    network, state = load_network(find_checkpoint(trained))
    assert isinstance(network, CnnPolicy)
    assert state.env_steps == 96


def test_tasks_with_text_get_a_text_encoder_and_every_action_a_name(tmp_path: Path):
    config = Config.model_validate({**CNN, "task": "ezpoints"})
    network, cached = initial_network(config, task_from_config(config), print, lambda: False, Run(tmp_path))
    assert isinstance(network, CnnPolicy)
    assert not cached
    assert network.text is not None
    assert network.names == task_from_config(config).actions


def test_its_eye_may_come_from_supervised_fine_tuning(tmp_path: Path):
    config = Config.model_validate({**CNN, "cnn": {"vision": "sft", "hidden": [8]}})
    steps = []
    network, cached = initial_network(
        config, task_from_config(config), steps.append, lambda: False, Run(tmp_path)
    )
    assert steps
    assert not cached
    assert network_name(config) == "cnn (sft)"
    again, cached = initial_network(config, task_from_config(config), print, lambda: False, Run(tmp_path))
    assert cached
    one, two = network.vision.model.state_dict(), again.vision.model.state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    fresh, _ = initial_network(
        Config.model_validate(CNN), task_from_config(config), print, lambda: False, Run(tmp_path)
    )
    other = fresh.vision.model.state_dict()
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_its_learning_rates_are_its_own():
    config = Config.model_validate(CNN)
    rates = learning_rates(config)
    assert (rates.policy, rates.value, rates.final) == (1e-3, 1e-3, 1e-8)
    assert learning_rates(Config(task="numberline")).policy == 2e-4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"vision": "/nowhere"}, ["cnn.vision = '/nowhere' does not exist", "tiny, sft"]),
        ({"text": "."}, ["cnn.text = '.' holds no config.json"]),
    ],
)
def test_encoders_that_are_not_there(values, words):
    with pytest.raises(UsageError) as caught:
        check_encoders(Config.model_validate({**CNN, "cnn": values}).cnn)
    for word in words:
        assert word in str(caught.value)
