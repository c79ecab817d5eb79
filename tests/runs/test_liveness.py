"""Whether a run is alive: by its lock and its process, not by the clock, and the same answer everywhere."""

import fcntl
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from vlmagent.config import Config
from vlmagent.errors import UsageError
from vlmagent.paths import Run
from vlmagent.runs import daemon, folders, launch, status
from vlmagent.store.reader import StoreReader
from vlmagent.store.rows import RunRow
from vlmagent.store.writer import StoreWriter

STAND_IN = """
import sys
from pathlib import Path
from vlmagent.paths import Run
from vlmagent.runs.daemon import daemon_session
from vlmagent.store.writer import StoreWriter
run = Run(Path(sys.argv[1]))
with daemon_session(run) as stop, StoreWriter(run.database) as writer:
    writer.start_run(run.name, "numberline", "tiny", "{}", 0)
    writer.set_status("running")
    writer.flush()
    print("ready", flush=True)
    stop.wait(120)
    writer.set_status("stopped")
"""
DAY = 86_400.0
CONFIG = Config(task="numberline")


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def row_of(run: Run) -> RunRow:
    with StoreReader(run.database) as reader:
        row = reader.run()
    assert row is not None
    return row


@pytest.fixture
def run() -> Run:
    return folders.create_run(CONFIG)


@pytest.fixture
def process(run: Run) -> Iterator[psutil.Process]:
    """A process that holds ``run`` and writes its heartbeat, as a training does."""
    pid = launch.start_daemon(run, [sys.executable, "-c", STAND_IN, str(run)])
    until(lambda: "ready" in run.log.read_text())
    found = psutil.Process(pid)
    yield found
    if found.is_running():
        found.kill()
    until(lambda: not found.is_running() or found.status() == psutil.STATUS_ZOMBIE)


def move_the_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """As this process sees it after the system clock was set: the time, and when processes started."""
    now, created = time.time, psutil.Process.create_time
    monkeypatch.setattr(time, "time", lambda: now() + seconds)
    # psutil adds a process's ticks to the time of booting, which the kernel derives from the clock
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + seconds)


@pytest.mark.parametrize("seconds", [120.0, -120.0, DAY, -DAY])
def test_a_running_daemon_stays_one_when_the_clock_is_set(
    run: Run, process: psutil.Process, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    move_the_clock(monkeypatch, seconds)
    assert status.is_alive(run)
    assert status.run_state(run) == "running"
    who = f"already being trained by process {process.pid} on {platform.node()}"
    with pytest.raises(UsageError, match=who):
        launch.start_daemon(run)
    with pytest.raises(UsageError, match=who):
        launch.update_config(run, ["ppo.env_steps=30000"])
    assert launch.stop_run(run) == "stopped"
    assert not status.is_alive(run)


@pytest.mark.parametrize("seconds", [-120.0, DAY])
def test_a_run_that_goes_on_after_the_clock_was_set_is_not_over(
    run: Run, process: psutil.Process, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    assert launch.stop_run(run) == "stopped"
    move_the_clock(monkeypatch, seconds)
    with daemon.daemon_session(run):
        assert status.run_state(run) == "starting"  # the database does not say yet that it goes on
    assert status.run_state(run) == "lost"
    with StoreWriter(run.database) as writer:
        writer.set_status("done")
    assert status.run_state(run) == "done"


def test_the_killed_one_is_gone_at_once(run: Run, process: psutil.Process) -> None:
    process.kill()
    until(lambda: not status.is_alive(run))  # a zombie: nobody has waited for it
    assert status.run_state(run) == "lost"
    with pytest.raises(UsageError, match=r"is lost.*--resume"):
        launch.stop_run(run)
    launch.update_config(run, ["ppo.env_steps=30000"])
    assert folders.resolve_run() == run


def test_a_lock_without_a_daemon_file(run: Run, process: psutil.Process) -> None:
    run.daemon_file.unlink()
    assert status.run_state(run) == "running"
    with pytest.raises(UsageError, match="already being trained by another process"):
        launch.start_daemon(run)
    with pytest.raises(UsageError, match=r"does not say which.*fuser -v"):
        launch.stop_run(run)
    assert process.is_running()


def test_a_daemon_file_without_a_lock(run: Run, process: psutil.Process) -> None:
    run.lock_file.unlink()
    assert daemon.is_held(run) is None
    assert status.run_state(run) == "running"
    assert launch.stop_run(run) == "stopped"


def test_a_copy_of_a_running_run_is_another_run(run: Run, process: psutil.Process, tmp_path: Path) -> None:
    copy = Run(Path(shutil.copytree(run.path, tmp_path / "copy")))
    assert daemon.daemon_info(copy) == daemon.daemon_info(run)
    assert status.run_state(copy) == "lost"
    with pytest.raises(UsageError, match="is not running"):
        launch.stop_run(copy)
    assert status.run_state(run) == "running"


def test_looking_never_keeps_a_daemon_from_its_run(run: Run) -> None:
    with daemon.daemon_session(run):
        assert daemon.is_held(run) is True
    assert daemon.is_held(run) is False
    with daemon.daemon_session(run):
        pass


def test_a_daemon_waits_for_who_is_looking(run: Run) -> None:
    run.lock_file.touch()
    looking = os.open(run.lock_file, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.1, os.close, [looking]).start()
    with daemon.daemon_session(run):
        assert daemon.is_held(run) is True


def test_a_file_system_without_locks(
    run: Run, process: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    move_the_clock(monkeypatch, DAY)
    assert daemon.is_held(run) is None
    assert status.run_state(run) == "running"
    process.kill()
    until(lambda: not status.is_alive(run))
    assert status.run_state(run) == "lost"


def written(run: Run, **changes: object) -> Run:
    """A run that says it is running, and a ``daemon.json`` of this process but for ``changes``."""
    with StoreWriter(run.database) as writer:
        writer.start_run(run.name, "numberline", "tiny", "{}", 0)
        writer.set_status("running")
    daemon.write_info(run)
    document = {**json.loads(run.daemon_file.read_text()), **changes}
    run.daemon_file.write_text(json.dumps({key: value for key, value in document.items() if value != ...}))
    return run


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "running"),
        ({"start_ticks": 1}, "lost"),  # a reused pid
        ({"boot_id": "11111111-2222-3333-4444-555555555555"}, "lost"),  # of an earlier boot
        ({"create_time": 1.0}, "running"),  # the clock was set: ticks tell
        ({"boot_id": ..., "start_ticks": ..., "resumed_end": ...}, "running"),  # of an earlier version
        ({"boot_id": ..., "start_ticks": ..., "resumed_end": ..., "create_time": 1.0}, "lost"),
        ({"boot_id": None, "start_ticks": None}, "running"),  # a system that has neither
        ({"pid": 2**70}, "lost"),
        ({"pid": "?"}, "lost"),
    ],
)
def test_which_process_wrote_it(run: Run, changes: dict[str, object], state: str) -> None:
    assert status.run_state(written(run, **changes)) == state


