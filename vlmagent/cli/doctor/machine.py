"""Checks of the machine: cores and memory, GPUs and whether torch can use them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vlmagent.cli.doctor import installed
from vlmagent.cli.doctor.findings import Finding, State
from vlmagent.training.plan.hardware import GIB, Gpu

AREA = "Machine"
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""
LITTLE_MEMORY = GIB
TORCH_SECONDS = 60.0
"""How long loading torch may take: two seconds when idle, far more from a cold or busy disk."""
_SMI = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
_SMI_SECONDS = 10.0
_found = partial(Finding, AREA)


def check_processor() -> Iterator[Finding]:
    """Cores and memory, those of the container where it has fewer."""
    import psutil

    from vlmagent.training.plan.hardware import usable_cores

    cores = usable_cores()
    quota = _cpu_quota()  # the kernel shows a container all cores and lets it use a part of their time
    text = f"{cores} core{'s' * (cores != 1)}"
    if quota is not None and quota < cores:
        todo = f"Give runs as many threads: --set model.threads={max(1, int(quota))}"
        yield _found("Processor", State.NOTE, f"{text}, but this container may use {quota:g} of them", todo)
    else:
        yield _found("Processor", State.OK, text)
    memory = psutil.virtual_memory()
    limit = _cgroup("memory.max")
    # without a limit the file says "max", and psutil always tells of the whole machine
    total = min(memory.total, int(limit[0])) if limit and limit[0].isdigit() else memory.total
    free = min(memory.available, total)
    text = f"{total / GIB:.1f} GiB, {free / GIB:.1f} free"
    if free < LITTLE_MEMORY:
        todo = "Close other programs, or stop a run: vlmagent runs stop"
        yield _found("Memory", State.NOTE, f"{text}: the built-in model needs about 1", todo)
    else:
        yield _found("Memory", State.OK, text)


def _cpu_quota() -> float | None:
    """Cores that the container may keep busy; None without a limit."""
    # "QUOTA PERIOD" in microseconds, or "max PERIOD" without a limit (cgroup v2)
    words = _cgroup("cpu.max")
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdigit() else None


def _cgroup(name: str) -> list[str]:
    try:
        return (CGROUP / name).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        # no such file: no container, cgroup v1, or another system
        return []


# What torch sees


@dataclass(frozen=True, slots=True)
class TorchView:
    """What torch says of itself and of this machine.

    Attributes:
        cuda: the version of CUDA it was built for, None for a build without.
        hip: the same for AMD's ROCm.
        gpus: those it can use.
        warning: what it complained of while looking for them.
    """

    version: str
    cuda: str | None
    hip: str | None
    gpus: tuple[Gpu, ...]
    warning: str = ""


class TorchError(RuntimeError):
    """Torch could not be loaded; the message says why."""


def ask(module: str) -> dict[str, Any]:
    """What a module prints as one line of JSON that loads torch in a process of its own, which may die or hang.

    Raises:
        TorchError: the process failed.
        TimeoutExpired: it took too long.
    """
    # -m with this very Python: the packages of this environment are what is asked about
    done = subprocess.run(
        [sys.executable, "-m", module], capture_output=True, text=True, errors="replace", timeout=TORCH_SECONDS,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"the process ended with code {done.returncode}"]
        raise TorchError(lines[-1])
    # the last line: libraries may print before it
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def ask_torch() -> TorchView:
    """Let torch look at this machine, elsewhere (see ``ask``).

    Raises:
        TorchError: it cannot be loaded.
        TimeoutExpired: it took too long.
    """
    told = ask("vlmagent.cli.doctor.probe")
    gpus = tuple(Gpu(**gpu) for gpu in told.pop("gpus"))
    return TorchView(gpus=gpus, **told)


def ask_driver() -> list[str] | str | None:
    """The GPUs that ``nvidia-smi`` lists, with their driver's version; its complaint; None where there is no such
    program.
    """
    try:
        done = subprocess.run(
            _SMI, capture_output=True, text=True, errors="replace", timeout=_SMI_SECONDS, stdin=subprocess.DEVNULL
        )  # fmt: skip
    except OSError:
        # no such program: not necessarily no GPU, but none of NVIDIA's that could be used
        return None
    except subprocess.TimeoutExpired:
        return f"no answer within {_SMI_SECONDS:g} s"
    said = done.stdout.strip() or done.stderr.strip()
    if done.returncode:
        return said.splitlines()[0] if said else f"it ended with code {done.returncode}"
    # "NAME, VERSION" becomes "NAME (driver VERSION)"
    return [line.replace(", ", " (driver ", 1) + ")" for line in done.stdout.splitlines() if ", " in line]


def check_gpu() -> Iterator[Finding]:
    """Whether there is a GPU, and whether torch can use it."""
    driver = ask_driver()
    try:
        torch = ask_torch()
    except TorchError as error:
        if installed.is_absent("torch"):  # which has a line of its own
            yield _found("GPU", State.NOTE, "Not known without torch.")
        else:
            todo = f"{installed.installer()} --force-reinstall {_torch_range()}"
            yield _found("torch", State.PROBLEM, f"It cannot be loaded: {error}", todo, essential=True)
        return
    except subprocess.TimeoutExpired:
        todo = "Try again when the machine is idle."
        yield _found("GPU", State.NOTE, f"Not known: loading torch took over {TORCH_SECONDS:g} s.", todo)
        return
    # torch decides: a driver alone does not train
    yield from _usable(torch, driver) if torch.gpus else _unusable(torch, driver)


def _torch_range() -> str:
    named = (one for one in installed.wanted().packages if one.name == "torch")
    return next((f"'torch{one.specifier}'" for one in named), "torch")


def _usable(torch: TorchView, driver: list[str] | str | None) -> Iterator[Finding]:
    """One line for each kind of GPU; another when some are hidden from torch."""
    # equal ones are counted, since machines with eight of a kind are common
    for gpu, count in Counter(torch.gpus).items():
        text = f"{gpu.name}, {gpu.memory / GIB:.0f} GiB"
        text = f"{count} x {text} each" if count > 1 else text
        if gpu.bf16:
            yield _found("GPU", State.OK, f"{text}, with bfloat16")
        else:
            todo = "Large models: --set model.dtype=float32, or a newer GPU"
            yield _found("GPU", State.NOTE, f"{text}, without bfloat16 of its own", todo)
    if isinstance(driver, list) and len(driver) > len(torch.gpus):
        text = f"nvidia-smi lists {len(driver)}, torch sees {len(torch.gpus)}."
        yield _found("GPUs", State.NOTE, text, _unhide())


def _unhide() -> str:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if hidden is None else f"CUDA_VISIBLE_DEVICES='{hidden}' hides some: unset it to use all."


def _unusable(torch: TorchView, driver: list[str] | str | None) -> Iterator[Finding]:
    """Why the processor is all there is."""
    # below: a driver that fails, GPUs that torch does not use, a build that finds no driver, and nothing at all
    build = ""
    if torch.cuda:
        build = f"CUDA {torch.cuda}"
    elif torch.hip:
        build = f"ROCm {torch.hip}"
    if isinstance(driver, str):
        todo = "Repair NVIDIA's driver (after an update of it: restart the machine)."
        yield _found("GPU", State.PROBLEM, f"nvidia-smi fails, so runs use the processor: {driver}", todo)
    elif driver:
        yield _found("GPU", State.PROBLEM, *_why_unused(torch, build, driver))
    elif build:
        text = f"None. torch {torch.version} is built for {build}, but there is no driver: runs use the processor."
        yield _found("GPU", State.NOTE, text, "If this machine has a GPU, install its driver.")
    else:
        text = f"None. Runs use the processor; torch {torch.version} is built for it."
        yield _found("GPU", State.OK, text)


def _why_unused(torch: TorchView, build: str, driver: list[str]) -> tuple[str, str]:
    """Why torch does not use the GPUs that are there, and what to do."""
    here = f"{', '.join(driver)} is here, but"
    if not build:
        todo = (
            f"{installed.installer()} --force-reinstall {_torch_range()} (Linux; "
            "other systems: https://pytorch.org/get-started/locally)"
        )
        return f"{here} torch {torch.version} is built without CUDA: runs use the processor.", todo
    if (hidden := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return f"{here} CUDA_VISIBLE_DEVICES='{hidden}' hides it from torch.", "unset CUDA_VISIBLE_DEVICES"
    why = torch.warning or "it does not say why."
    todo = "Update the driver, or install a torch for its version of CUDA: https://pytorch.org/get-started/locally"
    return f"{here} torch {torch.version} ({build}) cannot use it: {why}", todo
