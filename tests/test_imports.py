"""The wall: imports point downward only and in no circle, and light commands stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vlmagent
from tests.code_map import CodeMap

ROOT = Path(vlmagent.__file__).parent
LONGEST_FILE = 400
MOST_LOOSE_MODULES = 8


@pytest.fixture(scope="module")
def code() -> CodeMap:
    return CodeMap.of(ROOT.parent)


def test_imports_point_downward(code: CodeMap):
    assert not code.upward()


def test_no_circles(code: CodeMap):
    assert not code.circles()


def test_private_names_stay_in_their_module(code: CodeMap):
    assert not code.private_imports()


def test_rooms_hold_what_is_theirs(code: CodeMap):
    loose = [name for name, file in code.files.items() if file.parent == ROOT and name != "vlmagent"]
    assert len(loose) <= MOST_LOOSE_MODULES, loose
    assert not [name for name, lines in code.lengths().items() if lines > LONGEST_FILE]


def tree(folder: Path, **files: str) -> CodeMap:
    """The map of a package made of these modules; ``__`` in a name stands for a folder."""
    for name, text in files.items():
        file = folder / "vlmagent" / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return CodeMap.of(folder)


def test_the_wall_finds_what_it_guards_against(tmp_path: Path):
    code = tree(
        tmp_path,
        runs__a="def f():\n    from vlmagent.runs import b",
        runs__b="from vlmagent.runs.c import x",
        runs__c="from vlmagent.runs.a import _f",
        models__m="from vlmagent.tasks.t import x\nfrom vlmagent.cli.main import main",
        tasks__t="import vlmagent.text",
        cli__main="",
        text="from vlmagent import errors",
        errors="",
        attic="from vlmagent import text",
    )
    assert code.circles() == [["vlmagent.runs.a", "vlmagent.runs.b", "vlmagent.runs.c"]]
    assert code.private_imports() == ["vlmagent.runs.c takes _f from vlmagent.runs.a"]
    assert [problem.split(",")[0] for problem in code.upward()] == [
        "vlmagent.attic has no place: 'attic' is in none of the rows of tests/code_map.py",
        "vlmagent.models.m imports vlmagent.cli.main",
        "vlmagent.models.m imports vlmagent.tasks.t",
    ]


def imports(file: Path) -> set[str]:
    """Dotted names of our own modules that ``file`` imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("vlmagent.")}


def test_environments_never_import_the_program():
    import vlmagent_envs

    for file in Path(vlmagent_envs.__file__).parent.rglob("*.py"):
        assert not imports(file), file


def test_sql_stays_in_the_store():
    for file in ROOT.rglob("*.py"):
        if file.parent.name != "store":
            text = file.read_text()
            assert "import sqlite3" not in text, file
            assert "sqlite_utils" not in text, file


def modules_after(code: str) -> set[str]:
    """Top-level names in ``sys.modules`` of a fresh process that ran ``code``."""
    script = f"import sys\n{code}\nprint('LOADED', *sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    return set(result.stdout.rsplit("LOADED", 1)[1].split())


HEAVY = {"torch", "transformers", "textual", "sqlite_utils", "scipy"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["runs", "--help"],
        ["eval", "--help"],
        ["play", "--help"],
        ["doctor", "--help"],
    ],
)
def test_help_imports_nothing_heavy(arguments):
    code = (
        f"sys.argv = ['vlmagent', *{arguments}]\nfrom vlmagent.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass"
    )
    loaded = modules_after(code)
    assert "typer" in loaded
    assert not HEAVY & loaded


def test_listing_runs_and_building_a_config_need_no_torch():
    code = (
        "import vlmagent.runs.folders, vlmagent.cli.attach, vlmagent.tasks.registry as r, vlmagent.store.reader\n"
        "r.build_task('numberline')"
    )
    assert not {"torch", "transformers", "textual", "sqlite_utils"} & modules_after(code)
