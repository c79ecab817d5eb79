"""Tables in narrow terminals: texts are cut, numbers, states and signs never are."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from vlmagent.paths import Run
from vlmagent.store.browse import OutputRow
from vlmagent.store.rows import EpisodeRow
from vlmagent.tui.data import episode_list, pair_list, run_rows
from vlmagent.tui.data.catalogue import RunSummary
from vlmagent.tui.data.columns import Fitted, fit
from vlmagent.tui.data.episode_list import View
from vlmagent.tui.data.pairs import Pair
from vlmagent.tui.data.run_rows import Setting

COLOURS = {"success": "green", "error": "red", "warning": "yellow", "primary": "blue", "accent": "magenta"}
NARROW = pytest.mark.parametrize("width", [60, 80])
FAILED = "CUDA out of memory. Tried to allocate 20.00 MiB " * 20
EPISODE = EpisodeRow(
    id=12_345_678, split="train", env_index=3, seed=18_446_744_073_709_551_615, length=10_001,
    episode_return=-12_345.67, success=False, goal=False, ended="lost", update_index=104_729, illegal=12,
)  # fmt: skip
OUTPUT = OutputRow(
    id=98_765_432, episode_id=12_345_678, step=1233, update_index=104_729,
    action="go to the countertop at the far end of the kitchen", legal_output=True, reward=-1000.0, value=0.0,
    logprob=-98_765.4, advantage=-1234.5, seed=1, success=False, episode_return=None, length=None,
    excerpt="thoughts " * 50, marks=(), key=0.0,
)  # fmt: skip


def laid_out(columns: Fitted, cells: Sequence[Text]) -> dict[str, str]:
    """What a table that crops each cell to its column shows."""
    return {
        column.title.strip(): cell.plain[:width].strip()
        for (column, width), cell in zip(columns, cells, strict=True)
    }


def total(columns: Fitted) -> int:
    return 1 + sum(width + 2 for _, width in columns)


@NARROW
def test_runs_keep_states_and_numbers_beside_one_that_failed(width: int) -> None:
    usual = RunSummary(
        Run(Path("/r/20260101-120000-numberline-first")), "running", "numberline", "tiny", 7, 1234
    )
    runs = [
        replace(usual, env_steps=123_456_789, success=(0.25, 1.0), speed=12.5, created_at=0.0),
        replace(usual, run=Run(Path("/r/20260101-120000-numberline-second")), state="failed", error=FAILED),
    ]
    names = [run.name for run in runs]
    columns, cells = fit(
        lambda least: run_rows.columns_for(width, names, least), runs, Setting((), 5.0, COLOURS)
    )
    assert total(columns) <= width
    first, second = (laid_out(columns, row) for row in cells)
    assert (first["state"], second["state"]) == ("● running", "✗ failed")
    assert (first["env steps"], second["env steps"]) == ("123,456,789", "1,234")
    assert first["success"].startswith("100.0 %")
    assert first["run"] != second["run"], "names that were cut can still be told apart"
    assert first["run"].endswith("first")


@pytest.mark.parametrize("width", [45, 50, 60])
def test_where_it_is_narrower_names_are_cut_before_numbers(width: int) -> None:
    run = RunSummary(
        Run(Path("/r/20260101-120000-numberline")), "starting", env_steps=1_000_000, success=(0.5,)
    )
    columns, cells = fit(
        lambda least: run_rows.columns_for(width, [run.name], least), [run], Setting((), 5.0, COLOURS)
    )
    assert total(columns) <= width
    shown = laid_out(columns, cells[0])
    assert shown["state"] == "◐ starting"
    assert (shown["env steps"], shown["success"]) == ("1,000,000", "50.0 %")
    assert shown["run"].startswith("2026")


@NARROW
def test_episodes_keep_every_digit(width: int) -> None:
    columns, cells = fit(lambda least: episode_list.columns_for(View(), width, least), [EPISODE], COLOURS)
    shown = laid_out(columns, cells[0])
    assert total(columns) <= width
    assert (shown["episode"], shown["outcome"]) == ("12,345,678", "✗ failure")
    assert (shown["update"], shown["return"], shown["steps"]) == ("104729", "-12345.7", "10001")
    assert shown.get("seed", "18446744073709551615") == "18446744073709551615"


@NARROW
def test_rankings_cut_the_output_and_nothing_else(width: int) -> None:
    view = View(order="lowest log-prob")
    columns, cells = fit(lambda least: episode_list.columns_for(view, width, least), [OUTPUT], COLOURS)
    shown = laid_out(columns, cells[0])
    assert total(columns) <= width
    assert (shown["episode"], shown["step"]) == ("12,345,678", "1234")
    assert (shown["adv."], shown["log p"]) == ("-1234.5", "-98765.4")
    assert shown.get("reward", "-1000.0") == "-1000.0"
    assert ("reward" in shown) == (width == 80)
    assert "thoughts".startswith(shown["output"].rstrip("…")[:8])


@pytest.mark.parametrize("width", [42, 60, 80])
def test_pairs_keep_every_digit(width: int) -> None:
    pair = Pair(EPISODE.seed, EPISODE, replace(EPISODE, success=True, episode_return=54_321.0, length=8))
    columns, cells = fit(lambda least: pair_list.columns_for(width, least), [pair], COLOURS)
    shown = laid_out(columns, cells[0])
    assert shown["who"] == "only right"
    assert shown["left  st"] == "✗-12345.7 10001"
    assert shown["right  st"] == "✓+54321.0   8"
    assert shown.get("diff.", "+66666.7") == "+66666.7"


def test_a_column_grows_only_as_far_as_needed() -> None:
    rows: list[Any] = [replace(EPISODE, id=5), EPISODE]
    columns, _ = fit(lambda least: episode_list.columns_for(View(), 200, least), rows, COLOURS)
    widths = {column.title.strip(): cells for column, cells in columns}
    assert widths["episode"] == len("12,345,678")
    assert widths["illegal"] == 7
