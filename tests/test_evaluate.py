"""Evaluation: the same episodes for all, intervals, and what is stored."""

import io
import json
import sqlite3
from pathlib import Path

import pytest

from vlmagent import launch, paths
from vlmagent.config import Config
from vlmagent.evaluate import baseline_system, bootstrap_mean, evaluate, evaluation_row, wilson
from vlmagent.published import published_rows
from vlmagent.store.reader import StoreReader
from vlmagent.store.writer import StoreWriter
from vlmagent.tables import eval_table
from vlmagent.tasks.registry import task_from_config


def play(config: Config, name: str, **kwargs):
    system = baseline_system(name, task_from_config(config))
    return evaluate(config, system, **{"episodes": 10, "seed": 0, "temperature": None, **kwargs})


def test_expert_and_chance_on_numberline(small_config: Config):
    expert, chance = play(small_config, "expert", episodes=60), play(small_config, "random", episodes=60)
    assert expert.success == expert.goal_rate == expert.mean_return == 1.0
    assert expert.success_ci == pytest.approx(wilson(60, 60))
    assert 0.05 < chance.success < 0.6
    assert chance.goal_rate > chance.success
    assert chance.return_ci[0] < chance.mean_return < chance.return_ci[1]


def test_every_system_plays_the_same_episodes_whatever_the_batch(small_config: Config, tmp_path: Path):
    def seeds(name: str, num_envs: int) -> set[int]:
        config = Config.model_validate({**small_config.model_dump(), "eval": {"num_envs": num_envs}})
        run = launch.create_run(config, tmp_path / f"{name}{num_envs}")
        with StoreWriter(run / paths.DATABASE):
            pass
        result = play(config, name, run=run)
        with StoreReader(run / str(result.database)) as reader:
            return {episode.seed for episode in reader.episodes(split="eval")}

    first = seeds("expert", 4)
    assert len(first) == 10
    assert min(first) >= 2**31
    assert first == seeds("random", 4) == seeds("expert", 3)


def test_results_and_transitions_are_stored_apart_from_training(small_config: Config, tmp_path: Path):
    run = launch.create_run(small_config, tmp_path / "run")
    with StoreWriter(run / paths.DATABASE) as writer:
        writer.start_run("run", "numberline", "tiny", "{}", 0)
    result = play(small_config, "expert", run=run)
    with StoreReader(run / paths.DATABASE) as reader:
        (row,) = reader.evaluations()
        assert reader.env_steps() == 0
    assert (row.system, row.success, row.episodes) == ("expert", 1.0, 10)
    assert row.success_low == pytest.approx(result.success_ci[0])
    connection = sqlite3.connect(run / str(result.database))
    steps, episodes = connection.execute(
        "SELECT count(*), count(DISTINCT episode_id) FROM transitions"
    ).fetchone()
    connection.close()
    assert episodes == 10
    assert steps == round(10 * result.mean_length)
    play(small_config, "expert", run=run)  # a second one in the same second does not overwrite the first
    assert len(list((run / "evaluations").glob("*.db"))) == 2


def test_seed_chooses_the_episodes(small_config: Config):
    assert play(small_config, "random").mean_return == play(small_config, "random").mean_return
    returns = {play(small_config, "random", seed=seed).mean_return for seed in range(4)}
    assert len(returns) > 1


def test_wilson_interval_against_a_textbook_value():
    assert wilson(198, 200) == pytest.approx((0.9643, 0.9973), abs=1e-4)
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0


def test_bootstrap_interval():
    assert bootstrap_mean([1.0, 1.0], 0) == (1.0, 1.0)
    assert bootstrap_mean([3.0], 0) == (3.0, 3.0)
    low, high = bootstrap_mean([0.0, 1.0] * 50, 0)
    assert 0.38 < low < 0.45 < 0.55 < high < 0.62
    assert bootstrap_mean([0.0, 1.0] * 50, 0) == (low, high)


def test_rows_are_json(small_config: Config):
    document = json.loads(json.dumps(evaluation_row(play(small_config, "expert"))))
    assert document["success"] == 1.0
    assert len(document["success_ci"]) == 2


def test_published_rows_stand_beside_ours_and_are_marked(small_config: Config):
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    console.print(eval_table([evaluation_row(play(small_config, "expert"))]))
    text = console.export_text()
    assert "RL with CoT (published)" in text
    assert "rules: paper" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text
    assert [row.success for row in published_rows("numberline")] == [87.1, 65.5, 82.5, 24.8, 26.9, 89.4]
    assert published_rows("somebody-elses") == []
