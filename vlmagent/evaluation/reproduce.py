"""``vlmagent reproduce NAME``: trains and evaluates what a table or figure lacks, several at a time, then builds it.

Everything that is there already is taken as it is, so that an interrupted reproduction goes on where it stopped.
Training and evaluating happen in processes of their own. Never imports torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from vlmagent import paths
from vlmagent.config import Config, load_config
from vlmagent.errors import RunFailedError, UsageError, VlmAgentError
from vlmagent.evaluation.report.catalogue import (
    RL,
    Item,
    chosen_tasks,
    expected_config,
    folder_name,
    same_study,
)
from vlmagent.evaluation.report.collect import Options, conditions
from vlmagent.evaluation.report.runs import REPRODUCED, Library, complete
from vlmagent.evaluation.report.sources import Conditions, RunSource, evaluated
from vlmagent.evaluation.systems import temperature_of
from vlmagent.paths import Run
from vlmagent.runs import folders, launch, status
from vlmagent.runs.threads import WAITING
from vlmagent.text import command
from vlmagent.training.plan.hardware import usable_cores

# seconds between looks; ctrl-c is noticed as quickly
POLL_SECONDS = 0.5
# of a failed command's words
QUOTED_LINES = 5


class CancelledError(Exception):
    """The caller asked to stop."""


@dataclass(frozen=True, slots=True)
class Work:
    """One run to be made or completed, or the baselines of a task.

    Attributes:
        run: where; None for baselines.
        train: whether it has to be trained (further).
        checkpoints: those that have to be evaluated.
        baselines: systems to be evaluated without a run.
    """

    title: str
    config: Config
    conditions: Conditions
    run: Run | None = None
    train: bool = False
    checkpoints: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()


def plan(item: Item, options: Options, library: Library | None = None) -> list[Work]:
    """What is missing, in the order in which it should be made: seed by seed, so that early results show everything.

    Raises:
        UsageError: a folder that would be used holds a run of another recipe.
    """
    library = library or Library(options.records)
    works: dict[Run, Work] = {}
    baselines: list[Work] = []
    tasks = chosen_tasks(item, options.tasks)
    for task in tasks:
        reference = expected_config(task, RL, 0, options.overrides)
        if reference is not None and item.baselines:
            wanted = conditions(reference, options)
            known = library.baselines(reference, wanted)
            names = tuple(name for name in item.baselines if name not in known)
            if names:
                title = f"{task}: {' and '.join(names)}"
                baselines.append(Work(title, reference, wanted, baselines=names))
    for seed in range(options.seeds):  # outermost: after the first seed every row of the table has a number
        for task in tasks:
            for variant in item.variants:
                config = expected_config(task, variant, seed, options.overrides)
                if config is None:
                    continue
                wanted = conditions(config, options)
                source = library.source(config, wanted, start=item.start)
                if source is not None and complete(source, wanted, start=item.start):
                    continue
                run = library.find(config)
                place = run or _place(folder_name(task, variant, seed, options.overrides), config)
                title = f"{task}: {variant.label}, seed {seed}"
                # `setdefault`: two variants of one recipe are one run
                works.setdefault(place, _work(item, title, config, wanted, place, trained=run is not None))
    return [*works.values(), *baselines]


def _place(name: str, config: Config) -> Run:
    """Where a run is to be made; one that is there must be of the same recipe.

    Raises:
        UsageError: it is of another one.
    """
    run = Run(paths.runs_dir() / REPRODUCED / name)
    # its folder's name says recipe and seed, but the recipe may have changed since
    if run.exists() and not same_study(load_config(run.config_file), config):
        raise UsageError(
            f"{run} holds a run of another recipe than today's. Move it away, then reproduce again: "
            + command("mv", run, Path(f"{run}-old"))
        )
    return run


def _work(item: Item, title: str, config: Config, wanted: Conditions, run: Run, *, trained: bool) -> Work:
    """What one run still needs."""
    needed: tuple[str, ...] = ("start", "latest") if item.start else ("latest",)
    if trained:
        # by what is in its database: both evaluations may be there, or one
        source = RunSource(run, config)
        needed = tuple(n for n in needed if evaluated(source, wanted, start=n == "start") is None)
    return Work(title, config, wanted, run, train=not trained, checkpoints=needed)


def run_all(
    works: Sequence[Work],
    jobs: int,
    on_change: Callable[[Work, str], None],
    cancelled: threading.Event,
) -> list[str]:
    """Do all works, ``jobs`` at a time.

    Args:
        on_change: told what a work is doing: ``training``, ``evaluating``, ``done`` or ``failed``; any thread.
        cancelled: once set, what is under way is stopped where it can be continued, and nothing new begins.

    Returns:
        Why works failed, one line each.
    """
    # several jobs share the cores: each with a thread per core would be slower than one after the other
    environment = {"OMP_NUM_THREADS": "1"} if jobs > 1 else {}
    problems: list[str] = []

    def carry_out(work: Work) -> None:
        try:
            if work.train:
                on_change(work, "training")
                _train(work, environment, cancelled)
            on_change(work, "evaluating")
            _evaluate(work, environment, cancelled)
        except VlmAgentError as error:
            problems.append(f"{work.title}: {error}")
            on_change(work, "failed")
        except CancelledError:
            on_change(work, "stopped")
        else:
            on_change(work, "done")

    with ThreadPoolExecutor(jobs, thread_name_prefix="reproduce") as pool:
        # `result` raises what `carry_out` does not expect: a mistake of the program is no failed work
        for future in as_completed([pool.submit(carry_out, work) for work in works]):
            future.result()
    return problems


def _train(work: Work, environment: Mapping[str, str], cancelled: threading.Event) -> None:
    """Train a run to its end in its own daemon."""
    assert work.run is not None
    if cancelled.is_set():
        raise CancelledError
    # one that is there is continued, by the same daemon that began it
    if not work.run.exists():
        folders.create_run(work.config, work.run.path)
    if not status.is_alive(work.run) and status.run_state(work.run) != "done":
        launch.start_daemon(work.run, environment=environment)
    # the process, not the status: a run that is done still closes its files
    while status.is_alive(work.run):
        if cancelled.wait(POLL_SECONDS):
            launch.stop_run(work.run, timeout=600)
            raise CancelledError
    state = status.run_state(work.run)
    if state != "done":
        error = status.show_run(work.run).get("error") or f"see {work.run.log}"
        raise RunFailedError(f"the training is {state}: {error}")


def _evaluate(work: Work, environment: Mapping[str, str], cancelled: threading.Event) -> None:
    """Evaluate what is missing in a process of its own; an interrupted evaluation is continued."""
    arguments = ["--episodes", str(work.conditions.episodes), "--seed", str(work.conditions.seed)]
    if work.baselines:
        arguments = [work.config.task, *arguments]
        arguments += [word for name in work.baselines for word in ("--baseline", name)]
        arguments += [word for pair in _options_of(work.config) for word in ("--set", pair)]
    else:
        # temperature by hand: the config of the run may say another one for evaluations
        arguments += ["--run", str(work.run), "--set", f"eval.temperature={temperature_of(work.config)}"]
        arguments += [word for name in work.checkpoints for word in ("--checkpoint", name)]
    _run([sys.executable, "-m", "vlmagent", "eval", *arguments, "--resume", "--json"], environment, cancelled)


def _options_of(config: Config) -> list[str]:
    """What decides the episodes of a task."""
    return [f"rule_set={config.rule_set}", *(f"env.{key}={value}" for key, value in config.env.items())]


def _run(words: Sequence[str], environment: Mapping[str, str], cancelled: threading.Event) -> None:
    """Run a command to its end.

    Raises:
        RunFailedError: it failed; quotes what it said last.
        CancelledError: it was interrupted.
    """
    if cancelled.is_set():
        raise CancelledError
    process = subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",  # what it says is quoted, never relied on
        env={**WAITING, **os.environ, **environment, "PYTHONIOENCODING": "utf-8"},
        start_new_session=True,  # a ctrl-c is for us: we pass on what it needs to know
    )
    while True:
        try:
            # communicate, not wait: a full pipe would block the process
            said = process.communicate(timeout=POLL_SECONDS)[1]
            break
        except subprocess.TimeoutExpired:
            if cancelled.is_set():
                # the command saves each step, so ending it loses nothing that `--resume` does not find
                process.terminate()
                process.communicate()
                raise CancelledError from None
    if process.returncode:
        last = " ".join(said.strip().splitlines()[-QUOTED_LINES:])
        raise RunFailedError(f"the evaluation ended with code {process.returncode}: {last}")


def usable_jobs(wanted: int) -> int:
    """At most one job a core."""
    return max(1, min(wanted, usable_cores()))


def waited(seconds: float, works: Sequence[Work], jobs: int) -> float:
    """Wall-clock seconds when ``jobs`` share an amount of work evenly."""
    return seconds / max(1, min(jobs, len(works)))
