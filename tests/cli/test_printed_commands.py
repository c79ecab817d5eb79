"""Every command that the program prints can be pasted into a shell, whatever the run's folder is called."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vlmagent
from vlmagent.cli.doctor.work import check_runs
from vlmagent.config import Config
from vlmagent.errors import VlmAgentError
from vlmagent.evaluation.jobs import EvalRequest, resolve_jobs
from vlmagent.evaluation.report.build import command_for
from vlmagent.evaluation.report.catalogue import find_item
from vlmagent.evaluation.report.collect import Options
from vlmagent.evaluation.reproduce import plan as plan_works
from vlmagent.paths import Run, runs_dir
from vlmagent.play.plan import PlayRequest, plan_session
from vlmagent.play.samples import export_sft
from vlmagent.runs import folders, launch
from vlmagent.runs.daemon import already_running
from vlmagent.store.writer import StoreWriter
from vlmagent.text import command
from vlmagent.training.saved import find_checkpoint

pytestmark = pytest.mark.usefixtures("forked_programs")

NAMES = ("a run", "[red]run[b]", "it's", 'say "run"', "-rf", "$HOME", "run;ls", "läuf*?", "`run`")


def made(name: str) -> Run:
    return folders.create_run(Config.model_validate({"task": "numberline"}), runs_dir() / name)


def ended(run: Run) -> Run:
    with StoreWriter(run.database) as writer:
        writer.start_run(run.name, "numberline", "tiny", "{}", 0)
        writer.set_status("running")
    return run


def said(call: Callable[[], object]) -> str:
    with pytest.raises(VlmAgentError) as caught:
        call()
    return str(caught.value)


MESSAGES: dict[str, Callable[[Run, Path], str]] = {
    "no checkpoint": lambda run, _: said(lambda: find_checkpoint(run)),
    "no checkpoint to evaluate": lambda run, _: said(lambda: resolve_jobs(EvalRequest(runs=[str(run)]))),
    "no checkpoint to play": lambda run, _: said(
        lambda: plan_session(PlayRequest("numberline", run=str(run)))
    ),
    "nothing played": lambda run, out: said(lambda: export_sft(run, out / "new")),
    "a folder that holds a run": lambda run, _: said(
        lambda: folders.create_run(Config.model_validate({"task": "numberline"}), run.path)
    ),
    "a run that is being trained": lambda run, _: str(already_running(run)),
    "a run that has lost its process": lambda run, _: said(lambda: launch.stop_run(ended(run))),
    "doctor": lambda run, _: " ".join(finding.remedy for finding in _lost(ended(run))),
}


def _lost(run: Run) -> Iterator:
    return (finding for finding in check_runs() if finding.name == "Lost")


def commands_in(text: str) -> list[list[str]]:
    """The words of each command in a message: in back quotes, or to the end of its line."""
    found = []
    for match in re.finditer(r"\b(?:vlmagent \w+|mv|kill) ", text):
        quoted = text[match.start() - 1 : match.start()] == "`"
        words = text[match.start() :].split("\n")[0]
        if quoted:
            lexer = shlex.shlex(words, posix=True, punctuation_chars="`")
            lexer.whitespace_split = True
            words = shlex.join(_until_back_quote(words))
        found.append(shlex.split(words))
    return found


def _until_back_quote(text: str) -> list[str]:
    """Words up to the back quote that no shell quotes protect."""
    inside = ""
    for position, character in enumerate(text):
        if inside:
            inside = "" if character == inside else inside
        elif character in "'\"":
            inside = character
        elif character == "`":
            return shlex.split(text[:position])
    raise AssertionError(f"not closed: {text}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("message", MESSAGES)
def test_what_is_printed_names_the_run(message: str, name: str, tmp_path: Path):
    run = made(name)
    text = MESSAGES[message](run, tmp_path)
    found = [words for words in commands_in(text) if "TASK" not in words and "--opponent" not in words]
    if message == "nothing played":
        found = [shlex.split(text.rpartition("--human ")[2])]
    assert found, text
    for words in found:
        named = words[-1]
        assert folders.resolve_run(named) == run, text


def test_a_run_of_another_recipe_is_moved_away_by_what_is_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("VLMAGENT_RUNS", str(tmp_path / "my [runs]"))
    other = Config.model_validate({"task": "numberline", "seed": 5})
    run = folders.create_run(other, runs_dir() / "reproduce" / "numberline-rl-seed0")
    text = said(lambda: plan_works(find_item("table3"), Options(seeds=1, tasks=("numberline",))))
    (words,) = commands_in(text)
    subprocess.run(words, check=True)
    assert not run.exists()
    assert Run(Path(f"{run}-old")).exists()


def test_options_of_a_report():
    options = Options(seeds=1, overrides={"model": {"name": "/a model/[x]"}}, records=Path("-my records"))
    words = shlex.split(command_for(find_item("table2"), options, "reproduce"))
    assert words[-4:] == ["--set", "model.name=/a model/[x]", "--records", "./-my records"]


def test_as_typed(tmp_path: Path):
    """The commands that ``train --detach`` and ``runs stop`` print, through the shell."""
    assert command("vlmagent", "runs", "show", Path("-x y")) == "vlmagent runs show './-x y'"
    assert command("vlmagent", "train", "--resume", Run(Path("/r/[b] 'c'"))) == (
        """vlmagent train --resume '/r/[b] '"'"'c'"'"''"""
    )
    shown = subprocess.run(
        f'"{sys.executable}" -m {command("vlmagent", "runs", "show", made("it [is] a $run"), "--json")}',
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert '"starting"' in shown.stdout, shown.stderr


# The source


def unquoted(source: str) -> list[str]:
    """Values in f-strings that stand in a command and did not go through ``command``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                before += str(part.value)
                continue
            assert isinstance(part, ast.FormattedValue)
            fixed = isinstance(part.value, ast.Name) and part.value.id.isupper()
            called = fixed or (
                isinstance(part.value, ast.Call)
                and ast.unparse(part.value.func)
                in (
                    "command",
                    "command_for",
                )
            )
            if re.search(r"(\bvlmagent +(-|[a-z]+ )|`(mv|kill|rm|cp) )[^`.;:·\n]*$", before) and not called:
                found.append(ast.unparse(part.value))
            before += "X"
    return found


def test_the_source_test_sees_what_it_guards_against():
    assert unquoted('f"Continue: vlmagent train --resume {run}"') == ["run"]
    assert unquoted('f"`mv {run} {run}-old`"') == ["run", "run"]
    assert not unquoted("f\"Continue: {command('vlmagent', 'train', '--resume', run)}. {more}\"")
    assert not unquoted('f"`vlmagent train --resume RUN` goes on with {run}"')


def test_no_message_puts_a_value_into_a_command_by_itself():
    package = Path(vlmagent.__file__).parent
    found = {str(file.relative_to(package)): unquoted(file.read_text()) for file in package.rglob("*.py")}
    assert not {file: values for file, values in found.items() if values}
