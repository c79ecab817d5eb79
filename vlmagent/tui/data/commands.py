"""Commands that the dashboard tells people to type, ready to be pasted into a shell."""

from __future__ import annotations

import os

from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.text import command


def called(run: Run) -> str | os.PathLike[str]:
    """A run as commands know it: its name where it lies under the runs folder, else its path."""
    # resolved, because the runs folder may be given relative to here, or through a link
    inside = run.path.parent.resolve() == paths.runs_dir().resolve()
    return run.name if inside else run


def how_to_resume(run: Run) -> str:
    """The command that goes on with a run."""
    return command("vlmagent", "train", "--resume", called(run))


def how_to_evaluate(run: Run) -> str:
    """The command that evaluates a run's start and its newest checkpoint on the same seeds."""
    return command(
        "vlmagent", "eval", "--run", called(run), "--checkpoint", "start", "--checkpoint", paths.LATEST
    )
