"""The newest run and the newest checkpoint, whatever became of the links that are called latest."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SMALL
from tests.tui.made_runs import make_run
from vlmagent import paths
from vlmagent.config import Config
from vlmagent.errors import VlmAgentError
from vlmagent.paths import Run
from vlmagent.runs import daemon, export, find, folders, launch
from vlmagent.store.writer import StoreWriter
from vlmagent.training.saved import find_checkpoint, list_checkpoints, newest_checkpoint
from vlmagent.training.train import train
from vlmagent.tui.data.pieces import tokenizer_files

CONFIG = Config(task="numberline")


def with_checkpoints(run: Run, *steps: int) -> Run:
    """A run with a database and whole checkpoints that hold a tokenizer, the link on the last one written."""
    StoreWriter(run.database).close()
    for number in steps:
        folder = run.checkpoints / f"step-{number}"
        folder.mkdir(parents=True)
        for name in ("tokenizer.json", paths.TRAINER):
            (folder / name).write_text(str(number))
        link = run.checkpoints / paths.LATEST
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name)
    return run


@pytest.fixture
def run() -> Run:
    return with_checkpoints(folders.create_run(CONFIG), 0, 96, 1024)


def copied(run: Run) -> None:
    """``latest`` as ``cp -rL`` leaves it; then the run went on."""
    link = run.checkpoints / paths.LATEST
    link.unlink()
    shutil.copytree(run.checkpoints / "step-96", link)


def point(run: Run, target: str | None) -> None:
    link = run.checkpoints / paths.LATEST
    link.unlink()
    if target is not None:
        link.symlink_to(target)


def incomplete(run: Run) -> None:
    (run.checkpoints / "step-2048").mkdir()
    point(run, "step-2048")


SPOILT = {
    "right": lambda run: None,
    "a copied folder": copied,
    "lost": lambda run: point(run, None),
    "dangling": lambda run: point(run, "step-7"),
    "out of date": lambda run: point(run, "step-96"),
    "incomplete": incomplete,
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_the_checkpoint_with_the_most_steps_is_the_newest(spoil, run: Run, tmp_path: Path) -> None:
    spoil(run)
    newest = run.checkpoints / "step-1024"
    assert newest_checkpoint(run) == find_checkpoint(run) == newest
    assert next(iter(tokenizer_files(run))) == newest / "tokenizer.json"
    assert find.newest_run_of("numberline") == run
    exported = export.export_run(run, tmp_path / "copy")
    assert exported == export.Exported(tmp_path / "copy", ("step-1024",), 1)
    copy = Run(exported.out)
    assert [folder.name for folder in list_checkpoints(copy)] == ["step-1024"]
    assert (copy.checkpoints / "latest" / "tokenizer.json").read_text() == "1024"


def test_a_copy_says_what_is_in_it(tmp_path: Path) -> None:
    run = folders.create_run(CONFIG)
    StoreWriter(run.database).close()
    none = export.export_run(run, tmp_path / "none")
    copy = tmp_path / "none"
    assert none.describe() == (f"{copy}: config, log, 1 database, without a checkpoint: the run has none yet")
    run.evaluations.mkdir()
    StoreWriter(run.evaluations / "e.db").close()
    sft = run.checkpoints / "sft"
    sft.mkdir(parents=True)
    (sft / paths.TRAINER).write_text("{}")
    begun = export.export_run(run, tmp_path / "begun")
    assert begun.describe().endswith(": config, log, 2 databases, the supervised start as far as it is")
    assert (begun.out / "checkpoints" / "sft" / paths.TRAINER).is_file()
    with_checkpoints(run, 0, 32)
    assert export.export_run(run, tmp_path / "whole").describe().endswith("checkpoint step-32")


def test_a_copy_has_the_start_that_training_refers_to(tmp_path: Path) -> None:
    config = Config.model_validate({"task": "numberline", "ppo": {"kl_coef": 0.1}})
    run = with_checkpoints(folders.create_run(config), 0, 96, 128)
    exported = export.export_run(run, tmp_path / "copy")
    assert exported.checkpoints == ("step-0", "step-128")
    assert find_checkpoint(Run(exported.out), "start").name == "step-0"


def test_a_checkpoint_that_goes_while_it_is_copied(run: Run, tmp_path: Path, monkeypatch) -> None:
    copytree = shutil.copytree

    def slow(source: Path, target: Path) -> object:
        if source.name == "step-1024":
            with_checkpoints(run, 2048)
            shutil.rmtree(source)
        return copytree(source, target)

    monkeypatch.setattr(shutil, "copytree", slow)
    assert export.export_run(run, tmp_path / "copy").checkpoints == ("step-2048",)


def test_a_checkpoint_that_cannot_be_read_ends_the_copy(run: Run, tmp_path: Path, monkeypatch) -> None:
    def full(source: Path, target: Path) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(VlmAgentError, match=r"could not be copied.*No space left.*Free some space\."):
        export.export_run(run, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_copied_latest_hides_no_new_run() -> None:
    root = paths.runs_dir()
    old = folders.create_run(CONFIG)
    with daemon.daemon_session(old):
        pass
    (root / "latest").unlink()
    shutil.copytree(old.path, root / "latest")
    new = folders.create_run(CONFIG)
    os.utime(root / "latest" / paths.CONFIG)  # copied later than all of them
    for name in (None, "latest", "runs/latest", str(root / "latest")):
        assert folders.resolve_run(name) == new
    with daemon.daemon_session(new):  # cannot put a link there
        assert folders.resolve_run() == new
    shutil.rmtree(new.path)
    assert folders.resolve_run() == old


def test_a_latest_that_leads_nowhere(tmp_path: Path) -> None:
    root = paths.runs_dir()
    run = folders.create_run(CONFIG)
    (tmp_path / "empty").mkdir()
    for target in ("gone", str(tmp_path / "empty"), "latest"):
        (root / "latest").symlink_to(target)
        assert folders.resolve_run() == run
        (root / "latest").unlink()
    assert folders.resolve_run() == run


def test_setting_a_key_makes_no_run_newer() -> None:
    old, new = folders.create_run(CONFIG), folders.create_run(CONFIG)
    os.utime(old.config_file, (1e9, 1e9))
    launch.update_config(old, ["ppo.env_steps=30000"])
    assert folders.all_runs() == [Run(paths.runs_dir() / run.name) for run in (new, old)]


def test_a_whole_training_where_there_are_no_links(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    run = folders.create_run(Config.model_validate({**SMALL, "sft": {"samples": 0}}))
    asked = iter(range(10**9))
    with daemon.daemon_session(run):
        assert train(run, lambda: next(asked) >= 12) == "stopped"
    assert newest_checkpoint(run).name == "step-32"
    with daemon.daemon_session(run):
        assert train(run, lambda: False) == "done"
    assert not list(run.path.rglob("latest"))
    assert not list(run.path.rglob(".*-*"))  # nothing half made was left
    assert find_checkpoint(run).name == "step-96"
    assert find.newest_run_of("numberline") == folders.resolve_run() == run
    exported = export.export_run(run, tmp_path / "copy")
    assert exported.checkpoints == ("step-96",)
    assert not (exported.out / "checkpoints" / "latest").exists()


def test_the_command_says_it(run: Run, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vlmagent", "runs", "export", str(run), "--out", str(tmp_path / "copy")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == (
        f"{run} exported to {tmp_path / 'copy'}: config, log, 1 database, checkpoint step-1024".split()
    )


def test_hidden_folders_are_no_runs():
    """What is being written, or what `doctor` tries the disk with."""
    made = make_run(paths.runs_dir() / "first")
    make_run(paths.runs_dir() / ".tmp-second")
    assert folders.all_runs() == [made]
