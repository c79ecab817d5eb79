"""Names made from the time are taken by one: at once, by threads and processes, while the clock stands still."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.play.made import plan_play
from vlmagent.config import Config
from vlmagent.evaluation.evaluate import EvaluationPlan, evaluate
from vlmagent.evaluation.systems import baseline_system
from vlmagent.files import new_file, new_folder
from vlmagent.paths import Run
from vlmagent.play.session import PlaySession
from vlmagent.runs import folders
from vlmagent.store.reader import StoreReader
from vlmagent.store.writer import StoreWriter
from vlmagent.tasks.registry import task_from_config

pytestmark = pytest.mark.usefixtures("forked_programs")

AT_ONCE = 8


@pytest.fixture(autouse=True)
def _clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = time.localtime(1_800_000_000)
    original = time.strftime
    monkeypatch.setattr(time, "strftime", lambda form, *given: original(form, *(given or (moment,))))


def at_once(work: Callable[[], object]) -> list[object]:
    """Results of several threads that begin together."""
    barrier = threading.Barrier(AT_ONCE)

    def begin(_: int) -> object:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(begin, range(AT_ONCE)))


def test_files_and_folders(tmp_path: Path):
    files = at_once(lambda: new_file(tmp_path / "new", "a.b", ".db"))
    names = ["a.b.db", *(f"a.b-{number}.db" for number in range(2, AT_ONCE + 1))]
    assert sorted(Path(str(file)).name for file in files) == sorted(names)
    made = at_once(lambda: new_folder(tmp_path / "new", "run"))
    assert len(set(made)) == AT_ONCE
    assert all(Path(str(folder)).is_dir() for folder in made)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        new_folder(tmp_path / "file", "run")


def test_evaluations_of_one_run(small_config: Config):
    """Each gets a database of its own, and the run a row of each."""
    run = folders.create_run(small_config)
    with StoreWriter(run.database) as writer:
        writer.start_run("run", "numberline", "tiny", "{}", 0)

    def one() -> object:
        task = task_from_config(small_config)
        system = baseline_system("random", task)
        plan = EvaluationPlan(small_config, task, system, episodes=3, seed=0, run=run, folder=run.evaluations)
        return evaluate(plan).result.database

    databases = at_once(one)
    assert len(set(databases)) == AT_ONCE
    with StoreReader(run.database) as reader:
        rows = reader.evaluations()
    assert sorted(row.more["database"] for row in rows) == sorted(str(database) for database in databases)
    assert len({row.id for row in rows}) == AT_ONCE


def test_runs_and_sessions(small_config: Config):
    runs = at_once(lambda: folders.create_run(small_config).path)
    assert len(set(runs)) == AT_ONCE
    alone = [PlaySession(plan_play("numberline", human=True, opponent="expert", seed=1)) for _ in range(3)]
    assert len({session.database.parent for session in alone}) == 3
    beside = [
        PlaySession(plan_play("numberline", human=True, run=str(Run(Path(str(runs[0])))), opponent="expert"))
        for _ in range(3)
    ]
    assert len({session.database for session in beside}) == 3
    for session in (*alone, *beside):
        session.close()


def test_processes(tmp_path: Path):
    command = [sys.executable, "-m", "tests.evaluation.names_process", str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    databases = [process.communicate(timeout=120) for process in processes]
    assert [error for _, error in databases] == ["", "", ""]
    assert len({said.strip() for said, _ in databases}) == 3
