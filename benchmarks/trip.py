"""How far a new reader walks: the modules that one command goes through, found by running it.

    python benchmarks/trip.py                       # vlmagent train numberline, up to the first row of ``transitions``
    python benchmarks/trip.py --command eval        # vlmagent eval numberline --baseline expert, to its end
    python benchmarks/trip.py --root DIR --json     # another tree of the program, such as an older one

Every process of the program runs under a profile hook that notes each of its functions that is entered. Counted are
modules with such a function, in the order in which a reader meets them, and climbs: calls from a module to one of a
higher row of the tree's own list (callbacks, mostly), which a reader cannot follow by reading downward. What runs while
a module is imported counts as neither, nor do environments. Modules are told by their files: nothing of the tree is
imported here, so that it may be laid out in any way.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import inspect
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import psutil

RECIPE = {
    "model.tiny.vision_width": 32,
    "model.tiny.vision_layers": 1,
    "model.tiny.width": 32,
    "model.tiny.layers": 1,
    "model.tiny.heads": 2,
    "model.tiny.vision_heads": 2,
    "model.value_head": "[16]",
    "model.threads": 1,
    "sft.corpus_samples": 64,
    "sft.samples": 32,
    "sft.batch_size": 16,
    "rollout.num_envs": 4,
    "rollout.max_new_tokens": 16,
    "ppo.env_steps": 4096,
    "ppo.steps_per_update": 4096,
}
"""NumberLine in seconds; the first update is never reached."""
EPISODES = 4
LONGEST_WAIT = 600.0
ROWS_STAND_IN = (("tests/code_map.py", "ROWS"), ("tests/test_imports.py", "LAYERS"))
"""Where a tree says which folder or module stands above which: the present place first, then that of older trees."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A function entered: when (unix nanoseconds), by which process, what called it within the program."""

    at: int
    process: str
    module: str
    function: str
    caller: str


# In a process of the program


def follow() -> None:
    """Note what this process enters, if it is one of the program's; called before its first line."""
    if sys.orig_argv[1:3] != ["-m", "vlmagent"]:
        return
    process = "daemon" if sys.orig_argv[3:4] == ["_daemon"] else "command"
    notes = Path(os.environ["TRIP_NOTES"]) / f"{process}-{os.getpid()}.jsonl"
    Hook(Path(os.environ["TRIP_ROOT"]), notes).start()


class Hook:
    """A profile function for every thread of the process; writes one line for each function entered.

    Args:
        root: the tree; its package is below it.
        notes: the file that is written.
    """

    def __init__(self, root: Path, notes: Path) -> None:
        self.package = root / "vlmagent"
        self.file = notes.open("w", buffering=1)
        self.known: dict[CodeType, str | None] = {}
        self.thread = threading.local()

    def start(self) -> None:
        """In this thread, and in each that begins later."""
        threading.setprofile(self.look)
        sys.setprofile(self.look)

    def module_of(self, code: CodeType) -> str | None:
        """The module that a piece of code stands in, None outside the package."""
        if code not in self.known:
            inside = code.co_filename.startswith(f"{self.package}{os.sep}")
            parts = Path(code.co_filename).relative_to(self.package).with_suffix("").parts if inside else ()
            self.known[code] = ".".join(parts) if inside else None
        return self.known[code]

    def look(self, frame: FrameType, event: str, _: Any) -> None:
        """Python calls this at each call and return."""
        if event not in ("call", "return"):
            return
        code = frame.f_code
        module = self.module_of(code)
        if module is None:
            return
        if code.co_name == "<module>" and module != "__main__":
            self.thread.importing = getattr(self.thread, "importing", 0) + (1 if event == "call" else -1)
            return
        # the body of a class is no function, that of the program itself is where a reader begins
        entered = event == "call" and (code.co_flags & inspect.CO_OPTIMIZED or module == "__main__")
        if entered and not getattr(self.thread, "importing", 0):
            self.note(module, code.co_qualname, self.caller(frame))

    def caller(self, frame: FrameType) -> str:
        """The module of the nearest frame of ours below this one, "" for a thread's first."""
        below = frame.f_back
        while below is not None:
            module = self.module_of(below.f_code)
            if module is not None:
                return module
            below = below.f_back
        return ""

    def note(self, module: str, function: str, caller: str) -> None:
        """One line: a process that is killed leaves all but its last."""
        line = json.dumps([time.time_ns(), module, function, caller])
        self.file.write(f"{line}\n")


