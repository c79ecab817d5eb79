"""Which processes on which machines: what ``--gpus``, ``--processes`` and ``--hostfile`` mean, checked before a start.

Imports torch only to count GPUs.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from vlmagent.config import Config
from vlmagent.errors import UsageError
from vlmagent.training.distributed.zero_config import read_zero_config

# `HOST slots=N`, one machine a line, as DeepSpeed's launcher reads it
LINE = re.compile(r"(?P<host>\S+)\s+slots=(?P<slots>\d+)")
INSTALL = "pip install 'vlmagent[deepspeed]'"


def distributed_overrides(
    gpus: int | None,
    processes: int | None,
    hostfile: Path | None,
    deepspeed: str | None,
    *,
    must_exist: bool = True,
) -> list[str]:
    """The options of ``train`` as ``--set`` pairs.

    Args:
        must_exist: whether this machine has to have the GPUs.

    Raises:
        UsageError: they contradict each other, or the machine has fewer GPUs.
    """
    given = [
        name
        for name, value in (("--gpus", gpus), ("--processes", processes), ("--hostfile", hostfile))
        if value is not None
    ]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other: give one of them.")
    pairs = [] if deepspeed is None else [f"distributed.deepspeed={_absolute(deepspeed)}"]
    # hostfile=null: the recipe may name one, whose machines would be started instead
    if gpus is not None:
        if must_exist:
            _check_gpus(gpus)
        pairs += [f"distributed.processes={gpus}", "distributed.hostfile=null", "model.device=cuda"]
    if processes is not None:
        pairs += [f"distributed.processes={processes}", "distributed.hostfile=null", "model.device=cpu"]
    if hostfile is not None:
        slots = sum(read_hostfile(hostfile).values())
        pairs += [f"distributed.processes={slots}", f"distributed.hostfile={hostfile.resolve()}"]
    return pairs


def _absolute(deepspeed: str) -> str:
    """A path means the same for a process elsewhere; a shipped name stays a name."""
    return str(Path(deepspeed).resolve()) if Path(deepspeed).is_file() else deepspeed


def _check_gpus(wanted: int) -> None:
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted > found:
        raise UsageError(
            f"--gpus {wanted}, but torch sees {found} here. --processes {wanted} trains in that many on the CPU."
        )


def read_hostfile(path: Path) -> dict[str, int]:
    """Processes by machine, from a file in DeepSpeed's form.

    Raises:
        UsageError: it cannot be read, or a line is not ``HOST slots=N``.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The hostfile {path} could not be read: {error}") from None
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        # `#` begins a comment, as in DeepSpeed's own files
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = LINE.fullmatch(text)
        if match is None or match["host"] in found or not int(match["slots"]):
            raise UsageError(
                f"{path}:{number} says '{text}', but should name a machine that was not named before, as in "
                "'node1 slots=8'."
            )
        found[match["host"]] = int(match["slots"])
    if not found:
        raise UsageError(f"The hostfile {path} names no machine. Write a line 'HOST slots=N' for each.")
    return found


def check_distributed(config: Config) -> None:
    """Refuse what several processes would fail at only after they were started.

    Raises:
        UsageError: DeepSpeed is not installed, or its configuration or the hostfile cannot be used.
    """
    wanted = config.distributed
    if wanted.processes == 1:
        return
    if importlib.util.find_spec("deepspeed") is None:
        raise UsageError(
            f"Training in {wanted.processes} processes needs DeepSpeed, which is not installed: {INSTALL}"
        )
    read_zero_config(wanted.deepspeed)
    if wanted.hostfile is not None:
        slots = sum(read_hostfile(Path(wanted.hostfile)).values())
        if slots != wanted.processes:
            raise UsageError(
                f"The hostfile {wanted.hostfile} has {slots} slots, but distributed.processes = {wanted.processes}. "
                "Give --hostfile again."
            )
