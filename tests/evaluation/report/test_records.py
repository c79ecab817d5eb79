"""Records stand for runs: the same tables and figures from them alone, nothing of the machine in them."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.report.made_runs import OVERRIDES, baseline, finished_run
from vlmagent import paths
from vlmagent.errors import UsageError
from vlmagent.evaluation.report.archive import write_records
from vlmagent.evaluation.report.build import build
from vlmagent.evaluation.report.catalogue import NO_COT, RL, expected_config, find_item
from vlmagent.evaluation.report.collect import Options, collect
from vlmagent.evaluation.report.records import CURVE_POINTS, read_records, record_run
from vlmagent.evaluation.report.runs import Library
from vlmagent.evaluation.report.sources import Curve
from vlmagent.evaluation.reproduce import plan

ITEMS = ("table1", "table2", "table3", "figure6")


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """Records of two runs and a baseline."""
    finished_run("numberline", RL, 0, (2, 9))
    finished_run("numberline", NO_COT, 0, (3, 5), rising=False)
    baseline(expected_config("numberline", RL, 0, OVERRIDES), "random", 3)
    return Options(1, ("numberline",), 10, overrides=OVERRIDES, records=tmp_path / "records")


def keep(options: Options, *names: str) -> list[Path]:
    files = [write_records(collect(find_item(name), options), options.records) for name in names]
    return sorted({file for some in files for file in some})


def test_tables_and_figures_are_the_same_without_the_runs(options: Options, tmp_path: Path):
    with_runs = {name: build(find_item(name), options, tmp_path / "out").markdown for name in ITEMS}
    files = keep(options, "table2")
    assert [re.sub(r"-\w{8}\.json$", "", file.name) for file in files] == [
        "numberline-nocot-seed0",
        "numberline-random",
        "numberline-rl-seed0",
    ]
    shutil.rmtree(paths.runs_dir())
    for name in ITEMS:
        assert build(find_item(name), options, tmp_path / "out").markdown == with_runs[name]
    assert [work.title for work in plan(find_item("table3"), options)] == []
    assert "numberline: CNN+RL, seed 0" in [work.title for work in plan(find_item("table2"), options)]


def test_a_record_tells_nothing_of_its_machine(options: Options):
    for file in keep(options, "table3", "table2"):
        assert str(paths.runs_dir()) not in file.read_text()
        assert str(Path.cwd()) not in file.read_text()


def test_a_record_of_other_conditions_or_another_recipe_stands_for_nothing(options: Options):
    keep(options, "table3")
    shutil.rmtree(paths.runs_dir())
    item = find_item("table3")
    more = Options(1, options.tasks, 11, overrides=OVERRIDES, records=options.records)
    longer = Options(1, options.tasks, 10, overrides={"ppo": {"env_steps": 10240}}, records=options.records)
    for other in (more, longer, Options(1, options.tasks, 10, overrides=OVERRIDES)):
        assert len(plan(item, other)) == 2
        assert collect(item, other).studies[0].runs == ()


def test_a_run_that_is_here_comes_before_its_record(options: Options):
    keep(options, "table3")
    run = collect(find_item("table3"), options).studies[0].runs[0]
    assert run.source.results()[0].run is not None
    assert keep(options, "table3"), "records are written again from the runs that are here"


def test_a_record_of_an_older_version_does_not_count_and_hides_no_other(options: Options):
    first, *_ = keep(options, "table3")
    document = json.loads(first.read_text())
    document["settings"]["ppo"]["no_longer_there"] = 1
    first.write_text(json.dumps(document))
    shutil.rmtree(paths.runs_dir())
    assert len(plan(find_item("table3"), options)) == 1
    assert len(read_records(options.records)) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1"}'])
def test_a_file_that_is_no_record_is_named(options: Options, text: str):
    options.records.mkdir()
    (options.records / "mine.json").write_text(text)
    with pytest.raises(UsageError, match=r"mine\.json is no record of a run .*--records"):
        Library(options.records)


def test_a_folder_that_is_not_there_yet_is_empty(tmp_path: Path):
    assert Library(tmp_path / "nothing").records == []


def test_a_long_curve_is_thinned_and_keeps_its_peak():
    values = np.zeros(5000)
    values[1234] = 0.75

    class Made:
        config = expected_config("numberline", RL, 0, {})

        def results(self):
            return []

        def curve(self, measure):
            return Curve(np.arange(5000.0), values)

        def logprobs(self, result):
            return None

    curve = record_run(Made()).curves["success"]
    assert len(curve.steps) == CURVE_POINTS + 1
    assert (max(curve.values), curve.steps[0], curve.steps[-1]) == (0.75, 0.0, 4999.0)


def test_a_folder_that_cannot_be_written_is_named(options: Options, tmp_path: Path):
    (tmp_path / "file").write_text("")
    found = collect(find_item("table3"), options)
    with pytest.raises(UsageError, match="could not be written"):
        write_records(found, tmp_path / "file" / "records")
