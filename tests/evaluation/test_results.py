"""Several runs together, two systems on the same episodes, and the forms in which results are written."""

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from vlmagent.evaluation import formats
from vlmagent.evaluation.published import published_row, published_rows
from vlmagent.evaluation.results import (
    EvalResult,
    FinishedEvaluation,
    Outcome,
    comparisons,
    label,
    over_runs,
    result_of,
    summary,
)


def evaluation(wins: list[bool], **changes) -> FinishedEvaluation:
    outcomes = tuple(Outcome(seed, won, 1.0 if won else -1.0, won, 3) for seed, won in enumerate(wins))
    values = {
        "task": "numberline", "system": "rl", "rule_set": "paper", "legal_rate": 0.9, "seed": 0,
        "checkpoint": "step-96", "env_steps": 96, "model": "tiny", "temperature": 0.2, "run": "a",
        "database": None, "seconds": 1.0, "training_seed": 0,
    }  # fmt: skip
    return FinishedEvaluation(EvalResult(**{**values, **summary(outcomes, 0), **changes}), outcomes)


def test_summary_counts():
    found = summary([Outcome(0, True, 1.0, True, 2), Outcome(1, False, -2.0, True, 4)], 0)
    assert (found["episodes"], found["success"], found["goal_rate"], found["mean_return"]) == (
        2,
        0.5,
        1.0,
        -0.5,
    )
    assert found["mean_length"] == 3.0
    assert found["success_ci"][0] < 0.5 < found["success_ci"][1]


def test_several_runs_of_one_system_become_one_row():
    one = evaluation([True] * 8 + [False] * 2)
    two = evaluation([True] * 6 + [False] * 4, run="b", training_seed=1)
    earlier = evaluation([False] * 10, checkpoint="step-32", env_steps=32)
    expert = evaluation(
        [True] * 10, system="expert", checkpoint=None, run=None, model=None, training_seed=None
    )
    (row,) = over_runs([earlier, one, two, expert])
    assert (row.runs, row.episodes, row.training_seeds) == (2, 20, (0, 1))
    assert row.success == pytest.approx(0.7)
    assert row.success_std == pytest.approx(math.sqrt(0.02))
    assert row.mean_return == pytest.approx(0.4)
    assert row.success_ci[0] < 0.7 < row.success_ci[1]
    assert over_runs([one, earlier]) == []  # one run twice is no second run
    assert over_runs([one, replace(two, result=replace(two.result, seed=1))]) == []  # other episodes


def test_a_checkpoint_is_compared_within_its_run_and_a_baseline_with_the_first():
    start = evaluation([True, False, False, False], system="sft", checkpoint="step-0")
    end = evaluation([True, True, True, False])
    other = evaluation([True] * 4, run="b", training_seed=1)
    chance = evaluation([False] * 4, system="random", checkpoint=None, training_seed=None)
    first, second = comparisons([start, end, other, chance])
    assert (first.first, first.second) == ("sft step-0 seed 0", "rl step-96 seed 0")
    assert (first.pairing.only_first, first.pairing.only_second) == (0, 2)
    assert (second.first, second.second) == ("sft step-0 seed 0", "random")
    assert second.pairing.success_difference == -0.25
    apart = evaluation([True], system="late", checkpoint=None)
    shifted = replace(apart, outcomes=(Outcome(999, True, 1.0, True, 1),))
    assert comparisons([start, shifted]) == []


def test_a_stored_row_reads_back_and_other_versions_are_forgiven():
    result = evaluation([True, False]).result
    row = json.loads(json.dumps({**formats.document([evaluation([True, False])])["results"][0], "newer": 1}))
    del row["errors"]
    assert result_of(row) == result
    assert label(result) == "rl step-96 seed 0"


def test_json_has_no_nan():
    found = formats.document([evaluation([True])])
    found["results"][0]["mean_return"] = math.nan
    assert json.loads(formats.as_json(found))["results"][0]["mean_return"] is None


def test_csv_has_ours_and_the_papers_marked():
    runs = [evaluation([True, False]), evaluation([True, True], run="b", training_seed=1)]
    rows = list(csv.DictReader(io.StringIO(formats.as_csv(formats.document(runs)))))
    assert [row["published"] for row in rows] == ["0"] * 3 + ["1"] * 6
    assert (rows[0]["success"], rows[2]["runs"], rows[2]["success"]) == ("0.5", "2", "0.75")
    assert rows[-1]["system"] == "RL with CoT"
    assert float(rows[-1]["success"]) == pytest.approx(0.894)


def test_markdown_marks_what_was_published_and_keeps_its_cells():
    text = formats.as_markdown(formats.document([evaluation([True, False], system="a|b\nc")]))
    lines = text.splitlines()
    assert lines[0] == "### numberline (rules: paper, evaluation seed 0)"
    assert lines[4].startswith("| a\\|b c step-96 seed 0 | 2 | 50.0 |")
    assert "| *RL with CoT (published)* |  | *89.4* |" in text
    assert all(line.count(" | ") == 7 for line in lines[2:11] if not line.startswith("|---"))


def test_published_rows_are_the_papers():
    assert [row.success for row in published_rows("numberline")] == [87.1, 65.5, 82.5, 24.8, 26.9, 89.4]
    assert [row.system for row in published_rows("alfworld")][:2] == ["BUTLER_g", "BUTLER"]
    assert [row.expert_data for row in published_rows("alfworld")] == [True, True, *[False] * 6]
    butler = published_row("alfworld", "BUTLER")
    assert butler is not None
    assert (butler.success, butler.by_type) == (37.0, (46.0, 22.0, 39.0, 74.0, 100.0, 24.0))
    assert published_row("alfworld", "nobody") is None
    assert published_rows("somebody-elses") == []
