import shlex
from pathlib import Path

import pytest

from tests.tui.made_episodes import make_episodes
from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.tui.data.commands import how_to_evaluate, how_to_resume
from vlmagent.tui.widgets.run_panels import how_to_go_on

NAMES = ["plain", "my run [1]", "it's", "a;b $HOME", "x" * 120]


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_takes_the_commands_as_they_are_printed(name: str) -> None:
    run = Run(paths.runs_dir() / name)
    assert shlex.split(how_to_resume(run)) == ["vlmagent", "train", "--resume", name]
    assert shlex.split(how_to_evaluate(run)) == [
        "vlmagent", "eval", "--run", name, "--checkpoint", "start", "--checkpoint", "latest",
    ]  # fmt: skip
    hint = how_to_go_on(run, "lost", alive=False)
    assert shlex.split(hint.removeprefix("Its process is gone. "))[-1] == name


def test_a_run_elsewhere_is_called_by_its_path(tmp_path: Path) -> None:
    run = make_episodes(tmp_path / "else where" / "r", 1)
    assert how_to_resume(run) == f"vlmagent train --resume '{run}'"


def test_plain_names_need_no_quotes() -> None:
    assert (
        how_to_resume(Run(paths.runs_dir() / "20260101-120000")) == "vlmagent train --resume 20260101-120000"
    )
