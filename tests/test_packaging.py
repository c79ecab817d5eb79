"""The wheel, used far away from the checkout."""

import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import psutil
import pytest

import vlmagent
from tests.tui.test_tmux import Terminal
from vlmagent.runs import folders
from vlmagent.runs.daemon import daemon_info

ROOT = Path(vlmagent.__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("the checkout is not here: the tests run against an installed package")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return next(out.glob("*.whl"))


def test_what_the_wheel_holds(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert top == {"vlmagent", "vlmagent_envs"}
    for name in ("vlmagent/configs/numberline.yaml", "vlmagent/py.typed", "vlmagent_envs/numberline.py"):
        assert name in names
    assert any(name.endswith(".tcss") for name in names)


def test_the_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env=environment,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert str(site) in run("-c", "import vlmagent; print(vlmagent.__file__)")
    listed = run("-c", "from vlmagent.config import available_configs; print(available_configs())")
    assert "'numberline'" in listed
    assert '"success": 1.0' in run(
        "-m", "vlmagent", "eval", "numberline", "--baseline", "expert", "--episodes", "3", "--json"
    )


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_the_wheel_plays_outside_the_checkout(wheel: Path, tmp_path: Path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    play = [sys.executable, "-m", "vlmagent", "play", "blackjack", "--images", "half", "--seed", "3"]
    beside = ["--human", "--opponent", "expert", "--hints", "on"]
    outside = ["env", "-C", str(tmp_path), f"PYTHONPATH={site}"]
    table = Terminal(tmp_path / "tmux", 80, 24, [*outside, *play, *beside])
    try:
        table.wait(lambda text: "your turn" in text and "action" in text)
        (folder,) = folders.all_runs()
        info = daemon_info(folder)
        assert info is not None
        for process in (psutil.Process(info.pid), *psutil.Process(info.pid).children()):
            assert process.cwd() == str(tmp_path)
            assert process.environ()["PYTHONPATH"] == str(site)
        table.keys("s")
        table.wait(lambda text: "success, return" in text)
    finally:
        table.close()
    with closing(sqlite3.connect(folder.database)) as connection:
        assert connection.execute("SELECT action, actor FROM transitions").fetchall() == [("stand", "human")]
