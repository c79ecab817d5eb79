"""The command line as its users meet it: a whole run through a real daemon, and every wrong word answered."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import SMALL
from vlmagent.config import load_config
from vlmagent.paths import Run
from vlmagent.runs import folders

pytestmark = pytest.mark.usefixtures("forked_programs")


def flatten(section, prefix=""):
    for key, value in section.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        elif prefix or key != "task":
            yield f"--set={prefix}{key}={json.dumps(value)}"


SMALL_OPTIONS = list(flatten(SMALL))


def vlmagent(*arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "vlmagent", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, trained by the command through its daemon."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cli")
        patch.setenv("VLMAGENT_RUNS", str(folder / "runs"))
        patch.setenv("VLMAGENT_CACHE", str(folder / "cache"))
        result = vlmagent("train", "numberline", *SMALL_OPTIONS)
        assert result.returncode == 0, result.stderr
        yield folders.resolve_run("latest"), result


def test_train_attached_shows_progress_and_what_next(trained):
    run, result = trained
    assert "sft" in result.stderr
    assert "update 3/3" in result.stderr
    assert f"vlmagent eval --run {run}" in result.stderr
    assert run.path.parent.name == "runs"
    assert (run.path.parent / "latest").resolve() == run.path


def test_runs_commands(trained, monkeypatch):
    run, _ = trained
    monkeypatch.setenv("VLMAGENT_RUNS", str(run.path.parent))
    listed = json.loads(vlmagent("runs", "list", "--json").stdout)
    assert [(row["status"], row["env_steps"], row["task"]) for row in listed] == [("done", 96, "numberline")]
    shown = json.loads(vlmagent("runs", "show", "--json").stdout)
    assert shown["path"] == str(run)
    assert shown["status"] == "done"
    text = vlmagent("runs", "show", run.name).stdout
    assert "ppo/kl" in text
    assert "step-96" in text
    assert vlmagent("runs", "logs", "-n", "5").returncode == 0
    stopped = vlmagent("runs", "stop")
    assert "not running" in stopped.stdout + stopped.stderr


def test_eval_json_is_the_contract(trained, monkeypatch):
    run, _ = trained
    monkeypatch.setenv("VLMAGENT_RUNS", str(run.path.parent))
    result = vlmagent("eval", "numberline", "--run", str(run), "--episodes", "6", "--seed", "3", "--json")
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)["results"]
    assert row["task"] == "numberline"
    assert row["system"] == "rl"
    assert row["rule_set"] == "paper"
    assert row["episodes"] == 6
    assert row["seed"] == 3
    assert row["checkpoint"] == "step-96"
    low, high = row["success_ci"]
    assert 0 <= low <= row["success"] <= high <= 1
    assert row["return_ci"][0] <= row["mean_return"] <= row["return_ci"][1]
    assert 0 <= row["legal_rate"] <= 1
    again = vlmagent("eval", "--episodes", "6", "--seed", "3", "--json")  # the task and run of the latest run
    (other,) = json.loads(again.stdout)["results"]
    assert {key: other[key] for key in ("success", "mean_return", "legal_rate")} == {
        key: row[key] for key in ("success", "mean_return", "legal_rate")
    }


def test_eval_of_several_systems(trained, monkeypatch):
    run, _ = trained
    monkeypatch.setenv("VLMAGENT_RUNS", str(run.path.parent))
    arguments = [
        "--checkpoint",
        "start",
        "--checkpoint",
        "latest",
        "--baseline",
        "expert",
        "--baseline",
        "random",
    ]
    result = vlmagent("eval", "numberline", *arguments, "--episodes", "5")
    assert result.returncode == 0, result.stderr
    for word in ("sft", "rl", "expert", "random", "published", "89.4", "rules: paper"):
        assert word in result.stdout


def test_baselines_need_no_run():
    result = vlmagent("eval", "numberline", "--baseline", "expert", "--episodes", "7", "--json")
    (row,) = json.loads(result.stdout)["results"]
    assert (row["system"], row["success"], row["legal_rate"], row["mean_return"]) == ("expert", 1.0, 1.0, 1.0)


def test_data_in_llava_format(tmp_path):
    out = tmp_path / "set"
    result = vlmagent("data", "numberline", "--samples", "5", "--out", str(out))
    assert result.returncode == 0, result.stderr
    records = json.loads((out / "data.json").read_text())
    assert len(records) == 5
    human, gpt = records[0]["conversations"]
    assert human["from"] == "human"
    assert human["value"].startswith("<image>\nYou are playing")
    assert gpt["from"] == "gpt"
    assert '"thoughts"' in gpt["value"]
    assert Image.open(out / records[0]["image"]).size == (300, 300)
    refused = vlmagent("data", "numberline", "--samples", "5", "--out", str(out))
    assert refused.returncode == 2
    assert "not an empty folder" in refused.stderr
    primer = "sft.primer_samples=8"  # of no consequence to samples
    without = vlmagent(
        *(
            "data",
            "numberline",
            "--samples",
            "2",
            "--no-cot",
            "--out",
            str(tmp_path / "other"),
            "--set",
            primer,
        )
    )
    assert without.returncode == 0
    assert "thoughts" not in (tmp_path / "other" / "data.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "numberlin"], ["Unknown task 'numberlin'", "Did you mean 'numberline'"]),
        (["train"], ["Which task?", "numberline"]),
        (["train", "numberline", "--set", "ppo.lrr=1"], ["ppo.lrr", "'ppo.lr'"]),
        (["train", "numberline", "--set", "ppo.lr"], ["--set takes key=value", "'ppo.lr'"]),
        (["train", "numberline", "--set", "env.nmax=3"], ["env.nmax", "'env.n_max'"]),
        (["train", "numberline", "--set", "env.n_max=0"], ["env.n_max = 0"]),
        (["train", "numberline", "--set", "rule_set=house"], ["'house'", "paper"]),
        (["train", "numberline", "--set", "sft.primer_samples=8"], ["no primer", "sft.primer_samples=0"]),
        (["sft", "numberline", "--set", "sft.drill_share=0.5"], ["no drills", "sft.drill_share=0"]),
        (["train", "numberline", "--config", "numberlime"], ["Unknown config", "'numberline'"]),
        (["train", "numberline", "--model", "/nowhere"], ["/nowhere", "does not exist"]),
        (["train", "--resume", "/nowhere"], ["no run"]),
        (["train", "numberline", "--resume", "x"], ["--resume"]),
        (["eval", "numberline"], ["no run", "vlmagent train numberline"]),
        (["eval", "numberline", "--baseline", "gpt5"], ["Unknown baseline 'gpt5'", "expert"]),
        (["runs", "show", "nothing"], ["no run 'nothing'"]),
        (["eval", "--run", "/"], ["is no run"]),
        (["sft", "nonsense"], ["Unknown task 'nonsense'"]),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, words):
    result = vlmagent(*arguments)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    assert not list(Path(os.environ["VLMAGENT_RUNS"]).glob("*")), "nothing may be started"


def test_a_missing_checkpoint_is_named(trained, monkeypatch):
    run, _ = trained
    monkeypatch.setenv("VLMAGENT_RUNS", str(run.path.parent))
    result = vlmagent("eval", "--checkpoint", "step-97")
    assert result.returncode == 2
    assert "'step-96'" in result.stderr


def test_detach_stop_resume(tmp_path):
    """A detached run is stopped, says so, keeps its checkpoint, and continues to its end beside another run."""
    long = [*SMALL_OPTIONS, "--set=ppo.env_steps=3200"]
    result = vlmagent("train", "numberline", *long, "--detach")
    assert result.returncode == 0, result.stderr
    run = Path(result.stdout.strip())
    second = vlmagent("train", "numberline", *SMALL_OPTIONS, "--run-dir", str(tmp_path / "second"))
    assert second.returncode == 0, second.stderr
    stop = vlmagent("runs", "stop", str(run))
    assert stop.returncode == 0, stop.stderr
    shown = json.loads(vlmagent("runs", "show", str(run), "--json").stdout)
    assert shown["status"] == "stopped"
    steps = shown["env_steps"]
    assert steps < 3200
    target = (steps // 32 + 2) * 32
    resumed = vlmagent("train", "--resume", str(run), "--set", f"ppo.env_steps={target}")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(vlmagent("runs", "show", str(run), "--json").stdout)["env_steps"] == target


def test_a_run_folder_takes_one_run(trained):
    run, _ = trained
    result = vlmagent("train", "numberline", *SMALL_OPTIONS, "--run-dir", str(run))
    assert result.returncode == 2
    assert "--resume" in result.stderr


def test_a_model_folder_takes_the_place_of_tiny(trained, tmp_path):
    run, _ = trained
    result = vlmagent("train", "numberline", *SMALL_OPTIONS, "--model", str(run.checkpoints / "latest"))
    assert result.returncode == 0, result.stderr


def test_version_and_help():
    assert vlmagent("--version").stdout.startswith("vlmagent ")
    text = vlmagent("--help").stdout
    for verb in ("train", "eval", "sft", "data", "runs"):
        assert verb in text
    assert "_daemon" not in text


@pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="the extra 'deepspeed' is not installed"
)
def test_sft_in_two_processes(tmp_path: Path):
    run = Run(tmp_path / "run")
    done = vlmagent("sft", "numberline", *SMALL_OPTIONS, "--processes", "2", "--run-dir", str(run))
    assert done.returncode == 0, done.stderr
    assert load_config(run.config_file).distributed.processes == 2
    assert sorted(file.name for file in run.ranks.glob("*.json")) == ["rank-0.json", "rank-1.json"]
    assert (run.checkpoints / "step-0").is_dir()


def test_gpus_that_are_not_here_can_be_planned_for_but_not_used():
    refused = vlmagent("sft", "numberline", "--gpus", "64")
    assert refused.returncode == 2
    assert "--gpus 64, but torch sees" in refused.stderr
    planned = vlmagent("train", "numberline", "--config", "paper/numberline", "--plan", "--gpus", "64")
    assert planned.returncode == 0, planned.stderr
    assert "64, ZeRO stage 2" in planned.stdout
    assert not planned.stderr


def test_a_recipe_of_another_task_is_refused():
    refused = vlmagent("train", "numberline", "--config", "paper/ezpoints", "--plan")
    assert refused.returncode == 2
    assert "'ezpoints', not for 'numberline'" in refused.stderr
    assert "Traceback" not in refused.stderr
