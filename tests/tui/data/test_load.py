import math
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlmagent.paths import Run
from vlmagent.runs import daemon
from vlmagent.runs.daemon import daemon_session, write_info
from vlmagent.tui.data import load
from vlmagent.tui.data.load import GpuLoad, GpuProbe, History, ProcessProbe, machine_load, parse_gpus


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "r").mkdir()
    return Run(tmp_path / "r")


def test_processes_of_a_run_and_what_they_started(run: Run) -> None:
    probe = ProcessProbe(run)
    code = "import sys; print(1, flush=True); sys.stdin.read()"
    with daemon_session(run):
        alone = probe.look()
        assert isinstance(alone, load.ProcessLoad)
        assert math.isnan(alone.cpu)
        assert alone.memory > 2**20
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with child:
            assert child.stdout
            child.stdout.readline()  # it is there
            began = time.process_time()
            while time.process_time() - began < 0.05:
                pass
            both = probe.look()
            assert isinstance(both, load.ProcessLoad)
            assert both.count == alone.count + 1
            assert both.cpu > 0
            child.communicate()


def test_why_there_is_no_load(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = ProcessProbe(run)
    assert probe.look() == "No process trains this run."
    write_info(run)
    monkeypatch.setattr(daemon, "start_ticks", lambda pid: 1)  # another process has the pid now
    assert probe.look() == "The process that trained this run is gone."
    run.daemon_file.write_text(run.daemon_file.read_text().replace(platform.node(), "elsewhere"))
    assert probe.look() == "This run was last trained on elsewhere, whose load is not seen from here."


def test_the_machine() -> None:
    found = machine_load()
    assert found.cores >= 1
    assert 0 < found.memory <= found.memory_total


def test_what_nvidia_smi_says() -> None:
    text = "0, 87, 1024, 81559\n1, [N/A], [Not Supported], 81559\nNo devices\n, 1, 2, 3\n2, nan, -1, 1e400\n"
    first, second, third = parse_gpus(text)
    assert first == GpuLoad("0", 0.87, 1024 * 2**20, 81559 * 2**20)
    assert math.isnan(second.busy)
    assert math.isnan(second.memory)
    assert all(math.isnan(value) for value in (third.busy, third.memory, third.memory_total))
    assert parse_gpus("Unable to determine the device handle: Unknown Error") == []


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """An ``nvidia-smi`` of our own."""
    file = folder / "nvidia-smi"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert not GpuProbe().is_due
    assert GpuProbe().look() == []
    monkeypatch.undo()
    program(tmp_path, monkeypatch, "echo 0, 50, 1, 2")
    probe = GpuProbe()
    assert [gpu.busy for gpu in probe.look()] == [0.5]
    assert probe.is_due


@pytest.mark.parametrize("script", ["exec sleep 60", "exit 9"])
def test_gpus_that_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(load, "GPU_SECONDS", 0.1)
    program(tmp_path, monkeypatch, script)
    probe = GpuProbe()
    assert probe.look() == []
    assert not probe.is_due


def test_the_last_minute_in_parts() -> None:
    history = History()
    history.add(0.1, 0.0)
    for now, value in ((50.0, 0.2), (95.0, 0.4), (105.0, 0.6), (109.9, math.nan), (110.0, 1.0)):
        history.add(value, now)
    found = history.spread(6)
    assert [value for value in found if not math.isnan(value)] == [0.4, pytest.approx(0.8)]
    assert [math.isnan(value) for value in found] == [True, True, True, True, False, False]
