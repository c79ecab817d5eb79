"""What CONTRIBUTING.md, README.md and docs/architecture.md name exists: files, folders, definitions, tables.

The documents promise three forms. A path is from the root of the repository; ``path: name`` is something that file
defines; ``vlmagent.module.name`` is found by importing. Source files are read, not imported.
"""

from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.code_map import ROWS
from vlmagent import paths
from vlmagent.store.writer import StoreWriter

ROOT = Path(__file__).parents[1]
GUIDES = ("CONTRIBUTING.md", "docs/architecture.md")
FOLDERS = ("vlmagent/", "envs/", "configs/", "tests/", "docs/", "benchmarks/")
ENDINGS = (".py", ".md", ".yaml", ".toml")
ELSEWHERE = ("RUN/", "runs/", ".venv/", "<", "-")
"""Beginnings of what is no file of the repository: those of a run, what make installs, an example's own, an option."""
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
DEFINED = re.compile(r"(\S+\.py): ([\w.]+)")
IN_DIAGRAM = re.compile(r"([\w/-]+\.py): (\w+(?:\.\w+)*)")
LINK = re.compile(r"\]\(([^)#]+)")

pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").is_dir(),
    reason="the checkout is not here: the tests run against an installed package",
)


def words(text: str) -> Iterator[str]:
    """What stands in backticks, and every word of fenced blocks."""
    for block in FENCE.findall(text):
        yield from (": ".join(found) for found in IN_DIAGRAM.findall(block))
        yield from re.split(r"[\s\"'|,;()\[\]{}]+", block.strip("`"))
    for paragraph in FENCE.sub("", text).split("\n\n"):
        for quoted in re.findall(r"`([^`]+)`", paragraph):
            whole = " ".join(quoted.split())
            yield from [whole] if DEFINED.fullmatch(whole) else whole.split()


def links(text: str) -> Iterator[str]:
    """Targets of links and pictures that are not on the web."""
    yield from (target for target in LINK.findall(text) if "://" not in target)


def problem(word: str, *, strict: bool = True) -> str | None:
    """Why a word names something that is not there; None if it does not, or names nothing at all.

    Args:
        strict: whether everything with a slash or an ending like ``.py`` is a path; otherwise only what begins with
            one of the repository's folders.
    """
    word = word.rstrip(".:")
    if word.startswith(ELSEWHERE) or "://" in word:
        return None
    if found := DEFINED.fullmatch(word):
        path, name = found.groups()
        return problem(path) or (None if defines(ROOT / path, name) else f"{path} does not define {name}")
    if re.fullmatch(r"vlmagent(\.\w+)+", word):
        return None if imports(word) else f"{word} is no module, and no name in one"
    looks = word.startswith(FOLDERS) or (strict and ("/" in word or word.endswith(ENDINGS)))
    if not looks or not re.fullmatch(r"[\w.<>/-]+", word):
        return None
    certain = word[: word.index("<")].rpartition("/")[0] if "<" in word else word
    return None if (ROOT / certain).exists() else f"there is no {word}"


def defines(file: Path, name: str) -> bool:
    """Whether a source file defines a name, or ``Class.name``; what it imports counts as well."""
    body: list[ast.stmt] = ast.parse(file.read_text(encoding="utf-8")).body
    for part in name.split("."):
        node = next((node for node in body if part in names(node)), None)
        if node is None:
            return False
        body = node.body if isinstance(node, ast.ClassDef) else []
    return True


def names(node: ast.stmt) -> set[str]:
    """The names that a statement binds."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def imports(dotted: str) -> bool:
    """Whether a dotted name is a module of ours, or a name in one."""
    place = ROOT.joinpath(*dotted.split("."))
    if place.is_dir() or place.with_suffix(".py").is_file():
        return True
    module, _, name = dotted.rpartition(".")
    place = ROOT.joinpath(*module.split("."))
    files = (place / "__init__.py", place.with_suffix(".py"))
    return any(defines(file, name) for file in files if file.is_file())


@pytest.mark.parametrize("guide", GUIDES)
def test_what_the_guides_name_exists(guide: str):
    text = (ROOT / guide).read_text(encoding="utf-8")
    found = set(words(text))
    assert sum(word.startswith(FOLDERS) for word in found) > 20  # they are found at all
    assert sorted(filter(None, map(problem, found))) == []


def test_what_the_readme_names_exists():
    found = set(words((ROOT / "README.md").read_text(encoding="utf-8")))
    assert sorted(filter(None, (problem(word, strict=False) for word in found))) == []


@pytest.mark.parametrize("document", [*GUIDES, "README.md"])
def test_links_lead_somewhere(document: str):
    file = ROOT / document
    targets = set(links(file.read_text(encoding="utf-8")))
    assert sorted(target for target in targets if not (file.parent / target).exists()) == []


def test_made_up_names_are_found_out():
    text = """
    See `vlmagent/types.py`, `vlmagent/nowhere.py` and `docs/`; `vlmagent/types.py: Transition.image` and
    `vlmagent/types.py: Transition.colour`, `vlmagent/nowhere.py: main`, `vlmagent/types.py:
    Nobody`; `vlmagent.config.Section`, `vlmagent.config.Chapter`, `vlmagent.tasks.base`, `vlmagent.tasks.top`.
    `RUN/run.db` and `runs/latest` are a run's, `configs/<task>.yaml` and `lost/<task>.yaml` somebody's,
    `ppo.lr`, `--images auto|kitty` and `1.5` no files at all, `else/where` one that is not there, `notes.md` neither.

```
.venv/bin/pytest tests/test_contributing.py tests/test_nothing.py      A["vlmagent/cli/away.py: main"]
A --> B["vlmagent/types.py: Everything.more"]
```
"""
    assert sorted(filter(None, map(problem, words(text)))) == [
        "there is no else/where",
        "there is no lost/<task>.yaml",
        "there is no notes.md",
        "there is no tests/test_nothing.py",
        "there is no vlmagent/cli/away.py",
        "there is no vlmagent/cli/away.py",
        "there is no vlmagent/nowhere.py",
        "there is no vlmagent/nowhere.py",
        "vlmagent.config.Chapter is no module, and no name in one",
        "vlmagent.tasks.top is no module, and no name in one",
        "vlmagent/types.py does not define Everything.more",
        "vlmagent/types.py does not define Nobody",
        "vlmagent/types.py does not define Transition.colour",
    ]
    assert problem("else/where", strict=False) is None
    assert list(links("[a](docs/a.md#b) ![c](d.svg) [e](https://example.org)")) == ["docs/a.md", "d.svg"]


def test_the_architecture_has_every_folder_every_table_and_every_file_of_a_run(tmp_path: Path):
    found = set(words((ROOT / "docs/architecture.md").read_text(encoding="utf-8")))
    for room in frozenset().union(*ROWS) - {"__main__"}:
        assert {f"vlmagent/{room}/", f"vlmagent/{room}.py"} & found, room
    StoreWriter(tmp_path / "run.db").close()
    with closing(sqlite3.connect(tmp_path / "run.db")) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    inside = re.compile(r"_.*|sqlite_.*|transitions_fts_.*")  # SQLite's own, and those of the tools
    assert {name for (name,) in tables if not inside.fullmatch(name)} - found == set()
    files = (paths.CONFIG, paths.DATABASE, paths.DAEMON, paths.LOG, paths.LOCK)
    assert {f"RUN/{name}" for name in files} - found == set()
    folders = (paths.CHECKPOINTS, paths.EVALUATIONS, paths.PLAYS, paths.RANKS)
    assert not [name for name in folders if not any(word.startswith(f"RUN/{name}/") for word in found)]
