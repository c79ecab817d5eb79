"""Imports point downward only, and light commands stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vlmagent

ROOT = Path(vlmagent.__file__).parent
LAYERS = [
    {"__main__"},
    {"cli"},
    {"cli_doctor", "cli_play", "cli_processes", "cli_reports"},
    {"cli_options", "cli_recipe"},
    {"doctor"},
    {"tui", "commands"},
    {"forecast", "reproduce"},
    {"tables", "progress", "formats", "plan_view", "report"},
    {
        *(
            "launch",
            "train",
            "sft",
            "sft_samples",
            "data",
            "evaluate",
            "play",
            "published",
            "daemon",
            "follow",
        ),
        *("results", "statistics", "systems", "learners", "plan", "plan_share", "export", "pool"),
        *("shared_store", "rank_process", "supervisor", "hosts"),
    },
    {"rollout", "rl"},
    {"agents"},
    {"checkpoint"},
    {"models", "engines", "tasks", "store"},
    {"config", "types", "errors", "paths", "seeding", "words", "hardware", "ranks", "lifeline", "validation"},
]
"""From the top down: a module imports from its own layer and those below it."""
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def part_of(module: str) -> str:
    """The architecture's name for a module: its first part below the package."""
    return module.split(".")[1]


def imports(file: Path) -> set[str]:
    """Dotted names of our own modules that ``file`` imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("vlmagent.")}


def files() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py" or path.parent != ROOT)


@pytest.mark.parametrize("file", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downward(file: Path):
    own = file.relative_to(ROOT).with_suffix("").parts[0]
    assert own in LEVEL, f"{own} has no place in the architecture"
    for name in imports(file):
        other = part_of(name)
        if other in LEVEL:  # "from vlmagent import __version__" names no module
            assert LEVEL[other] >= LEVEL[own], f"{own} imports {name}, which stands above it"


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