# Around it


@dataclass(frozen=True, slots=True)
class Step:
    """A module on the way: the function by which it was first entered, and from where."""

    process: str
    module: str
    function: str
    caller: str


@dataclass(frozen=True, slots=True)
class Trip:
    """What a command went through.

    Attributes:
        modules: how many distinct ones, by process and ``together``.
        rooms: how many folders and single modules directly below the package they lie in, likewise.
        climbs: calls to a higher row, by process and ``together``.
        pairs: caller and callee of the climbs, with their number, the most frequent first.
        steps: the modules in the order in which each process first entered them.
        seconds: from the command's start to the end of the trip, under the hook.
    """

    command: str
    root: str
    rows: int
    modules: dict[str, int]
    rooms: dict[str, int]
    climbs: dict[str, int]
    pairs: list[tuple[str, str, int]]
    steps: list[Step]
    seconds: float


def rows_of(root: Path) -> list[frozenset[str]]:
    """The tree's rows from the top down, evaluated without importing the file they stand in."""
    for file, name in ROWS_STAND_IN:
        if not (root / file).is_file():
            continue
        for node in ast.parse((root / file).read_text(encoding="utf-8")).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and target.id == name:
                value = ast.Expression(getattr(node, "value"))  # noqa: B009  (either kind of assignment)
                return [frozenset(row) for row in eval(compile(value, file, "eval"))]
    places = " or ".join(f"{name} in {file}" for file, name in ROWS_STAND_IN)
    raise SystemExit(f"{root} does not say which folder stands above which: it has no {places}.")


def read_notes(notes: Path, until: int | None) -> list[Entry]:
    """Everything noted up to a moment, in order; a line that is still being written is left out."""
    found = []
    for file in notes.glob("*.jsonl"):
        process = file.name.split("-")[0]
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                at, module, function, caller = json.loads(line)
                if until is None or at <= until:
                    found.append(Entry(at, process, module, function, caller))
    return sorted(found, key=lambda entry: entry.at)


def summary(command: str, root: Path, entries: Sequence[Entry], rows: Sequence[frozenset[str]]) -> Trip:
    """Modules and climbs of what was noted."""
    level = {room: number for number, row in enumerate(rows) for room in row}

    def above(entry: Entry) -> bool:
        called, caller = (level.get(module.split(".")[0]) for module in (entry.module, entry.caller))
        return called is not None and caller is not None and called < caller

    climbing = [entry for entry in entries if entry.caller and above(entry)]
    first: dict[tuple[str, str], Step] = {}
    for entry in entries:
        step = Step(entry.process, entry.module, entry.function, entry.caller)
        first.setdefault((entry.process, entry.module), step)
    groups = {process: [key for key in first if key[0] == process] for process in processes_of(entries)}
    groups["together"] = list(first)
    modules = {name: {module for _, module in keys} for name, keys in groups.items()}
    climbs = {process: sum(entry.process == process for entry in climbing) for process in groups}
    pairs = Counter((entry.caller, entry.module) for entry in climbing)
    return Trip(
        command=command,
        root=str(root),
        rows=len(rows),
        modules={name: len(found) for name, found in modules.items()},
        rooms={name: len({module.split(".")[0] for module in found}) for name, found in modules.items()},
        climbs=climbs | {"together": len(climbing)},
        pairs=[(*pair, count) for pair, count in pairs.most_common()],
        steps=list(first.values()),
        seconds=(entries[-1].at - entries[0].at) / 1e9,
    )


def processes_of(entries: Sequence[Entry]) -> list[str]:
    """The processes that noted something, by name: the command before the daemon."""
    return sorted({entry.process for entry in entries})


def environment(root: Path, folder: Path) -> dict[str, str]:
    """Variables for the program's processes: this tree, folders of their own, the hook before everything else."""
    hooks = folder / "hooks"
    hooks.mkdir()
    loader = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('trip', {str(Path(__file__).resolve())!r})\n"
        "sys.modules['trip'] = trip = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(trip)\n"
        "trip.follow()\n"
    )
    (hooks / "sitecustomize.py").write_text(loader)  # Python imports it before anything of the program
    notes = folder / "notes"
    notes.mkdir()
    added = {
        "PYTHONPATH": os.pathsep.join(map(str, (hooks, root, root / "envs"))),
        "TRIP_ROOT": str(root),
        "TRIP_NOTES": str(notes),
        "VLMAGENT_RUNS": str(folder / "runs"),
        "VLMAGENT_CACHE": str(folder / "cache"),
    }
    return {**os.environ, **added}


