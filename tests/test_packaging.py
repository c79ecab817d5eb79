"""The wheel, used far away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import vlmagent

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
