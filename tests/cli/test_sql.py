"""``vlmagent runs sql``: tables, JSON and CSV of an answer; mistakes are told."""

from __future__ import annotations

import base64
import csv
import io
import json
import sqlite3

import pytest
from typer.testing import CliRunner

from tests.tui.made_runs import change, make_run
from vlmagent import paths
from vlmagent.cli.main import app
from vlmagent.errors import UsageError
from vlmagent.paths import Run


@pytest.fixture
def run() -> Run:
    return make_run(paths.runs_dir() / "first")


def said(*words: str, told: str | None = None) -> str:
    result = CliRunner().invoke(app, ["runs", "sql", *words], input=told, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_and_csv_hold_every_row_and_value(run: Run):
    question = "SELECT id, thoughts, reward, advantage FROM transitions ORDER BY id"
    rows = json.loads(said(question, "first", "--json"))
    assert [row["id"] for row in rows] == list(range(1, 13))
    with sqlite3.connect(run.database) as connection:
        assert [tuple(row.values()) for row in rows] == connection.execute(question).fetchall()
    header, *lines = csv.reader(io.StringIO(said(question, "first", "--csv")))
    assert header == ["id", "thoughts", "reward", "advantage"]
    assert len(lines) == 12


def test_a_table_says_that_there_is_more(run: Run):
    result = CliRunner().invoke(
        app, ["runs", "sql", "SELECT id, 7.5 AS half FROM transitions", "first", "-n", "3"]
    )
    title, _, *rows = result.stdout.splitlines()
    assert title.split() == ["id", "half"]
    assert [row.split() for row in rows] == [["1", "7.5"], ["2", "7.5"], ["3", "7.5"]]
    assert "the first 3 are shown" in result.stderr
    assert (
        "the first"
        not in CliRunner().invoke(app, ["runs", "sql", "SELECT id FROM transitions", "first"]).stderr
    )


def test_pictures_are_base64_in_files_and_a_size_on_the_terminal(run: Run):
    (row,) = json.loads(said("SELECT data FROM images LIMIT 1", "first", "--json"))
    assert base64.b64decode(row["data"]).startswith(b"\x89PNG")
    assert " bytes>" in said("SELECT data FROM images LIMIT 1", "first")


def test_the_question_may_come_through_a_pipe(run: Run):
    assert json.loads(said("-", "first", "--json", told="SELECT count(*) AS n\nFROM episodes")) == [{"n": 3}]


def test_without_a_question_the_tables_are_listed(run: Run):
    assert "thought_logprob" in said()
    assert json.loads(said("--json"))["run"]["seed"] == "INTEGER"


def test_text_of_the_run_cannot_drive_the_terminal(run: Run):
    change(run, "UPDATE transitions SET thoughts = char(27) || '[31mred' || char(10) || 'line'")
    shown = said("SELECT id, thoughts FROM transitions", "first", "-n", "1")
    assert "\x1b" not in shown
    assert len([line for line in shown.splitlines() if line.strip()]) == 3


def test_a_database_can_be_named_itself(run: Run):
    assert json.loads(said("SELECT count(*) AS n FROM episodes", str(run.database), "--json")) == [{"n": 3}]


def test_mistakes(run: Run):
    for words in (("SELECT 1", "first", "--json", "--csv"), ("DROP TABLE run", "first")):
        with pytest.raises(UsageError):
            CliRunner().invoke(app, ["runs", "sql", *words], catch_exceptions=False)
