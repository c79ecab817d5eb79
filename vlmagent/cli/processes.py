"""The hidden commands that training runs in: what a detached process, and each of several processes, is started with.

Heavy imports stand inside the functions: ``--help`` must not wait for them.
"""

from __future__ import annotations

from pathlib import Path

import typer

from vlmagent.paths import Run


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.command("_daemon", hidden=True)(_daemon)
    app.command("_rank", hidden=True)(_rank)


def _daemon(folder: Path) -> None:
    """What the detached process runs."""
    from vlmagent.config import load_config
    from vlmagent.runs import daemon

    run = Run(folder)
    # first of all: until the run is held nothing of it may be read or written, and whoever started this waits for it
    with daemon.daemon_session(run) as stop:
        config = load_config(run.config_file)
        if config.distributed.processes > 1:
            # only watches, and so leaves the memory that torch takes to the ranks
            from vlmagent.runs.supervisor import supervise

            supervise(run, config, stop)
            return
        # after the lock: importing torch takes seconds, in which the run would look as if nobody held it
        from vlmagent.training.train import train as run_training

        run_training(run, stop.is_set)


def _rank(folder: Path) -> None:
    """One of several processes that train a run."""
    from vlmagent.runs.rank_process import run_rank

    run_rank(Run(folder))
