"""A run on the screen whose files are nasty, deleted, damaged, locked or old."""

import os
import shutil
import sqlite3

import pytest

from tests.tui.driving import said, seen, shown, until
from tests.tui.made_runs import NASTY, change, make_run
from tests.tui.screens.train_pilot import BIG, begin, screen
from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.store.writer import StoreWriter
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.screens.runs import RunsScreen


@pytest.fixture
def run() -> Run:
    return make_run(paths.runs_dir() / "first")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_model_output_is_only_text(size: tuple[int, int]) -> None:
    run = make_run(paths.runs_dir() / "r", text=NASTY, status="failed", error=NASTY)
    with StoreWriter(run.database) as writer:
        writer.event("error", NASTY)
    change(run, "UPDATE run SET status = 'failed', finished_at = 1.0")
    async with VlmAgentApp(run).run_test(size=size) as pilot:
        await begin(pilot)
        everything = seen(pilot)
        assert "[red]x[/] ·[31mANSI·[0m" in everything
        assert not any(character in everything for character in "\x1b\x07\u202e\ud800\r")
        assert "[bold" in shown(screen(pilot).query_one("#newest Static"))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        await until(pilot, lambda: "[red]x[/]" in shown(pilot.app.screen.query_one("#runs-preview Static")))


async def test_a_run_deleted_and_made_again(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        shutil.rmtree(run)
        problem = screen(pilot).query_one("#problem")
        await until(pilot, lambda: "no run database" in shown(problem))
        await pilot.press("s", "left", "z")  # the rest goes on
        assert screen(pilot).update_index == 3
        make_run(run.path, updates=1)
        await until(pilot, lambda: not problem.display and len(screen(pilot).points.x) == 1)
        assert screen(pilot).cursor is None


@pytest.mark.parametrize(
    ("damage", "words"),
    [("PRAGMA user_version = 99", "newer vlmagent"), ("DROP TABLE metrics", "could not be read")],
)
async def test_a_database_we_cannot_read(run: Run, damage: str, words: str) -> None:
    change(run, damage)
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot, 0)
        await until(pilot, lambda: words in said(screen(pilot).query_one("#problem")))
        await pilot.press("x", "left", "escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))


async def test_a_truncated_database(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        database = run.database
        os.truncate(database, database.stat().st_size // 3)
        await until(pilot, lambda: screen(pilot).query_one("#problem").display)
        assert len(screen(pilot).points.x) == 3


async def test_a_locked_database(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmagent.store.reader.BUSY_SECONDS", 0.2)
    change(run, "PRAGMA journal_mode = DELETE")
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        locker = sqlite3.connect(run.database, isolation_level=None)
        locker.execute("BEGIN EXCLUSIVE")
        await until(pilot, lambda: "locked" in shown(screen(pilot).query_one("#problem")))
        locker.execute("ROLLBACK")
        locker.close()
        await until(pilot, lambda: not screen(pilot).query_one("#problem").display)


async def test_a_database_of_the_first_schema(run: Run) -> None:
    change(
        run,
        "PRAGMA user_version = 1",
        "DROP INDEX IF EXISTS transitions_advantage",
        "DROP INDEX IF EXISTS transitions_logprob",
    )
    async with VlmAgentApp(run).run_test(size=BIG) as pilot:
        await begin(pilot)
        assert not screen(pilot).query_one("#problem").display
