"""No table of the command line loses a number, a name or a state, however narrow the terminal and long the texts."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from tests.store.records import step
from vlmagent import paths
from vlmagent.cli import attach
from vlmagent.cli.doctor import view
from vlmagent.cli.doctor.findings import Diagnosis, Finding, State
from vlmagent.cli.grid import Column, Facts, Grid, cell
from vlmagent.cli.plan_view import plan_view
from vlmagent.cli.tables import eval_table, run_panel, runs_table
from vlmagent.cli.waiting import progress_bars
from vlmagent.config import Config, find_config, load_config
from vlmagent.runs import daemon, folders
from vlmagent.store.writer import StoreWriter
from vlmagent.training.plan.hardware import Hardware
from vlmagent.training.plan.plan import make_plan
from vlmagent.types import EpisodeEnd, EpisodeStart

LONG = "RuntimeError: [red]CUDA error[/red] " + "an unspecified launch failure in a kernel, " * 12
NAME = "20260731-235959-somebody.else:[bold]An-Environment-With-A-Name-v0"
MODEL = "/data/models/[Qwen] Qwen2.5-VL-7B-Instruct-0123456789abcdef-merged"
WIDTHS = (60, 80, 120)


@dataclass(frozen=True)
class Shown:
    """Something printed, and every value that must be in it."""

    made: Callable[[], RenderableType]
    values: tuple[str, ...]


def runs() -> RenderableType:
    common = {"task": "numberline", "model": "tiny", "created_at": time.time() - 7500}
    failed = {"path": f"/r/{NAME}", "state": "failed", "env_steps": 1_234_567, "error": LONG}
    fine = {"path": "/r/20260731-120000-numberline", "state": "running", "env_steps": 96}
    lost = {"path": "/r/20260731-110000-ezpoints", "state": "lost", "env_steps": 512, "model": MODEL}
    return runs_table([{**common, **failed}, {**common, **fine}, {**common, **lost, "error": LONG}])


def result(system: str, **changes: Any) -> dict[str, Any]:
    return {
        "task": "numberline", "system": system, "rule_set": "paper", "episodes": 200, "success": 0.9137,
        "success_ci": (0.8412, 0.9321), "mean_return": -12.34, "return_ci": (-13.0, -11.0), "goal_rate": 0.9876,
        "legal_rate": 0.4321, "mean_length": 3.0, "seed": 77, "checkpoint": None, "env_steps": None, "model": None,
        "temperature": None, "run": None, "database": None, "seconds": 1.0, "training_seed": None, "errors": 0,
        **changes,
    }  # fmt: skip


API = "openai:a-model-with-[brackets]-and-a-very-long-name@https://gateway.example.com/v1"
NUMBERS = ("91.4", "84.1–93.2", "-12.34", "98.8", "43.2")


def evaluations() -> RenderableType:
    kinds = {kind: {"success": 0.25, "episodes": n} for n, kind in enumerate(KINDS, 31)}
    trained = result("rl", checkpoint="step-8704", model=MODEL, run="a", training_seed=3, by_type=kinds)
    pairing = {
        "episodes": 199,
        "success_difference": 0.0713,
        "p_value": 0.0123,
        "return_difference": 1.5,
        "return_difference_ci": (1.11, 1.99),
    }
    over = {**result("rl"), "runs": 4, "success_std": 0.0345, "return_std": 0.67}
    pair = {"task": "numberline", "first": API, "second": "rl step-8704 seed 3", "pairing": pairing}
    return eval_table([result(API), trained], [over], [pair])


KINDS = ("pick_and_place_simple", "look_at_obj_in_light", "pick_heat_then_place", "pick_cool_then_place")


def plan() -> RenderableType:
    with pytest.MonkeyPatch.context() as patch:
        here = Hardware("A Processor With A Long Name", "cpu", 1, 16 * 10**9, 5e10, 1e10, here=True)
        patch.setattr("vlmagent.training.plan.plan.find_hardware", lambda: here)
        return plan_view(make_plan(load_config(find_config("paper/numberline"))))


def one_run() -> RenderableType:
    """``runs show`` of a run whose folder, error and evaluation have long names."""
    run = folders.create_run(Config.model_validate({"task": "numberline"}), paths.runs_dir() / NAME)
    with StoreWriter(run.database) as writer:
        writer.start_run(run.name, "numberline", MODEL, "{}", 4711)
        writer.metrics(
            1, 32, {"rollout/a_metric_of_a_very_long_name_indeed": 0.1234, "ppo/kl": 5678.0, "x/y": -3.5}
        )
        writer.evaluation(result(API))
        writer.event("error", LONG)
    row = {"path": str(run), "state": "failed", "task": "numberline", "model": MODEL, "seed": 4711}
    return run_panel(run, {**row, "env_steps": 32, "error": LONG})


def picture() -> RenderableType:
    """What is shown while a run trains."""
    config = Config.model_validate({"task": "numberline"})
    run = folders.create_run(config, paths.runs_dir() / NAME)
    names = {name: number for number, (_, name, _) in enumerate(attach.SHOWN_METRICS, 101)}
    with daemon.daemon_session(run), StoreWriter(run.database) as writer:
        writer.start_run(run.name, "numberline", MODEL, config.model_dump_json(), 0)
        writer.set_status("running")
        writer.event("phase", "phase: rl (29 updates)")
        writer.episode_started(EpisodeStart(1, "train", 0, 1))
        writer.transition(step(1, episode_id=1, output="{}", thoughts="because " * 90))
        writer.episode_ended(EpisodeEnd(1, 1, 1.0, True, True, "terminated"))
        writer.commit()
        writer.metrics(1, 512, {name: float(value) for name, value in names.items()})
        writer.event("warning", LONG)
        writer.flush()
        seen = attach.RunView(run)
        seen.refresh()
        seen.close()
        return attach.picture(seen, Console(file=io.StringIO(), width=60))


TABLES = {
    "runs list": Shown(
        runs,
        (NAME, "20260731-120000-numberline", "20260731-110000-ezpoints", MODEL, "1234567", "failed", "running", "lost",
         "numberline", "tiny", "96", "512", "2 h", "RuntimeError: [red]CUDA error[/red]"),
    ),
    "eval": Shown(
        evaluations,
        (API, "rl", "step-8704", "0123456789abcdef-merged", *NUMBERS, "mean of 4 runs", *KINDS,
         *(f"25.0 ({n})" for n in (31, 32, 33, 34)), "RL without CoT (published)", "26.9", "24.8", "-2.30",
         "+7.1", "0.012", "+1.50", "+1.11", "+1.99", "199", "seed 77"),
    ),
    "train --plan": Shown(
        plan, ("A Processor With A Long Name", "H200", "A100 80 GB", "16.0 GB", "141.0 GB", "80.0 GB", "float32"),
    ),
    "runs show": Shown(
        one_run,
        (NAME, MODEL, "failed", "4711", "rollout/a_metric_of_a_very_long_name_indeed", "0.1234", "5678", "-3.5", API,
         *NUMBERS, "RuntimeError: [red]CUDA error[/red]"),
    ),
    "the picture of a run": Shown(
        picture,
        ("20260731-235959", "numberline", *(label for label, _, _ in attach.SHOWN_METRICS), "1 of 14,848 env steps",
         "10200.0 %", "104.0", "101.0",
         "10500.0 %",
         "100.0 % of the last 1 episodes"),
    ),
}  # fmt: skip


def squeezed(text: str) -> str:
    """Without white space: a name that is longer than a line is continued on the next one."""
    return "".join(text.split())


def printed(shown: RenderableType, width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, legacy_windows=False).print(shown)
    return file.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", TABLES)
def test_everything_is_there(name: str, width: int):
    shown = TABLES[name]
    text = printed(shown.made(), width)
    lacking = [value for value in shown.values if squeezed(value) not in squeezed(text)]
    assert not lacking, text
    assert max(len(line) for line in text.splitlines()) <= width


def test_a_short_value_is_never_broken():
    """Names that fit into a line stand in one."""
    text = printed(runs(), 80)
    for value in (NAME, MODEL, "20260731-110000-ezpoints", "1234567"):
        assert value in text


def test_only_texts_are_cut():
    grid = Grid([Column("run"), Column("steps", "number"), Column("error", "text")])
    grid.add(cell("a-run"), cell(7), cell("because " * 30))
    grid.add(cell("another-run"), cell(123456), cell(""))
    lines = [line.rstrip() for line in printed(grid, 45).splitlines()]
    assert lines == [
        "run           steps  error",
        "─────────────────────────────────────────────",
        "a-run             7  because because because…",
        "another-run  123456",
    ]


def test_texts_stand_below_where_they_would_be_too_narrow_and_all_values_where_nothing_fits():
    grid = Grid([Column("run"), Column("steps", "number"), Column("error", "text")])
    grid.add(cell("a-run"), cell(123456), cell("no space left on the disk"))
    assert [line.rstrip() for line in printed(grid, 20).splitlines()] == [
        "run     steps", "─────────────", "a-run  123456", "a-run: no space left", "on the disk",
    ]  # fmt: skip
    assert [line.rstrip() for line in printed(grid, 12).splitlines()] == [
        "a-run", "  steps", "    123456", "  error", "no space", "left on the", "disk", "",
    ]  # fmt: skip


def test_facts_stand_across_where_they_fit():
    facts = Facts([("loss", Text("0.5")), ("success", Text("1")), ("kl", Text("0.0123"))], across=2)
    assert printed(facts, 40).splitlines() == ["loss     0.5     success  1", "kl       0.0123"]
    assert printed(facts, 20).splitlines() == ["loss     0.5", "success  1", "kl       0.0123"]


@pytest.mark.parametrize("width", WIDTHS)
def test_doctor_shows_all_and_leaves_commands_whole(width: int):
    remedy = f"vlmagent train --resume '/r/{NAME}/{NAME}'"
    finding = Finding("Runs", "Lost", State.PROBLEM, f"The process is gone of {NAME}.", remedy)
    file = io.StringIO()
    view.show(Diagnosis((finding,)), Console(file=file, width=width, force_terminal=True, color_system=None))
    assert squeezed(f"problem Lost: The process is gone of {NAME}.") in squeezed(file.getvalue())
    assert f"→ {remedy}\n" in file.getvalue()


@pytest.mark.parametrize("width", [60, 80])
def test_the_title_of_a_bar_leaves_room_for_its_counts(width: int):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    bars = progress_bars(console)
    bars.add_task(f"numberline: {API}", total=1000, completed=123)
    text = printed(bars.get_renderable(), width)
    assert "123/1000" in text
    assert "numberline" in text
