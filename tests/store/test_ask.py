"""Questions in SQL: everything can be asked, nothing can be changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.made_runs import make_run
from vlmagent.errors import UsageError
from vlmagent.store.ask import Questions
from vlmagent.store.writer import StoreWriter


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("ask") / "run").database


@pytest.mark.parametrize(
    ("question", "columns", "rows"),
    [
        ("SELECT count(*) AS n, max(step) FROM transitions", ["n", "max(step)"], [(12, 3)]),
        ("WITH a AS (SELECT 1 AS b) SELECT b FROM a", ["b"], [(1,)]),
        ("SELECT count(*) FROM transitions_fts WHERE transitions_fts MATCH 'less'", ["count(*)"], [(12,)]),
        ("SELECT value FROM json_each('[5]')", ["value"], [(5,)]),
        ("SELECT name FROM pragma_table_info('events') WHERE pk", ["name"], [("id",)]),
        ("SELECT id FROM run WHERE 0", ["id"], []),
    ],
)
def test_answers(database: Path, question: str, columns: list[str], rows: list[tuple[object, ...]]):
    with Questions(database) as asked:
        found = asked.ask(question)
    assert (found.columns, found.rows, found.more) == (columns, rows, False)


def test_a_limit_says_whether_there_is_more(database: Path):
    with Questions(database) as asked:
        assert [asked.ask("SELECT id FROM transitions", limit).more for limit in (11, 12, 13)] == [
            True,
            False,
            False,
        ]
        assert len(asked.ask("SELECT id FROM transitions", 11).rows) == 11


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM transitions", "UPDATE run SET status = 'x'", "DROP TABLE run", "CREATE TABLE x (a)",
        "CREATE TEMP TABLE x (a)", "ATTACH '{place}' AS other", "VACUUM", "VACUUM INTO '{place}'",
        "PRAGMA journal_mode = delete", "PRAGMA writable_schema = 1", "PRAGMA user_version = 9", "BEGIN IMMEDIATE",
        "INSERT INTO transitions_fts (transitions_fts) VALUES ('rebuild')", "REINDEX", "ANALYZE",
        "UPDATE sqlite_master SET name = 'x'", "SELECT load_extension('x')",
    ],
)  # fmt: skip
def test_nothing_can_be_changed(database: Path, tmp_path: Path, statement: str):
    before = database.read_bytes()
    with Questions(database) as asked, pytest.raises(UsageError):
        asked.ask(statement.format(place=tmp_path / "other.db"))
    assert database.read_bytes() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("SELEC 1", 'near "SELEC": syntax error'),
        ("SELECT nope FROM run", "no such column: nope"),
        ("SELECT * FROM nope", "no such table: nope"),
        ("SELECT 1; SELECT 2", "several statements"),
        ("", "asks nothing"),
        ("-- only a comment", "asks nothing"),
        ("SELECT ?", "SQLite does not understand"),
    ],
)
def test_what_is_no_question_is_said_in_one_sentence(database: Path, question: str, said: str):
    with Questions(database) as asked, pytest.raises(UsageError) as caught:
        asked.ask(question)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_can_be_asked_while_it_is_written(tmp_path: Path):
    database = tmp_path / "run.db"
    with StoreWriter(database) as writer, Questions(database) as asked:
        for number in range(1, 4):
            writer.event("info", f"event {number}")
            writer.commit()
            writer.flush()
            assert asked.ask("SELECT count(*) FROM events").rows == [(number,)]
            asked.ask("SELECT * FROM events, metrics", 1)


def test_tables_are_those_that_mean_something(database: Path):
    with Questions(database) as asked:
        tables = asked.tables()
    assert {"run", "episodes", "transitions", "images", "metrics", "checkpoints", "events"} <= set(tables)
    assert ("reward", "REAL") in tables["transitions"]
    assert not [name for name in tables if name.startswith(("sqlite_", "_", "transitions_fts_"))]