def start(arguments: Sequence[str], folder: Path, variables: dict[str, str]) -> None:
    """Run the program to its end; its errors are shown."""
    command = [sys.executable, "-m", "vlmagent", *arguments]
    ended = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"vlmagent {' '.join(arguments)} ended with {ended.returncode}:\n{ended.stderr}")


def train(root: Path, folder: Path) -> list[Entry]:
    """From ``vlmagent train numberline`` to the first row of ``transitions``."""
    run, variables = folder / "run", environment(root, folder)
    overrides = [word for key, value in RECIPE.items() for word in ("--set", f"{key}={value}")]
    start(["train", "numberline", "--detach", "--run-dir", str(run), *overrides], folder, variables)
    daemon = psutil.Process(json.loads((run / "daemon.json").read_text())["pid"])
    try:
        until = first_row(run, daemon)
    finally:
        end(daemon)
    return read_notes(folder / "notes", until)


def first_row(run: Path, daemon: psutil.Process) -> int:
    """Wait for it; returns when it was seen, in unix nanoseconds."""
    deadline = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(sqlite3.Error),  # not there yet, or without tables
            contextlib.closing(sqlite3.connect(f"file:{run / 'run.db'}?mode=ro", uri=True)) as database,
        ):
            if database.execute("SELECT 1 FROM transitions LIMIT 1").fetchone():
                return time.time_ns()
        if not alive(daemon):
            raise SystemExit(f"The training ended before its first row:\n{(run / 'log.txt').read_text()}")
        time.sleep(0.002)
    raise SystemExit(f"There was no row after {LONGEST_WAIT:g} s:\n{(run / 'log.txt').read_text()}")


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that ended and was not asked how does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end(process: psutil.Process) -> None:
    """Have it stop; what it would save is of no use."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)
    while alive(process):
        time.sleep(0.01)


def evaluate(root: Path, folder: Path) -> list[Entry]:
    """All of ``vlmagent eval numberline --baseline expert``."""
    arguments = ["eval", "numberline", "--baseline", "expert", "--episodes", str(EPISODES), "--json"]
    start(arguments, folder, environment(root, folder))
    return read_notes(folder / "notes", None)


COMMANDS = {"train": train, "eval": evaluate}
TITLES = {
    "train": "vlmagent train numberline, up to the first row of transitions",
    "eval": f"vlmagent eval numberline --baseline expert --episodes {EPISODES}",
}


def show(trip: Trip) -> None:
    """The trip for people."""
    print(
        f"{TITLES[trip.command]}\ntree {trip.root}, {trip.rows} rows, {trip.seconds:.1f} s under the hook\n"
    )
    print(f"{'':<12}{'modules':>9}{'rooms':>9}{'climbs':>9}")
    for name, count in trip.modules.items():
        print(f"{name:<12}{count:>9}{trip.rooms[name]:>9}{trip.climbs[name]:>9}")
    for caller, callee, count in trip.pairs:
        print(f"    {caller} calls up to {callee}: {count}")
    print(f"\n{'':>4}{'process':<9}{'module':<40}first entered in")
    for number, step in enumerate(trip.steps, 1):
        print(f"{number:>3} {step.process:<9}{step.module:<40}{step.function}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--command", choices=COMMANDS, default="train", help="which trip")
    own = Path(__file__).resolve().parents[1]
    parser.add_argument("--root", type=Path, default=own, help="the tree; this one if not given")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    if not (root / "vlmagent" / "__main__.py").is_file():
        parser.error(f"--root {arguments.root} holds no vlmagent/__main__.py")
    rows, folder = rows_of(root), Path(tempfile.mkdtemp(prefix="trip-"))
    try:
        trip = summary(arguments.command, root, COMMANDS[arguments.command](root, folder), rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        print(json.dumps(asdict(trip), indent=2))
    else:
        show(trip)


if __name__ == "__main__":
    main()