def test_a_zombie_is_no_process(run: Run) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    ticks = daemon.start_ticks(child.pid)
    assert ticks is not None
    assert status.run_state(written(run, pid=child.pid, start_ticks=ticks)) == "lost"
    child.wait()


@pytest.mark.parametrize(("age", "state"), [(0.0, "running"), (100.0, "lost"), (-100.0, "running")])
def test_on_another_host_the_heartbeat_decides(run: Run, age: float, state: str) -> None:
    written(run, host="elsewhere", boot_id="11111111-2222-3333-4444-555555555555")
    with sqlite3.connect(run.database) as connection:
        connection.execute("UPDATE run SET heartbeat_at = ?", (time.time() - age,))
    connection.close()
    assert status.run_state(run) == state
    if state == "running":
        with pytest.raises(UsageError, match="runs on host elsewhere"):
            launch.stop_run(run)


def test_on_another_host_a_held_lock_is_alive(run: Run, process: psutil.Process) -> None:
    document = json.loads(run.daemon_file.read_text())
    other = {"host": "elsewhere", "boot_id": "11111111-2222-3333-4444-555555555555"}
    run.daemon_file.write_text(json.dumps({**document, **other}))
    process.suspend()  # so that its heartbeat stands still
    with sqlite3.connect(run.database) as connection:
        connection.execute("UPDATE run SET heartbeat_at = heartbeat_at - 1000")
    connection.close()
    assert status.run_state(run) == "running"
    with pytest.raises(UsageError, match="runs on host elsewhere"):
        launch.stop_run(run)


@pytest.mark.parametrize(("moved", "state"), [(-3600.0, "lost"), (3600.0, "lost"), (0.0, "starting")])
def test_a_folder_from_the_future_is_not_starting_for_hours(run: Run, moved: float, state: str) -> None:
    at = time.time() + moved
    os.utime(run.config_file, (at, at))
    assert status.run_state(run) == state


def test_a_heartbeat_is_silent_by_a_clock_that_nobody_sets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written(run)
    row = row_of(run)
    beats, now = status.Heartbeats(), 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert not beats.is_silent(run, row)
    move_the_clock(monkeypatch, DAY)
    assert not beats.is_silent(run, row)
    now += status.STALE_SECONDS + 1
    assert beats.is_silent(run, row)
    with StoreWriter(run.database) as writer:
        writer.set_status("running")
    assert not beats.is_silent(run, row_of(run))
