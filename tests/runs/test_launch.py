import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from vlmagent.config import Config, load_config
from vlmagent.errors import RunFailedError, UsageError, VlmAgentError
from vlmagent.paths import Run
from vlmagent.runs import daemon, export, launch
from vlmagent.runs import folders as runs_folders
from vlmagent.runs import status as runs_status
from vlmagent.store.reader import StoreReader
from vlmagent.store.writer import StoreWriter

DAEMON = """
import sys
from pathlib import Path
from vlmagent.paths import Run
from vlmagent.runs.daemon import daemon_session
from vlmagent.errors import VlmAgentError
from vlmagent.store.writer import StoreWriter
run = Run(Path(sys.argv[1]))
try:
    with daemon_session(run) as stop, StoreWriter(run.database) as writer:
        writer.start_run(run.name, "numberline", "tiny", "{}", 0)
        writer.set_status("running")
        writer.flush()
        print("ready", flush=True)
        stop.wait(120)
        writer.set_status("stopped")
        print("ended", flush=True)
except VlmAgentError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""
CONFIG = Config(task="numberline")


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLMAGENT_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def start() -> Iterator[Callable[..., int]]:
    pids: list[int] = []

    def begin(run: Run, code: str = DAEMON) -> int:
        pids.append(launch.start_daemon(run, [sys.executable, "-c", code, str(run)]))
        until(lambda: "ready" in run.log.read_text())
        return pids[-1]

    yield begin
    for child in launch._children:
        if child.poll() is None:
            child.kill()
            child.wait()


def finished(run: Run, status: str = "done") -> Run:
    with StoreWriter(run.database) as writer:
        writer.start_run(run.name, "numberline", "tiny", "{}", 0)
        writer.set_status(status)  # type: ignore[arg-type]
    return run


# folders


def test_create_and_resolve(runs: Path) -> None:
    run = runs_folders.create_run(CONFIG)
    assert run.path.parent == runs.resolve()
    assert run.name.endswith("-numberline")
    assert load_config(run.config_file) == CONFIG
    second = runs_folders.create_run(CONFIG)
    assert second != run
    for name in (str(run), run.name, run.config_file):
        assert runs_folders.resolve_run(name) == run
    with pytest.raises(UsageError, match="several runs"):
        runs_folders.resolve_run(run.name[:8])


def test_many_at_once_get_folders_of_their_own() -> None:
    made: list[Run] = []
    threads = [
        threading.Thread(target=lambda: made.append(runs_folders.create_run(CONFIG))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 16


def test_tasks_of_other_packages_make_plain_names() -> None:
    run = runs_folders.create_run(Config(task="some.module:Env/Name-v0"))
    assert run.name.endswith("-some.module-Env-Name-v0")


def test_an_explicit_folder(tmp_path: Path) -> None:
    run = runs_folders.create_run(CONFIG, tmp_path / "deep" / "er")
    assert run.config_file.is_file()
    with pytest.raises(UsageError, match="--resume"):
        runs_folders.create_run(CONFIG, run.path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        runs_folders.create_run(CONFIG, tmp_path / "mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        runs_folders.create_run(CONFIG, tmp_path / "mine" / "thesis.tex")
    with pytest.raises(UsageError, match="could not be written"):
        runs_folders.create_run(CONFIG, tmp_path / "mine" / "thesis.tex" / "below")


def test_latest_follows_and_survives_a_dangling_link(runs: Path) -> None:
    with pytest.raises(UsageError, match="no run under"):
        runs_folders.resolve_run()
    first, second = runs_folders.create_run(CONFIG), runs_folders.create_run(CONFIG)
    for run in (second, first):
        with daemon.daemon_session(run):
            pass
        for name in (None, "latest", "runs/latest", str(runs / "latest")):
            assert runs_folders.resolve_run(name) == run
    (runs / "latest").unlink()
    (runs / "latest").symlink_to("gone")
    assert runs_folders.resolve_run() in (first, second)


def test_a_suffix_and_a_changed_config() -> None:
    run = runs_folders.create_run(CONFIG, suffix="-sft")
    assert run.name.endswith("-numberline-sft")
    assert launch.update_config(run, []) == CONFIG
    changed = launch.update_config(run, ["ppo.env_steps=30000"])
    assert changed.ppo.env_steps == 30000
    assert load_config(run.config_file) == changed
    with pytest.raises(UsageError, match="Unknown key"):
        launch.update_config(run, ["ppo.envsteps=30000"])
    with daemon.daemon_session(run), pytest.raises(UsageError, match="already being trained"):
        launch.update_config(run, ["seed=1"])
    assert load_config(run.config_file) == changed


def test_names_that_are_no_run(tmp_path: Path) -> None:
    run = runs_folders.create_run(CONFIG)
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match=r"neither config.yaml nor run.db.*Newest runs"):
        runs_folders.resolve_run(str(tmp_path / "other"))
    with pytest.raises(UsageError, match=f"Did you mean '{run.name}'"):
        runs_folders.resolve_run(run.name[:-1] + "x")
    with pytest.raises(UsageError, match="There is no run 'zzz'"):
        runs_folders.resolve_run("zzz")


def test_the_link_is_never_missing_while_daemons_race(runs: Path) -> None:
    folders = [runs_folders.create_run(CONFIG) for _ in range(4)]
    daemon._point_latest(folders[0])
    done = threading.Event()

    def point(run: Run) -> None:
        while not done.is_set():
            daemon._point_latest(run)

    threads = [threading.Thread(target=point, args=(run,)) for run in folders]
    for thread in threads:
        thread.start()
    seen = {(runs / "latest").resolve(strict=True) for _ in range(500)}
    done.set()
    for thread in threads:
        thread.join()
    assert seen <= {run.path for run in folders}
    assert not [entry for entry in runs.iterdir() if entry.name.startswith(".")]


# processes


def test_start_show_stop(start: Callable[..., int]) -> None:
    run = runs_folders.create_run(CONFIG)
    assert runs_status.run_state(run) == "starting"
    pid = start(run)
    assert runs_status.is_alive(run)
    assert runs_status.run_state(run) == "running"
    assert os.getsid(pid) == pid  # a session of its own: ctrl-c here does not reach it
    shown = runs_status.show_run(run)
    assert (shown["status"], shown["state"], shown["pid"], shown["env_steps"]) == (
        "running",
        "running",
        pid,
        0,
    )
    assert shown["path"] == str(run)
    assert shown["task"] == "numberline"
    json.dumps(shown)
    assert launch.stop_run(run, timeout=30) == "stopped"
    assert not runs_status.is_alive(run)
    with pytest.raises(UsageError, match="not running: it is stopped"):
        launch.stop_run(run)
    assert list(export.log_tail(run)) == ["ready", "ended"]
    assert list(export.log_tail(run, lines=1)) == ["ended"]


def test_two_daemons_on_one_folder(start: Callable[..., int]) -> None:
    run = runs_folders.create_run(CONFIG)
    pid = start(run)
    with pytest.raises(UsageError, match=f"process {pid}"):
        launch.start_daemon(run)
    with pytest.raises(UsageError, match=f"process {pid}"), daemon.daemon_session(run):
        pass
    second = subprocess.run(
        [sys.executable, "-c", DAEMON, str(run)], capture_output=True, text=True, check=False
    )
    assert second.returncode == 2
    assert f"process {pid}" in second.stderr
    assert runs_status.is_alive(run)


def test_two_runs_side_by_side(start: Callable[..., int]) -> None:
    one, two = runs_folders.create_run(CONFIG), runs_folders.create_run(CONFIG)
    assert start(one) != start(two)
    assert runs_folders.resolve_run() == two
    assert [row["state"] for row in runs_status.list_runs()] == ["running", "running"]


def test_ended_daemons_leave_no_zombies(start: Callable[..., int]) -> None:
    first = runs_folders.create_run(CONFIG)
    pid = start(first)
    launch.stop_run(first)
    start(runs_folders.create_run(CONFIG))
    assert not psutil.pid_exists(pid)


def test_killed_is_lost_and_can_start_again(start: Callable[..., int]) -> None:
    run = runs_folders.create_run(CONFIG)
    os.kill(start(run), signal.SIGKILL)
    until(lambda: runs_status.run_state(run) == "lost")
    with pytest.raises(UsageError, match=r"lost.*--resume"):
        launch.stop_run(run)
    run.log.write_text("")
    start(run)
    assert runs_status.run_state(run) == "running"


def test_a_reused_pid_is_not_the_daemon() -> None:
    run = finished(runs_folders.create_run(CONFIG), "running")
    info = {"pid": os.getpid(), "started": time.time(), "host": platform.node()}
    run.daemon_file.write_text(json.dumps({**info, "create_time": psutil.Process().create_time()}))
    assert runs_status.is_alive(run)
    run.daemon_file.write_text(json.dumps({**info, "create_time": 1.0}))
    assert not runs_status.is_alive(run)
    assert runs_status.run_state(run) == "lost"
    with pytest.raises(UsageError, match="lost"):
        launch.stop_run(run)


def test_a_run_of_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(runs_folders.create_run(CONFIG), "running")
    info = {"pid": os.getpid(), "started": time.time(), "host": "elsewhere", "create_time": 1.0}
    run.daemon_file.write_text(json.dumps(info))
    assert runs_status.run_state(run) == "running"
    with pytest.raises(UsageError, match="on host elsewhere"):
        launch.stop_run(run)
    monkeypatch.setattr(runs_status, "STALE_SECONDS", -1.0)
    assert runs_status.run_state(run) == "lost"


def test_a_daemon_that_dies_at_once_is_quoted() -> None:
    run = runs_folders.create_run(CONFIG)
    with pytest.raises(RunFailedError, match="the reason"):
        launch.start_daemon(run, [sys.executable, "-c", "raise SystemExit('the reason')"])
    with pytest.raises(UsageError, match="wrote nothing"):
        launch.start_daemon(run, [sys.executable, "-c", "raise SystemExit(2)"])


def test_a_daemon_that_never_begins_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "START_SECONDS", 0.3)
    run = runs_folders.create_run(CONFIG)
    with pytest.raises(RunFailedError, match="-9"):
        launch.start_daemon(run, [sys.executable, "-c", "import time; time.sleep(60)"])


def test_signals_only_set_the_event() -> None:
    run = runs_folders.create_run(CONFIG)
    before = signal.getsignal(signal.SIGINT)
    with daemon.daemon_session(run) as stop:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.wait(5)
    assert signal.getsignal(signal.SIGINT) is before
    with daemon.daemon_session(run):
        pass  # the lock was given back


def test_a_stop_that_takes_too_long(start: Callable[..., int]) -> None:
    run = runs_folders.create_run(CONFIG)
    start(run, DAEMON.replace("stop.wait(120)", "__import__('time').sleep(60)"))
    with pytest.raises(VlmAgentError, match="still finishing"):
        launch.stop_run(run, timeout=0.3)


# looking


def test_the_list_survives_anything(runs: Path) -> None:
    assert runs_status.list_runs() == []
    good = finished(runs_folders.create_run(CONFIG))
    young = runs_folders.create_run(CONFIG)
    for name, content in (("text", b"no database " * 100), ("empty", b"")):
        broken = Run(runs / name)
        broken.path.mkdir()
        broken.database.write_bytes(content)
    cut = Run(runs / "cut")
    cut.path.mkdir()
    cut.database.write_bytes(good.database.read_bytes()[:9000])
    (runs / "notes.txt").touch()
    (runs / "unrelated").mkdir()
    young.daemon_file.write_text("{")
    rows = {Path(row["path"]).name: row for row in runs_status.list_runs()}
    assert {name: row["state"] for name, row in rows.items()} == {
        good.name: "done", young.name: "starting", "text": "damaged", "empty": "starting", "cut": "damaged",
    }  # fmt: skip
    assert "not a SQLite database" in rows["text"]["error"]
    assert len({tuple(row) for row in rows.values()}) == 1  # the same keys everywhere
    json.dumps(list(rows.values()))


def test_following_the_log(start: Callable[..., int]) -> None:
    run = runs_folders.create_run(CONFIG)
    start(run)
    lines: list[str] = []
    thread = threading.Thread(target=lambda: lines.extend(export.log_tail(run, follow=True)))
    thread.start()
    launch.stop_run(run)
    thread.join(30)
    assert not thread.is_alive()
    assert lines == ["ready", "ended"]
    assert list(export.log_tail(runs_folders.create_run(CONFIG))) == []


def test_export_of_a_live_run(start: Callable[..., int], tmp_path: Path) -> None:
    run = runs_folders.create_run(CONFIG)
    start(run)
    for number in (1, 2):
        (run.checkpoints / f"step-{number}").mkdir(parents=True)
        for name in ("model", "trainer.json"):
            (run.checkpoints / f"step-{number}" / name).write_text(str(number))
    (run.checkpoints / "latest").symlink_to("step-2")
    run.evaluations.mkdir()
    StoreWriter(run.evaluations / "a.db").close()
    out = export.export_run(run, tmp_path / "copy").out
    assert (out / "checkpoints" / "latest" / "model").read_text() == "2"
    assert not (out / "checkpoints" / "step-1").exists()
    assert load_config(Run(out).config_file) == CONFIG
    for name in ("run.db", "evaluations/a.db"):
        with StoreReader(out / name) as reader:
            assert reader.env_steps() == 0
    assert runs_status.run_state(Run(out)) == "lost"  # can be resumed
    with pytest.raises(UsageError, match="already exists"):
        export.export_run(run, out)
    run.database.write_bytes(b"broken" * 1000)
    with pytest.raises(VlmAgentError):
        export.export_run(run, tmp_path / "copy2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "runs"]


def test_importing_is_cheap() -> None:
    code = (
        "import sys, vlmagent.runs.folders; "
        "print([m for m in ('sqlite_utils', 'torch', 'transformers', 'textual') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
