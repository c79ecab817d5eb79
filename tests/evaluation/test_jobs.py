"""``vlmagent eval`` as its users meet it: several runs, every output form, ctrl-c and --resume."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.conftest import SMALL
from vlmagent import paths
from vlmagent.cli.evaluate import eval_command
from vlmagent.config import Config, find_config, load_config
from vlmagent.errors import UsageError
from vlmagent.evaluation.jobs import EvalRequest, resolve_jobs
from vlmagent.runs import folders
from vlmagent.store.reader import StoreReader
from vlmagent.training.train import train

pytestmark = pytest.mark.usefixtures("forked_programs")
QUIET = {"file": io.StringIO(), "force_terminal": False}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two finished runs of different seeds, in a runs folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("eval")
        patch.setenv("VLMAGENT_CACHE", str(folder / "cache"))
        for seed in (0, 1):
            config = Config.model_validate({**SMALL, "seed": seed, "agent": "cnn", "cnn": {"hidden": [8]}})
            run = folders.create_run(config, folder / "runs" / f"seed{seed}")
            assert train(run, lambda: False) == "done"
        return folder / "runs"


@pytest.fixture
def here(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLMAGENT_RUNS", str(runs))
    return runs


def evaluate(**request):
    return eval_command(EvalRequest(**{"episodes": 6, **request}), Console(**QUIET))


def vlmagent(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vlmagent", *arguments], capture_output=True, text=True, timeout=240
    )


def test_a_job_per_system_and_baselines_once(here: Path):
    """Every job is finished: nothing of the request has to be asked again."""
    jobs = resolve_jobs(EvalRequest(runs=["seed0", "seed1"], baselines=["expert"], seed=7, resume=True))
    assert [(job.run.name, job.title, job.resume) for job in jobs] == [
        ("seed0", "seed0 step-96", True),
        ("seed0", "expert", True),
        ("seed1", "seed1 step-96", True),
    ]
    assert {(job.episodes, job.seed, job.config.task, job.task.name) for job in jobs} == {
        (8, 7, "numberline", "numberline")
    }
    assert [job.folder for job in jobs[:2]] == [here / "seed0" / "evaluations"] * 2
    (job,) = resolve_jobs(
        EvalRequest(baselines=["random"])
    )  # alone they need no checkpoint: the latest run's task
    assert (job.config.task, job.title) == ("numberline", "random")
    (job,) = resolve_jobs(EvalRequest(tasks=["points24"], baselines=["random"]))  # a task without a recipe
    assert (job.config.task, job.run, job.episodes, job.folder) == (
        "points24",
        None,
        200,
        here / "evaluations",
    )


def test_a_task_may_be_called_by_its_environment(here: Path):
    own = "vlmagent_envs:vlmagent/NumberLine-v0"
    (job,) = resolve_jobs(EvalRequest(tasks=[own]))
    assert job.run is not None
    assert job.run.path.parent == here
    (named,) = resolve_jobs(EvalRequest(tasks=[own], runs=["seed0"]))
    assert named.title == "seed0 step-96"
    (baseline,) = resolve_jobs(
        EvalRequest(tasks=["vlmagent_envs:vlmagent/EZPoints-v0"], baselines=["expert"])
    )
    assert baseline.config.sft == load_config(find_config("ezpoints")).sft


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"runs": ["seed0"], "tasks": ["ezpoints"]}, "trained on 'numberline', not on 'ezpoints'"),
        ({"runs": ["nothing"]}, "no run 'nothing'"),
        ({"tasks": ["blackjack"]}, "no run of the task 'blackjack'"),
        ({"baselines": ["gtp4v"]}, "Did you mean 'gpt4v'"),
        ({"baselines": ["expert", "gpt4v"]}, "OPENAI_API_KEY"),
        ({"runs": ["seed0"], "checkpoints": ["step-7"]}, "step-96"),
    ],
)
def test_wrong_requests_end_before_anything_is_played(here: Path, monkeypatch, request_, words):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    before = sorted(here.rglob("*.db"))
    with pytest.raises(UsageError, match=words):
        evaluate(**request_)
    assert sorted(here.rglob("*.db")) == before


def test_several_runs_are_averaged_and_compared(here: Path):
    result = vlmagent(
        *("eval", "--run", "seed0", "--run", "seed1", "--checkpoint", "start", "--checkpoint", "latest"),
        *("--baseline", "expert", "--episodes", "6", "--json"),
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    names = [(row["system"], row["training_seed"]) for row in document["results"]]
    assert names == [
        *[("cnn untrained", 0), ("cnn", 0), ("expert", None)],
        *[("cnn untrained", 1), ("cnn", 1)],
    ]
    pooled = {row["system"]: row for row in document["over_runs"]}
    assert set(pooled) == {"cnn", "cnn untrained"}
    assert pooled["cnn"]["training_seeds"] == [0, 1]
    assert pooled["cnn"]["episodes"] == 12
    pairs = [(pair["first"], pair["second"]) for pair in document["comparisons"]]
    assert ("cnn untrained step-0 seed 0", "cnn step-96 seed 0") in pairs
    assert all(pair["pairing"]["episodes"] == 6 for pair in document["comparisons"])


def test_csv_markdown_and_the_table(here: Path):
    common = ("eval", "--run", "seed0", "--run", "seed1", "--episodes", "4", "--resume")
    rows = list(csv.DictReader(io.StringIO(vlmagent(*common, "--csv").stdout)))
    assert [row["system"] for row in rows][:3] == ["cnn", "cnn", "cnn"]
    assert rows[-1]["published"] == "1"
    text = vlmagent(*common, "--markdown").stdout
    assert text.startswith("### numberline (rules: paper")
    assert "mean of 2 runs" in text
    shown = vlmagent(*common).stdout
    assert "cnn, mean of 2 runs" in shown
    assert "bootstrap over runs" in " ".join(shown.split())
    both = vlmagent(*common, "--csv", "--json")
    assert both.returncode == 2
    assert "Choose one" in both.stderr


def test_resume_takes_what_is_finished_and_makes_no_new_database(here: Path):
    def count() -> int:
        return len(list((here / "seed0" / paths.EVALUATIONS).glob("*.db")))

    first = evaluate(runs=["seed0"], seed=5)
    made = count()
    again = evaluate(runs=["seed0"], seed=5, resume=True)
    assert count() == made
    assert again.done == first.done
    evaluate(runs=["seed0"], seed=5)
    assert count() == made + 1


def test_ctrl_c_keeps_what_was_played_and_resume_goes_on(here: Path):
    """The first ctrl-c ends after the step under way with exit code 130."""
    folder = here / paths.EVALUATIONS
    command = [sys.executable, "-m", "vlmagent", "eval", "points24", "--baseline", "expert", "--seed", "9"]
    arguments = [*command, "--episodes", "600", "--set", "eval.num_envs=2", "--json"]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not played(folder):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert json.loads(out)["results"] == []
    assert "They are kept: repeat the command with --resume." in err
    assert "Traceback" not in err
    before = played(folder)
    short = [*arguments, "--resume"]
    process = subprocess.Popen(
        short, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while played(folder) <= before:
        assert time.monotonic() < deadline + 120
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert len(list(folder.glob("*expert*.db"))) == 1


def played(folder: Path) -> int:
    """Steps in the newest evaluation database."""
    try:
        with StoreReader(max(folder.glob("*expert*.db"))) as reader:
            return reader.env_steps()
    except Exception:  # not there yet, or only just being made
        return 0
