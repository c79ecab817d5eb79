"""The pages say what is so: generated parts are up to date, links lead somewhere, marked command blocks run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.forking.popen import Server
from tests.tui.made_runs import make_run
from vlmagent.store.ask import Questions

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CLIENT = ROOT / "tests" / "forking" / "client.py"
PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md"), *DOCS.glob("troubleshooting/*.md")])
BLOCK = re.compile(r"^```sh test\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")

pytestmark = pytest.mark.skipif(
    not DOCS.is_dir(), reason="the checkout is not here: the tests run against an installed package"
)


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[str]:
    """The command blocks of a page that are to be run, in order."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_what_the_program_says():
    for page, text in generator().pages().items():
        assert page.read_text(encoding="utf-8") == text, f"run: python docs/pages.py ({named(page)})"


def test_every_setting_is_described():
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert not [row for row in rows if row.split(" | ")[-1].strip(" |") == ""]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target or target.startswith("#"):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve()
        assert place.exists(), target
        if anchor and place.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


def slug(heading: str) -> str:
    """The anchor of a heading, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of supervised starts: several pages begin with the same tiny one."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=named)
def test_marked_commands_run(
    page: Path, tmp_path: Path, shared_cache: Path, fork_server: tuple[Server, Path] | None
):
    """Line after line in one empty folder, as a reader would paste them; each has to end with 0."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    started = "-m vlmagent" if fork_server is None else f'-I -S "{CLIENT}" "{fork_server[1]}" vlmagent'
    for name, how in (("vlmagent", started), ("python", "")):
        program = binaries / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {how} "$@"\n')
        program.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VLMAGENT_")}
    environment |= {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "VLMAGENT_CACHE": str(shared_cache),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'envs'}",
        "OMP_NUM_THREADS": "1",
    }
    script = "set -euxo pipefail\n" + "\n".join(blocks(page))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


QUESTION = re.compile(r"vlmagent runs sql \"((?:SELECT|WITH)[^\"]+)\"")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if QUESTION.search(page.read_text("utf-8"))], ids=named
)
def test_questions_in_sql_are_answered(page: Path, tmp_path: Path):
    with Questions(make_run(tmp_path / "run").database) as asked:
        for question in QUESTION.findall(page.read_text(encoding="utf-8")):
            assert asked.ask(question).columns, question


def test_the_site_is_built_without_a_warning(tmp_path: Path):
    pytest.importorskip("sphinx")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(site)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (site / "index.html").read_text(encoding="utf-8")
    assert "theme-toggle" in page  # light, dark
    assert (site / "searchindex.js").is_file()
