"""Cores, memory and GPUs, and every way in which torch does not get to a GPU."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from tests.cli.doctor.made import NOTE, OK, PROBLEM, only
from vlmagent.cli.doctor import installed, machine
from vlmagent.cli.doctor.findings import Finding
from vlmagent.training.plan.hardware import GIB, Gpu

CPU_TORCH = machine.TorchView("2.13.0+cpu", None, None, ())
CUDA_TORCH = machine.TorchView("2.13.0+cu130", "13.0", None, ())
H200 = Gpu("NVIDIA H200", 140 * GIB, bf16=True)


def gpu_findings(monkeypatch, torch, driver) -> list[Finding]:
    def ask_torch():
        if isinstance(torch, Exception):
            raise torch
        return torch

    monkeypatch.setattr(machine, "ask_torch", ask_torch)
    monkeypatch.setattr(machine, "ask_driver", lambda: driver)
    return list(machine.check_gpu())


def test_gpus_with_memory_and_bfloat16(monkeypatch):
    old = Gpu("Tesla T4", 15 * GIB, bf16=False)
    torch = machine.TorchView("2.13.0", "13.0", None, (H200, H200, old))
    found = gpu_findings(monkeypatch, torch, ["NVIDIA H200 (driver 580)"] * 2 + ["Tesla T4 (driver 580)"])
    assert [(one.state, one.text) for one in found] == [
        (OK, "2 x NVIDIA H200, 140 GiB each, with bfloat16"),
        (NOTE, "Tesla T4, 15 GiB, without bfloat16 of its own"),
    ]


def test_gpus_hidden_from_torch(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    torch = machine.TorchView("2.13.0", "13.0", None, (H200,))
    hidden = gpu_findings(monkeypatch, torch, ["NVIDIA H200 (driver 580)"] * 8)[-1]
    assert hidden.text == "nvidia-smi lists 8, torch sees 1."
    assert "CUDA_VISIBLE_DEVICES='0' hides some" in hidden.remedy


def test_a_gpu_and_a_torch_without_cuda(monkeypatch):
    (found,) = gpu_findings(monkeypatch, CPU_TORCH, ["NVIDIA H200 (driver 580.1)"])
    assert (found.state, found.essential) == (PROBLEM, False)
    assert found.text.startswith(
        "NVIDIA H200 (driver 580.1) is here, but torch 2.13.0+cpu is built without CUDA"
    )
    assert "install --force-reinstall 'torch<3,>=2.11'" in found.remedy


@pytest.mark.parametrize(
    ("hidden", "driver", "state", "text", "remedy"),
    [
        (
            None,
            None,
            NOTE,
            "None. torch 2.13.0+cu130 is built for CUDA 13.0, but there is no driver",
            "driver",
        ),
        (
            "",
            ["H200 (driver 580)"],
            PROBLEM,
            "CUDA_VISIBLE_DEVICES='' hides it",
            "unset CUDA_VISIBLE_DEVICES",
        ),
        (None, ["H200 (driver 470)"], PROBLEM, "(CUDA 13.0) cannot use it: it does not say why.", "driver"),
        (None, "No devices were found", PROBLEM, "nvidia-smi fails", "restart"),
    ],
)
def test_a_torch_with_cuda_that_sees_no_gpu(monkeypatch, hidden, driver, state, text, remedy):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    (found,) = gpu_findings(monkeypatch, CUDA_TORCH, driver)
    assert (found.state, found.essential) == (state, False)
    assert text in found.text
    assert remedy in found.remedy


def test_torchs_own_complaint_is_quoted(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    torch = machine.TorchView("2.13.0", "13.0", None, (), "The NVIDIA driver on your system is too old.")
    assert "too old" in gpu_findings(monkeypatch, torch, ["H200 (driver 470)"])[0].text


def test_no_gpu_at_all_is_in_order(monkeypatch):
    (found,) = gpu_findings(monkeypatch, CPU_TORCH, None)
    assert (found.state, found.remedy) == (OK, "")


def test_torch_that_cannot_be_loaded_is_essential(monkeypatch):
    error = machine.TorchError("OSError: libcudart.so.13: cannot open shared object file")
    (found,) = gpu_findings(monkeypatch, error, None)
    assert (found.name, found.state, found.essential) == ("torch", PROBLEM, True)
    assert "libcudart" in found.text
    monkeypatch.setattr(installed, "is_absent", lambda name: name == "torch")
    (absent,) = gpu_findings(monkeypatch, machine.TorchError("No module named 'torch'"), None)
    assert absent.state is NOTE  # the packages' line says it already
    (slow,) = gpu_findings(monkeypatch, subprocess.TimeoutExpired("python", 60), None)
    assert slow.state is NOTE


def test_torch_is_asked_in_a_process_of_its_own():
    view_ = machine.ask_torch()
    assert view_.version == metadata.version("torch")
    assert "torch" in sys.modules or not view_.gpus


def test_a_process_that_dies_tells_its_last_line(monkeypatch, tmp_path):
    broken = tmp_path / "torch"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('libtorch.so is damaged')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(machine.TorchError, match=r"ImportError: libtorch.so is damaged"):
        machine.ask_torch()
    (broken / "__init__.py").write_text("import os; os.abort()")
    with pytest.raises(machine.TorchError, match="ended with code -6"):
        machine.ask_torch()


@pytest.mark.parametrize(
    ("code", "stdout", "expected"),
    [
        (0, "NVIDIA H200, 580.1\nNVIDIA H200, 580.1\n", ["NVIDIA H200 (driver 580.1)"] * 2),
        (9, "NVIDIA-SMI has failed because it couldn't communicate\nmore", None),
    ],
)
def test_nvidia_smi_is_read(monkeypatch, code, stdout, expected):
    done = SimpleNamespace(returncode=code, stdout=stdout, stderr="")
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: done)
    assert machine.ask_driver() == (expected or "NVIDIA-SMI has failed because it couldn't communicate")


def test_nvidia_smi_absent_or_hanging(monkeypatch):
    def absent(*_, **__):
        raise FileNotFoundError

    def hanging(*_, **__):
        raise subprocess.TimeoutExpired("nvidia-smi", 10)

    monkeypatch.setattr(machine.subprocess, "run", absent)
    assert machine.ask_driver() is None
    monkeypatch.setattr(machine.subprocess, "run", hanging)
    assert machine.ask_driver() == "no answer within 10 s"


def test_the_limits_of_a_container_count(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr("vlmagent.training.plan.hardware.usable_cores", lambda: 64)
    assert only(machine.check_processor(), "Processor").text == "64 cores"
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    (tmp_path / "memory.max").write_text(f"{GIB // 2}\n")
    found = list(machine.check_processor())
    cores, memory = only(found, "Processor"), only(found, "Memory")
    assert cores.text == "64 cores, but this container may use 2.5 of them"
    assert cores.remedy.endswith("--set model.threads=2")
    assert (memory.state, memory.text) == (NOTE, "0.5 GiB, 0.5 free: the built-in model needs about 1")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert only(machine.check_processor(), "Processor").state is OK
