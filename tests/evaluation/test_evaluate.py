"""Evaluation: the same episodes for all, what is stored, and going on after an interruption."""

import io
import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vlmagent.agents.simple import RandomAgent
from vlmagent.cli.tables import eval_table
from vlmagent.config import Config
from vlmagent.errors import RunFailedError
from vlmagent.evaluation.evaluate import (
    EvaluationPlan,
    InterruptedEvaluationError,
    default_episodes,
    evaluate,
    find_earlier,
    finished,
)
from vlmagent.evaluation.results import EvalResult, evaluation_row
from vlmagent.evaluation.systems import System, baseline_system
from vlmagent.runs import folders
from vlmagent.store.reader import StoreReader
from vlmagent.store.writer import StoreWriter
from vlmagent.tasks.registry import build_task, task_from_config
from vlmagent.training.tally import Tally
from vlmagent.types import EpisodeEnd, EpisodeStart


def plan(config: Config, name: str, **changes) -> EvaluationPlan:
    task = task_from_config(config)
    made = EvaluationPlan(config, task, baseline_system(name, task), episodes=10, seed=0)
    return replace(made, **changes)


def play(config: Config, name: str, **changes) -> EvalResult:
    return evaluate(plan(config, name, **changes)).result


def test_expert_and_chance_on_numberline(small_config: Config):
    expert, chance = play(small_config, "expert", episodes=60), play(small_config, "random", episodes=60)
    assert expert.success == expert.goal_rate == expert.mean_return == 1.0
    assert expert.database is None
    assert 0.05 < chance.success < 0.6
    assert chance.goal_rate > chance.success
    assert chance.return_ci[0] < chance.mean_return < chance.return_ci[1]


def test_every_system_plays_the_same_episodes_whatever_the_batch(small_config: Config, tmp_path: Path):
    def seeds(name: str, num_envs: int) -> set[int]:
        config = Config.model_validate({**small_config.model_dump(), "eval": {"num_envs": num_envs}})
        found = evaluate(plan(config, name, folder=tmp_path / f"{name}{num_envs}"))
        with StoreReader(Path(str(found.result.database))) as reader:
            stored = {episode.seed for episode in reader.episodes(split="eval")}
        assert stored == {outcome.seed for outcome in found.outcomes}
        return stored

    first = seeds("expert", 4)
    assert len(first) == 10
    assert min(first) >= 2**31
    assert first == seeds("random", 4) == seeds("expert", 3)


def test_results_and_transitions_are_stored_apart_from_training(small_config: Config, tmp_path: Path):
    run = folders.create_run(small_config, tmp_path / "run")
    with StoreWriter(run.database) as writer:
        writer.start_run("run", "numberline", "tiny", "{}", 0)
    wanted = plan(small_config, "expert", run=run, folder=run.evaluations)
    result = evaluate(wanted).result
    with StoreReader(run.database) as reader:
        (row,) = reader.evaluations()
        assert reader.env_steps() == 0
    assert (row.system, row.success, row.episodes) == ("expert", 1.0, 10)
    assert row.success_low == pytest.approx(result.success_ci[0])
    connection = sqlite3.connect(run.path / str(result.database))
    steps, episodes = connection.execute(
        "SELECT count(*), count(DISTINCT episode_id) FROM transitions"
    ).fetchone()
    connection.close()
    assert episodes == 10
    assert steps == round(10 * result.mean_length)
    evaluate(wanted)  # a second one in the same second does not overwrite the first
    assert len(list(run.evaluations.glob("*.db"))) == 2


def test_seed_chooses_the_episodes(small_config: Config):
    assert play(small_config, "random").mean_return == play(small_config, "random").mean_return
    returns = {play(small_config, "random", seed=seed).mean_return for seed in range(4)}
    assert len(returns) > 1


def stop_after(calls: int) -> Callable[[], bool]:
    count = iter(range(10**9))
    return lambda: next(count) >= calls


def transitions(database: Path) -> list[tuple]:
    with sqlite3.connect(database) as connection:
        return connection.execute("SELECT * FROM transitions ORDER BY id").fetchall()


