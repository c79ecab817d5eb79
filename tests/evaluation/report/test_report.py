"""Tables and figures from made runs: what is in them, what is missing, and what may not be mixed in."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.report.made_runs import OVERRIDES, baseline, finished_run
from vlmagent import paths
from vlmagent.config import Config, find_config, load_config
from vlmagent.errors import UsageError
from vlmagent.evaluation.report.build import build, command_for
from vlmagent.evaluation.report.catalogue import (
    CNN,
    ITEMS,
    NO_COT,
    RL,
    essence,
    expected_config,
    find_item,
    folder_name,
    same_study,
    weighted,
)
from vlmagent.evaluation.report.collect import Options, collect
from vlmagent.evaluation.report.figures import band
from vlmagent.evaluation.report.runs import Library
from vlmagent.evaluation.report.sources import WINDOW, Curve, RunSource
from vlmagent.evaluation.report.tables import mean_and_spread
from vlmagent.paths import Run
from vlmagent_envs.alfworld.available import missing_packages

OPTIONS = Options(seeds=2, tasks=("numberline",), episodes=10, overrides=OVERRIDES)


@pytest.fixture
def trained() -> None:
    """Two seeds of the method, one without thoughts."""
    finished_run("numberline", RL, 0, (2, 9))
    finished_run("numberline", RL, 1, (4, 10))
    finished_run("numberline", NO_COT, 0, (3, 5), rising=False)


def row(markdown: str, start: str) -> list[str]:
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_everything_of_the_paper_is_there():
    assert set(ITEMS) == {"table1", "table2", "table3", "table4", "figure5", "figure6", "figure7", "figure18"}
    assert [v.overrides["ppo"]["thought_weight"] for v in ITEMS["figure7"].variants] == [
        0,
        0.1,
        0.3,
        0.5,
        0.7,
        0.9,
    ]
    with pytest.raises(UsageError, match="Did you mean 'table2'"):
        find_item("tabel2")


def test_table2(trained, tmp_path: Path):
    config = expected_config("numberline", RL, 0, OVERRIDES)
    baseline(config, "random", 3)
    baseline(config, "expert", 10)
    baseline(config, "gpt4v", 7, model="some-model", requests=40, cost=0.1, refusals=0)
    built = build(find_item("table2"), OPTIONS, tmp_path)
    assert row(built.markdown, "RL with CoT") == ["95.0 ± 7.1", ""]
    assert row(built.markdown, "SFT start") == ["30.0 ± 14.1", ""]
    assert row(built.markdown, "RL without CoT") == ["50.0", ""]
    assert row(built.markdown, "CNN+RL") == ["—", ""]
    assert row(built.markdown, "gpt4v (some-model)") == ["70.0", ""]
    assert row(built.markdown, "*RL with CoT (published)*") == ["*89.4*", ""]
    assert "| *BUTLER (expert data) (published)* |" in built.markdown
    assert (tmp_path / "table2.md").read_text() == built.markdown
    assert built.missing == (
        "numberline: CNN+RL, seed 0, not trained",
        "numberline: CNN+RL, seed 1, not trained",
        "numberline: RL without CoT, seed 1, not trained",
    )
    assert command_for(find_item("table2"), OPTIONS, "reproduce") in built.markdown


def test_table1_has_the_log_probs_of_start_and_end(trained, tmp_path: Path):
    text = build(find_item("table1"), OPTIONS, tmp_path).markdown
    assert row(text, "thoughts (ours, SFT start)") == ["-4.00 ± 0.00"]
    assert row(text, "action (ours, SFT start)") == ["-0.50 ± 0.00"]
    assert row(text, "thoughts (ours, after RL)") == ["-2.00 ± 0.00"]
    assert row(text, "*thoughts (published)*") == ["*-3.4*"]


def test_table3_and_table4(trained, tmp_path: Path):
    text = build(find_item("table3"), OPTIONS, tmp_path).markdown
    assert row(text, "difference of the means") == ["+45.0", ""]
    assert row(text, "*difference (published)*") == ["*+62.5*", ""]
    text = build(find_item("table4"), OPTIONS, tmp_path).markdown
    assert "| episode return | NumberLine |" in text
    assert "0.90 ± 0.14" in text


@pytest.mark.skipif(missing_packages() is not None, reason="needs the extra alfworld")
def test_alfworld_has_a_column_for_each_kind_when_it_is_asked_for(trained, tmp_path: Path):
    for seed, won in ((0, 0.5), (1, 0.7)):
        kinds = [{"pick": {"success": share, "episodes": 5}} for share in (0.1, won)]
        finished_run("alfworld", RL, seed, (2, 6), by_type=(kinds[0], kinds[1]))
    without = build(find_item("table2"), OPTIONS, tmp_path).markdown
    assert "(ours, world" not in without
    both = Options(seeds=2, tasks=("numberline", "alfworld"), episodes=10, overrides=OVERRIDES)
    text = build(find_item("table2"), both, tmp_path).markdown
    assert row(text, "RL with CoT") == ["95.0 ± 7.1", ""]
    assert row(text, "RL with CoT (ours, world: mini)") == ["60.0 ± 14.1", *["—"] * 5, "60.0 ± 0.0"]
    assert row(text, "SFT start (ours, world: mini)")[0] == "10.0 ± 0.0"
    assert row(text, "CNN+RL (ours, world: mini)") == ["—"] * 7
    alone = Options(seeds=2, tasks=("alfworld",), episodes=10, overrides=OVERRIDES)
    for name in ("table2", "table3"):
        text = build(find_item(name), alone, tmp_path).markdown
        assert "| *RL with CoT (published)* | *47.4* |" in text
        assert "NumberLine" not in text
    assert row(build(find_item("table1"), alone, tmp_path).markdown, "*action (published)*") == ["*-0.4*"]
    with pytest.raises(UsageError, match="table4"):
        build(find_item("table4"), alone, tmp_path)


def test_what_was_trained_or_evaluated_otherwise_does_not_count(trained):
    item = find_item("table3")
    assert all("not trained" not in line for line in collect(item, OPTIONS).missing if "with CoT" in line)
    other = Options(
        seeds=2, tasks=("numberline",), episodes=10, overrides={"ppo": {"env_steps": 5120, "clip": 0.3}}
    )
    assert all("not trained" in line for line in collect(item, other).missing)
    more = Options(seeds=2, tasks=("numberline",), episodes=11, overrides=OVERRIDES)
    assert "numberline: RL with CoT, seed 0, not evaluated" in collect(item, more).missing


def test_an_unfinished_run_does_not_count(trained):
    import sqlite3

    run = Run(paths.runs_dir() / "numberline-rl-1")
    with sqlite3.connect(run.database) as connection:
        connection.execute("UPDATE run SET status = 'stopped'")
    assert "numberline: RL with CoT, seed 1, not trained" in collect(find_item("table3"), OPTIONS).missing


def test_a_broken_run_hides_no_other(trained):
    (paths.runs_dir() / "broken").mkdir()
    (paths.runs_dir() / "broken" / "config.yaml").write_text("task: [")
    evaluations = Run(paths.runs_dir()).evaluations
    evaluations.mkdir(exist_ok=True)
    (evaluations / "broken.db").write_text("no database")
    assert Library().find(expected_config("numberline", RL, 0, OVERRIDES)) is not None


def test_figures_are_drawn_and_their_numbers_written(trained, tmp_path: Path):
    built = build(find_item("figure6"), OPTIONS, tmp_path)
    assert {file.name for file in built.files} == {"figure6.md", "figure6.png", "figure6.svg"}
    assert (tmp_path / "figure6.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "figure6.svg").read_text()
    assert "RL with CoT (2 seeds)" in svg
    assert "RL without CoT (1 seed)" in svg
    cells = row(built.markdown, "RL with CoT")
    assert cells[0] == "0.0 ± 0.0"
    assert cells[-1] == "50.0 ± 0.0"
    assert "![Training with and without chain of thought](figure6.png)" in built.markdown
    again = tmp_path / "again"
    build(find_item("figure6"), OPTIONS, again)
    assert (again / "figure6.svg").read_text() == svg  # nothing of the moment is in it


def test_a_figure_of_nothing_is_a_page_that_says_so(tmp_path: Path):
    built = build(find_item("figure7"), OPTIONS, tmp_path)
    assert [file.name for file in built.files] == ["figure7.md"]
    assert row(built.markdown, "λ = 0.3") == ["—"] * 6
    assert len(built.missing) == 12


def test_without_matplotlib_there_is_a_sentence(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'vlmagent[report]'")):
        build(find_item("figure6"), OPTIONS, tmp_path)
    build(find_item("table3"), OPTIONS, tmp_path)


def test_a_place_that_cannot_be_written(trained, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="could not be written"):
        build(find_item("table3"), OPTIONS, tmp_path / "file" / "deeper")


def test_curves():
    """A hundred episodes, the first half lost: the average of all so far ends at one half."""
    run = finished_run("numberline", RL, 3, (1, 2))
    source = RunSource(run, load_config(run.config_file))
    curve = source.curve("success")
    assert curve is not None
    assert curve.steps[0] == 20
    assert curve.steps[-1] == 100
    assert curve.values[0] == 0.0
    assert curve.values[-1] == curve.peak == pytest.approx(0.5)
    # all are won since the fiftieth: of 75 a third
    assert curve.reaches(1 / 3) == 75
    assert curve.reaches(0.51) is None
    returns = source.curve("return")
    assert returns is not None
    assert returns.values[0] == -1.0


def test_a_curve_begins_with_a_whole_window():
    """The first episodes to end are the short ones: an average of a few of them says nothing."""
    run = finished_run("numberline", RL, 4, (1, 2), episodes=600)
    curve = RunSource(run, load_config(run.config_file)).curve("success")
    assert curve is not None
    assert (curve.steps[0], curve.steps[-1]) == (WINDOW, 600)
    assert (curve.values[0], curve.values[-1]) == (0.0, 1.0)
    assert curve.values[300] == pytest.approx(1.0)  # at episode 500, the last 200 of which were won
    assert curve.values[200] == pytest.approx(0.5)


def test_a_band_covers_what_all_seeds_cover():
    one = Curve(np.array([0.0, 10.0]), np.array([0.0, 1.0]))
    two = Curve(np.array([5.0, 20.0]), np.array([0.0, 0.0]))
    both = band([one, two])
    assert both is not None
    assert (both.steps[0], both.steps[-1], both.seeds) == (5.0, 10.0, 2)
    assert both.mean[-1] == pytest.approx(0.5)
    assert both.std[-1] == pytest.approx(np.sqrt(0.5))
    assert band([]) is None
    apart = Curve(np.array([30.0, 40.0]), np.array([0.0, 0.0]))
    assert band([one, apart]) is None


def test_recipes_of_variants():
    base = expected_config("numberline", RL, 3, {})
    assert base is not None
    assert base.seed == 3
    half = expected_config("numberline", weighted(base.ppo.thought_weight), 3, {})
    assert same_study(base, half)
    assert folder_name("numberline", weighted(base.ppo.thought_weight), 3, {}) == "numberline-rl-seed3"
    assert folder_name("numberline", weighted(0.1), 3, {}) == "numberline-weight0.1-seed3"
    cnn, without = (expected_config("numberline", variant, 0, {}) for variant in (CNN, NO_COT))
    assert cnn is not None
    assert without is not None
    assert (cnn.agent, without.cot) == ("cnn", False)
    assert expected_config("nothing", RL, 0, {}) is None
    elsewhere = base.model_copy(update={"eval": base.eval.model_copy(update={"num_envs": 3})})
    assert same_study(base, elsewhere)
    spread = base.model_copy(
        update={"distributed": base.distributed.model_copy(update={"deepspeed": "zero2"})}
    )
    assert same_study(base, spread)
    assert "value_scale" in essence(base)["ppo"]
    assert "value_scale" not in essence(base, defaults=False)["ppo"]  # a field that is new changes no name
    assert essence(base, defaults=False)["ppo"]["kl_coef"] == base.ppo.kl_coef


def test_tables_compare_runs_of_equally_many_steps():
    """Recipes that end when their task is learnt take all their steps here, like runs from before there was that."""
    shipped = load_config(find_config("numberline"))
    assert shipped.ppo.stop_when.success > 0
    base = expected_config("numberline", RL, 0, {})
    assert base is not None
    assert base.ppo.stop_when.success == 0
    assert not same_study(base, shipped)
    settings = base.model_dump(mode="json")
    del settings["ppo"]["stop_when"]
    before = Config.model_validate(settings)
    assert before.ppo.stop_when != base.ppo.stop_when
    assert same_study(base, before)
    # on which a record's name depends
    assert essence(base, defaults=False) == essence(before, defaults=False)
    wanted = expected_config("numberline", RL, 0, {"ppo": {"stop_when": {"success": 0.9}}})
    assert wanted is not None
    assert not same_study(base, wanted)
    lower = expected_config("numberline", RL, 0, {"ppo": {"stop_when": {"success": 0.8}}})
    assert lower is not None
    assert not same_study(wanted, lower)


def test_means():
    assert mean_and_spread([], 1) == "—"
    assert mean_and_spread([2.0], 1) == "2.0"
    assert mean_and_spread([1.0, 3.0], 2) == "2.00 ± 1.41"
    assert mean_and_spread([-0.001], 2) == "0.00"
