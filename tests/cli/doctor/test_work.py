"""Keys that are set or not, and runs that lost their process or their database."""

from __future__ import annotations

import json
import platform
import time

from tests.cli.doctor.made import NOTE, OK, PROBLEM, only
from vlmagent import paths
from vlmagent.cli.doctor import work
from vlmagent.paths import Run
from vlmagent.runs.daemon import DaemonInfo
from vlmagent.store.connection import Database


def test_keys_are_looked_for_and_never_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234")
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    openai, gemini = work.check_keys()
    assert (openai.state, openai.text[:26]) == (OK, "OPENAI_API_KEY is set; --b")
    assert (gemini.state, gemini.remedy) == (NOTE, "export GEMINI_API_KEY=KEY")
    monkeypatch.setenv("GEMINI_API_KEY", "two words")
    unusable = list(work.check_keys())[1]
    assert (unusable.state, unusable.essential) == (PROBLEM, False)
    told = str([openai, gemini, unusable])
    assert "secret" not in told
    assert "1234" not in told
    assert "two" not in told


def make_run(name: str, *, gone: bool) -> Run:
    run = Run(paths.runs_dir() / name)
    run.path.mkdir(parents=True)
    run.config_file.write_text("task: numberline\n")
    database = Database.open(run.database, "wal")
    database.start_run((name, "numberline", "tiny", "{}"), 0)
    if not gone:
        database.set_status("done", None, time.time())
    database.close()
    info = DaemonInfo(2**22 + 1, time.time() - 100, platform.node(), 1.0)
    run.daemon_file.write_text(json.dumps({name: getattr(info, name) for name in info.__slots__}))
    return run


def test_runs_that_lost_their_process_or_their_database():
    make_run("good", gone=False)
    for number in range(5):
        make_run(f"gone-{number}", gone=True)
    bad = make_run("bad", gone=False)
    bad.database.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    found = list(work.check_runs())
    assert only(found, "Runs").text.endswith("runs: 1 damaged, 1 done, 5 lost")
    lost, damaged = only(found, "Lost"), only(found, "Damaged")
    assert lost.text.endswith(" and 2 more.")
    assert lost.remedy.startswith(f"vlmagent train --resume {paths.runs_dir()}/gone-")
    assert damaged.text == "The database cannot be read of bad."
    assert damaged.remedy.startswith(f"`vlmagent runs show {bad}` ")
    assert not any(one.essential for one in found)


def test_no_runs_and_too_many_to_look_at(monkeypatch):
    assert only(work.check_runs(), "Runs").text.startswith("none yet in ")
    make_run("good", gone=False)
    monkeypatch.setattr(work, "LOOK_SECONDS", -1.0)
    (found,) = work.check_runs()
    assert ": of the newest 0 " in found.text
