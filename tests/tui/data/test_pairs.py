import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.tui.made_episodes import LEFT, RIGHT, make_episodes, make_evaluation, make_two_evaluations
from vlmagent.paths import Run
from vlmagent.store.rows import EpisodeRow
from vlmagent.tui.data.commands import how_to_evaluate
from vlmagent.tui.data.compare_feed import choose_sides, comparable_with
from vlmagent.tui.data.evaluations import Evaluation, pick, read_evaluation, read_evaluations
from vlmagent.tui.data.pair_list import columns_for, tally_content
from vlmagent.tui.data.pairs import count, pair_up
from vlmagent.tui.screens.compare import CompareSide


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_two_evaluations(tmp_path / "a-run")


def episode(id_: int, seed: int, success: bool, value: float = 0.0, ended: Any = "terminated") -> EpisodeRow:
    return EpisodeRow(id_, "eval", 0, seed, 2, value, success, success, ended, 0, 0)


def test_pairs_by_seed() -> None:
    left = [
        episode(1, 7, True),
        episode(2, 8, False),
        episode(3, 9, True, ended="running"),
        episode(4, 7, False),
    ]
    right = [
        episode(1, 8, True),
        episode(2, 7, True),
        episode(3, 10, True),
        episode(4, 7, True),
        episode(5, 7, True),
    ]
    pairs, alone = pair_up(left, right)
    assert [(pair.seed, pair.left.id, pair.right.id) for pair in pairs] == [(7, 1, 2), (8, 2, 1), (7, 4, 4)]
    assert [pair.kind for pair in pairs] == ["both", "right", "right"]
    assert alone == 2


def test_counts() -> None:
    pairs, _ = pair_up(
        [episode(k, k, s, value=-1.0) for k, s in enumerate(LEFT)],
        [episode(k, k, s, value=2.0) for k, s in enumerate(RIGHT)],
    )
    tally = count(pairs, 3)
    assert tally.counts == {"both": 1, "left": 1, "right": 2, "neither": 1}
    assert (tally.total, tally.alone, tally.success("left"), tally.success("right")) == (5, 3, 0.4, 0.6)
    assert (tally.left_return, tally.right_return) == (-1.0, 2.0)
    assert pairs[0].difference == 3.0
    text = tally_content(tally, 40).plain
    assert "only right 2" in text
    assert "3 without a partner" in text
    assert "40.0 % → 60.0 %" in text
    assert text.split("\n")[1] == "━" * 40
    nothing = count([])
    assert math.isnan(nothing.success("left"))
    assert nothing.p == 1
    assert len(tally_content(nothing, 40).plain.split("\n")[1]) == 40


# Which evaluations


def evaluation(run: Run, name: str, checkpoint: str | None, steps: int | None, **more: Any) -> Evaluation:
    return Evaluation(run, run.evaluations / name, "rl", checkpoint, steps, **{"episodes": 5, **more})


def test_the_sides(tmp_path: Path) -> None:
    one, two = Run(tmp_path / "one"), Run(tmp_path / "two")
    start, later = evaluation(one, "a", "step-0", 0), evaluation(one, "b", "step-50", 50)
    again, baseline = evaluation(one, "c", "step-0", 0), evaluation(one, "d", None, None)
    broken = evaluation(one, "e", "step-90", 90, problem="damaged")
    other = evaluation(two, "f", "step-70", 70)
    known = {one: [broken, baseline, again, later, start], two: [other]}
    same = CompareSide(one)
    assert choose_sides(same, same, known) == (again, later)
    assert choose_sides(same, CompareSide(two), known) == (later, other)
    assert choose_sides(
        CompareSide(one, checkpoint="start"), CompareSide(one, checkpoint="latest"), known
    ) == (again, later)
    assert choose_sides(CompareSide(one, start.database), CompareSide(one, checkpoint="step-50"), known) == (
        start,
        later,
    )
    assert choose_sides(
        CompareSide(one, checkpoint="step-90"), CompareSide(one, one.path / "gone.db"), known
    ) == (
        None,
        None,
    )
    assert choose_sides(CompareSide(two), CompareSide(two), known) == (None, other)
    assert choose_sides(same, same, {one: [again, start]}) == (start, again)
    assert choose_sides(same, same, {one: []}) == (None, None)
    assert pick([baseline], None) == baseline
    assert pick([baseline], "latest") is None
    assert pick([evaluation(one, "x", "step-0", 0, episodes=0)], None) is None


def test_what_a_run_can_be_compared_with(run: Run, tmp_path: Path) -> None:
    alone, elsewhere = make_episodes(tmp_path / "alone", 1), make_episodes(tmp_path / "elsewhere", 1)
    make_evaluation(alone, "step-9", [True])
    make_evaluation(elsewhere, "step-9", [True], first_seed=900)
    assert comparable_with(run, [run, alone]) == run
    assert comparable_with(alone, [alone, elsewhere, Run(tmp_path / "gone"), run]) == run
    assert comparable_with(elsewhere, [elsewhere, alone, run]) is None
    for file in run.evaluations.iterdir():
        file.write_text("no database " * 100)
    assert comparable_with(alone, [run]) is None


def test_reading_evaluations(run: Run) -> None:
    (run.evaluations / "0-broken.db").write_text("no database " * 100)
    make_evaluation(run, None, [True], system="random")
    found = read_evaluations(run)
    assert [one.name for one in found[:3]] == ["random", "rl step-500", "sft step-0"]
    assert "not a SQLite database" in found[3].facts
    assert found[2].facts.startswith("5 episodes · success 40.0 % · seed 3 · ")
    assert read_evaluations(Run(run.path / "gone")) == []
    with sqlite3.connect(found[0].database) as connection:
        connection.execute("DELETE FROM evaluations")
    connection.close()
    unfinished = read_evaluation(run, found[0].database)
    assert "not finished" in unfinished.facts
    assert unfinished.episodes == 1


def test_the_command_that_makes_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert how_to_evaluate(run) == f"vlmagent eval --run {run} --checkpoint start --checkpoint latest"
    monkeypatch.setenv("VLMAGENT_RUNS", str(run.path.parent))
    assert how_to_evaluate(run) == "vlmagent eval --run a-run --checkpoint start --checkpoint latest"


@pytest.mark.parametrize("width", [20, 42, 54, 80])
def test_columns_fit(width: int) -> None:
    columns = columns_for(width)
    assert len(columns) >= 3
    assert sum(cells + 2 for _, cells in columns) + 1 <= max(width, 42)
