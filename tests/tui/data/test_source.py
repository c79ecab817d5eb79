import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.tui.made_runs import change, make_run
from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.store.reader import NotReadyError, StoreReader
from vlmagent.tui.data.source import Source, Worker

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


def steps(reader: StoreReader) -> int:
    return reader.env_steps()


def endless(reader: StoreReader) -> object:
    return reader.query(ENDLESS)


def put(database: Path, data: bytes) -> None:
    """Another file in the place of the database, nothing left of the old one."""
    for file in database.parent.glob(f"{database.name}*"):
        file.unlink()
    database.write_bytes(data)


async def test_answers_come_from_one_other_thread(tmp_path: Path) -> None:
    source = Source(make_run(tmp_path / "r").database)
    names = {await source.query(lambda _: threading.current_thread().name) for _ in range(3)}
    assert names == {"reader-r"}
    assert await source.query(steps) == 12
    assert await source.call(lambda: 5) == 5
    source.close()


async def test_missing_then_there_then_gone_then_another(tmp_path: Path) -> None:
    run = Run(tmp_path / "r")
    source = Source(run.database)
    with pytest.raises(StoreError, match="no run database"):
        await source.query(steps)
    make_run(run.path)
    assert await source.query(steps) == 12
    shutil.rmtree(run)
    with pytest.raises(StoreError, match="no run database"):
        await source.query(steps)
    make_run(run.path, updates=1)
    assert await source.query(steps) == 4
    other = make_run(tmp_path / "other", updates=2)
    for file in run.path.glob("run.db*"):
        file.unlink()
    shutil.copy(other.database, run.database)
    assert await source.query(steps) == 8
    source.close()


async def test_every_damage_is_a_sentence(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r")
    database = run.database
    source = Source(database)
    whole = database.read_bytes()
    assert await source.query(steps) == 12
    change(run, "PRAGMA user_version = 99")
    source.close()
    source = Source(database)
    with pytest.raises(StoreError, match="newer"):
        await source.query(steps)
    put(database, whole[: len(whole) // 3])
    with pytest.raises(StoreError, match=r"damaged|not a SQLite"):
        await source.query(lambda reader: reader.transitions(1))
    put(database, b"no database " * 100)
    with pytest.raises(StoreError, match="not a SQLite"):
        await source.query(steps)
    put(database, b"")
    with pytest.raises(NotReadyError):
        await source.query(steps)
    put(database, whole)
    assert await source.query(steps) == 12
    source.close()


async def test_a_lock_is_waited_for_without_holding_up_anyone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlmagent.store.reader.BUSY_SECONDS", 0.3)
    run = make_run(tmp_path / "r")
    change(run, "PRAGMA journal_mode = DELETE")
    source = Source(run.database)
    locker = sqlite3.connect(run.database, isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    waiting = asyncio.ensure_future(source.query(steps))
    late = 0.0
    while not waiting.done():
        began = time.perf_counter()
        await asyncio.sleep(0.01)
        late = max(late, time.perf_counter() - began - 0.01)
    assert late < 0.1
    with pytest.raises(StoreError, match="locked"):
        await waiting
    locker.execute("ROLLBACK")
    locker.close()
    assert await source.query(steps) == 12
    source.close()


async def test_a_row_that_cannot_be_decoded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r")
    change(run, "UPDATE transitions SET token_ids = 'no json' WHERE id = 12")
    source = Source(run.database)
    with pytest.raises(StoreError, match="something unexpected"):
        await source.query(lambda reader: reader.latest_transition())
    assert await source.query(steps) == 12
    source.close()


async def test_cancelling_interrupts_the_query(tmp_path: Path) -> None:
    source = Source(make_run(tmp_path / "r").database)
    waiting = asyncio.ensure_future(source.query(endless))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.wait_for(source.query(steps), 5) == 12
    source.close()


async def test_closing_interrupts_and_refuses(tmp_path: Path) -> None:
    source = Source(make_run(tmp_path / "r").database)
    waiting = asyncio.ensure_future(source.query(endless))
    behind = asyncio.ensure_future(source.query(steps))
    await asyncio.sleep(0.1)
    source.close()  # waits for nothing: the query has no end
    source.close()
    for future in (waiting, behind):
        with pytest.raises(StoreError):
            await asyncio.wait_for(future, 5)
    with pytest.raises(StoreError, match="closed"):
        await source.query(steps)


async def test_errors_of_the_caller_come_back() -> None:
    worker = Worker()
    with pytest.raises(ZeroDivisionError):
        await worker.call(lambda: 1 // 0)
    assert await worker.call(lambda: 1) == 1
    worker.close()


async def test_a_busy_thread_does_not_delay_the_end_of_the_program(tmp_path: Path) -> None:
    code = (
        "import asyncio, time\nfrom vlmagent.tui.data.source import Worker\n"
        "async def main():\n"
        "    worker = Worker()\n"
        "    task = asyncio.ensure_future(worker.call(lambda: time.sleep(30)))\n"
        "    await asyncio.sleep(0.2)\n"
        "    task.cancel()\n"
        "    worker.close()\n"
        "asyncio.run(main())"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
