"""Reproducing: what is planned, that it goes on where it stopped, and a whole small one from nothing."""

import shutil
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import SMALL
from tests.evaluation.report.made_runs import OVERRIDES, baseline, finished_run
from vlmagent import paths
from vlmagent.cli.main import app
from vlmagent.config import Config
from vlmagent.errors import UsageError
from vlmagent.evaluation.report.build import build
from vlmagent.evaluation.report.catalogue import CNN, NO_COT, RL, expected_config, find_item
from vlmagent.evaluation.report.collect import Options
from vlmagent.evaluation.report.runs import Library
from vlmagent.evaluation.reproduce import plan, run_all, usable_jobs, waited
from vlmagent.evaluation.runtime import known_speed, seconds_needed, sft_samples
from vlmagent.paths import Run
from vlmagent.runs import folders, launch

pytestmark = pytest.mark.usefixtures("forked_programs")
OPTIONS = Options(seeds=2, tasks=("numberline",), episodes=10, overrides=OVERRIDES)


def test_only_what_is_missing_is_planned():
    finished_run("numberline", RL, 0, (2, 9))
    finished_run("numberline", NO_COT, 1, (2, 9), of=9)
    baseline(expected_config("numberline", RL, 0, OVERRIDES), "expert", 10)
    works = {work.title: work for work in plan(find_item("table2"), OPTIONS)}
    assert "numberline: RL with CoT, seed 0" not in works
    missing = works["numberline: RL with CoT, seed 1"]
    assert (missing.train, missing.checkpoints) == (True, ("start", "latest"))
    assert missing.run == Run(paths.runs_dir() / "reproduce" / "numberline-rl-seed1")
    only_evaluate = works["numberline: RL without CoT, seed 1"]  # was evaluated on nine episodes
    assert (only_evaluate.train, only_evaluate.checkpoints) == (False, ("start", "latest"))
    assert works["numberline: random"].baselines == ("random",)
    assert len(works) == 6


def test_weights_that_are_the_recipes_own_share_its_run():
    titles = [work.title for work in plan(find_item("figure7"), OPTIONS)]
    assert len(titles) == 12
    finished_run("numberline", RL, 0, (2, 9))
    titles = [work.title for work in plan(find_item("figure7"), OPTIONS)]
    assert "numberline: λ = 0.5, seed 0" not in titles
    assert len(titles) == 11


def test_a_folder_with_another_recipe_is_not_touched():
    other = expected_config("numberline", RL, 0, {"ppo": {"env_steps": 10240}})
    folders.create_run(other, paths.runs_dir() / "reproduce" / "numberline-rl-seed0")
    with pytest.raises(UsageError, match=r"holds a run of another recipe.*mv "):
        plan(find_item("table3"), OPTIONS)


def test_the_estimate_comes_from_earlier_runs():
    finished_run("numberline", RL, 0, (2, 9))
    config = expected_config("numberline", RL, 1, OVERRIDES)
    speed = known_speed(config, Library())
    assert speed is not None
    assert speed.step == pytest.approx(4.0 / 5120)  # 3 s of collecting and 1 s of updating
    works = [work for work in plan(find_item("table1"), OPTIONS) if work.train]
    expected = 5120 * speed.step + 2 * 10 * 5 * speed.step
    assert seconds_needed(works, Library()) == pytest.approx(expected)
    assert known_speed(expected_config("numberline", CNN, 0, OVERRIDES), Library()) is None
    together = {**OVERRIDES, "distributed": {"processes": 2}}
    assert known_speed(expected_config("numberline", RL, 1, together), Library()) is None
    assert sft_samples(expected_config("numberline", CNN, 0, {})) == 0
    assert waited(100.0, works * 4, 2) == 50.0
    assert 1 <= usable_jobs(1000) <= 1000


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """NumberLine as the only recipe, in a size that trains in seconds."""
    import yaml

    folder = tmp_path / "configs"
    folder.mkdir()
    monkeypatch.setattr(paths, "config_dir", lambda: folder)
    recipe = {**SMALL, "ppo": {**SMALL["ppo"], "env_steps": 32}}
    (folder / "numberline.yaml").write_text(
        yaml.safe_dump(Config.model_validate(recipe).model_dump(mode="json"))
    )
    return Options(seeds=2, tasks=("numberline",), episodes=4)


def test_a_whole_table_from_nothing_interrupted_once(small: Options, tmp_path: Path):
    item = find_item("table3")
    works = plan(item, small)
    assert len(works) == 4
    seen: list[tuple[str, str]] = []
    cancelled = threading.Event()

    def watch(work, state) -> None:
        seen.append((work.title, state))
        if state == "done":
            cancelled.set()

    assert run_all(works, 1, watch, cancelled) == []
    states = [state for _, state in seen]
    assert states[:3] == ["training", "evaluating", "done"]
    assert states.count("stopped") == 3
    rest = plan(item, small)
    assert len(rest) == 3
    assert run_all(rest, 2, lambda *_: None, threading.Event()) == []
    assert plan(item, small) == []
    built = build(item, small, tmp_path / "out")
    assert built.missing == ()
    assert "±" in built.markdown


def test_a_run_that_fails_is_told_and_stops_no_other(small: Options, monkeypatch: pytest.MonkeyPatch):
    works = plan(find_item("table3"), Options(seeds=1, tasks=("numberline",), episodes=4))
    original = launch.start_daemon

    def start(run: Run, command=None, environment=None) -> int:
        assert environment == {"OMP_NUM_THREADS": "1"}
        if "nocot" in run.name:
            run.config_file.write_text("task: nothing")
        return original(run, command, environment)

    monkeypatch.setattr(launch, "start_daemon", start)
    (problem,) = run_all(works, 2, lambda *_: None, threading.Event())
    assert problem.startswith("numberline: RL without CoT, seed 0: ")
    assert "nothing" in problem


def test_the_command_keeps_records_and_counts_them(tmp_path: Path):
    """What is there already is recorded; afterwards the records alone are enough."""
    finished_run("numberline", RL, 0, (2, 9))
    finished_run("numberline", NO_COT, 0, (3, 5))
    records = tmp_path / "records"
    arguments = ["table3", "--task", "numberline", "--seeds", "1", "--episodes", "10", "--out", str(tmp_path)]
    arguments += ["--set", "ppo.env_steps=5120", "--records", str(records)]
    with_runs = CliRunner().invoke(app, ["reproduce", *arguments])
    assert with_runs.exit_code == 0
    assert "Records of 2 runs and evaluations" in with_runs.stderr
    assert len(list(records.glob("*.json"))) == 2
    shutil.rmtree(paths.runs_dir())
    without = CliRunner().invoke(app, ["report", *arguments])
    assert without.stdout.strip() == with_runs.stdout.strip()
    again = CliRunner().invoke(app, ["reproduce", *arguments])
    assert "Everything is there already." in again.stderr
    (records / "notes.json").write_text("{}")
    wrong = CliRunner().invoke(app, ["report", *arguments])
    assert wrong.exit_code != 0
    assert "notes.json is no record" in str(wrong.exception)