@pytest.mark.parametrize("calls", [0, 1, 5, 9])
def test_an_interrupted_evaluation_ends_like_one_left_alone(small_config: Config, tmp_path: Path, calls: int):
    alone = evaluate(plan(small_config, "random", episodes=14, folder=tmp_path / "alone"))
    wanted = plan(small_config, "random", episodes=14, folder=tmp_path / "stopped")
    with pytest.raises(InterruptedEvaluationError) as caught:
        evaluate(wanted, should_stop=stop_after(calls))
    assert caught.value.done < 14
    database = find_earlier(wanted)
    assert database == caught.value.database
    assert finished(database) is None
    resumed = evaluate(wanted, resume=database)
    assert resumed.outcomes == alone.outcomes
    assert transitions(database) == transitions(Path(str(alone.result.database)))
    times = {"seconds": 0.0, "database": None}
    assert replace(resumed.result, **times) == replace(alone.result, **times)


def test_what_is_finished_reads_back(small_config: Config, tmp_path: Path):
    wanted = plan(small_config, "random", folder=tmp_path)
    done = evaluate(wanted)
    database = find_earlier(wanted)
    assert database is not None
    assert finished(database) == done
    hotter = {"system": replace(wanted.system, temperature=0.5)}
    for other in ({"seed": 1}, {"episodes": 9}, hotter):
        assert find_earlier(replace(wanted, **other)) is None
    elsewhere = Config.model_validate({**small_config.model_dump(), "env": {"n_max": 7}})
    assert find_earlier(plan(elsewhere, "random", folder=tmp_path)) is None
    assert find_earlier(plan(small_config, "expert", folder=tmp_path)) is None
    (tmp_path / "zz-broken.db").write_text("no database")
    assert find_earlier(wanted) == database


class Unreliable(RandomAgent):
    """Gives no answer in the first step of every third decision."""

    def act(self, observations, states, seed):
        decisions = super().act(observations, states, seed)
        return [replace(d, error="no answer") if (seed + i) % 3 == 0 else d for i, d in enumerate(decisions)]


def test_an_episode_with_an_error_has_no_result(small_config: Config, tmp_path: Path):
    agent = Unreliable(task_from_config(small_config))
    wanted = plan(small_config, "random", episodes=30, system=System("unreliable", agent), folder=tmp_path)
    found = evaluate(wanted)
    assert found.result.errors > 0
    assert found.result.episodes + found.result.errors == 30
    assert found.result.legal_rate == 1.0
    again = finished(Path(str(found.result.database)))
    assert again is not None
    assert {o.seed for o in again.outcomes} == {o.seed for o in found.outcomes}


def test_without_any_result_it_is_a_failure(small_config: Config):
    class Silent(RandomAgent):
        def act(self, observations, states, seed):
            return [replace(d, error="no") for d in super().act(observations, states, seed)]

    system = System("silent", Silent(task_from_config(small_config)))
    with pytest.raises(RunFailedError, match="None of the 10 episodes of silent has a result"):
        evaluate(plan(small_config, "random", system=system))


def test_kinds_of_episodes_are_told_apart(small_config: Config):
    tally = Tally()
    for number, (kind, won) in enumerate([("pick", True), ("pick", False), ("heat", False)]):
        tally.episode_started(EpisodeStart(number, "eval", 0, seed=number))
        tally.episode_ended(EpisodeEnd(number, 5, 50.0 if won else -1.0, won, won, "terminated", kind))
    assert [o.kind for o in tally.outcomes] == ["pick", "pick", "heat"]
    assert play(small_config, "expert").by_type is None


def test_kinds_reach_the_result_and_the_table(small_config: Config, monkeypatch: pytest.MonkeyPatch):
    from rich.console import Console

    from vlmagent_envs.numberline import NumberLineEnv

    original = NumberLineEnv.step

    def step(self, action):
        *rest, info = original(self, action)
        return *rest, {**info, "task_type": "up" if info["target"] > 2 else "down"}

    monkeypatch.setattr(NumberLineEnv, "step", step)
    result = play(small_config, "expert", episodes=20)
    assert result.by_type is not None
    assert set(result.by_type) == {"up", "down"}
    assert sum(kind["episodes"] for kind in result.by_type.values()) == 20
    assert result.by_type["up"]["success"] == 1.0
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(eval_table([evaluation_row(result)]))
    assert f"100.0 ({result.by_type['up']['episodes']})" in console.export_text()


def test_episodes_as_in_the_paper_by_default():
    def count(**values) -> int:
        config = Config.model_validate(values)
        return default_episodes(config, build_task(config.task))

    assert count(task="numberline") == 200
    assert count(task="blackjack") == 1000
    assert count(task="blackjack", eval={"episodes": 7}) == 7


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
