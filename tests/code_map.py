"""The map of the code: its modules, who imports whom, circles, floors, and the longest of everything.

``python -m tests.code_map`` prints it (``make map``); the wall test asks the same functions. Reads source files as text
and never imports them, so it works on a tree that does not run.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "vlmagent"
ROWS: tuple[frozenset[str], ...] = tuple(
    frozenset(row.split())
    for row in (
        "__main__",
        "cli",
        "tui",
        "play",
        "evaluation",
        "runs",
        "training",
        "agents",
        "models tasks",
        "store config",
        "errors paths types text seeding files",
    )
)
"""The house from the top down: one row a folder (or two that do not know each other), at the bottom single modules. A
module imports from its own folder and from rows below."""


@dataclass(frozen=True)
class CodeMap:
    """The modules of one source tree.

    Attributes:
        root: the folder that holds the package.
        files: dotted name of each module, and its file; a package's name stands for its ``__init__.py``.
    """

    root: Path
    files: Mapping[str, Path]

    @classmethod
    def of(cls, root: Path) -> CodeMap:
        """Read the tree below ``root``."""
        files = {}
        for file in sorted((root / PACKAGE).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        return cls(root, files)

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The syntax tree of each module."""
        return {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in self.files.items()}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Which of our modules each one imports, wherever in it: within functions and for types alone, too."""
        return {name: set(self._imports(name)) - {name, PACKAGE} for name in self.files}

    def _imports(self, name: str) -> Iterator[str]:
        for node in ast.walk(self.trees[name]):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in self.files)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield from [one for one in (inner, node.module) if one in self.files][:1]

    def private_imports(self) -> list[str]:
        """Names with a leading underscore that one module takes from another."""
        found = []
        for name, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module in self.files:
                    private = [
                        a.name for a in node.names if a.name.startswith("_") and not a.name.endswith("__")
                    ]
                    found += [f"{name} takes {one} from {node.module}" for one in private]
        return found

    def circles(self) -> list[list[str]]:
        """Groups of modules that import each other, directly or through others (Tarjan's algorithm)."""
        found: list[list[str]] = []
        index: dict[str, int] = {}
        low: dict[str, int] = {}
        path: list[str] = []

        def visit(name: str) -> None:
            index[name] = low[name] = len(index)
            path.append(name)
            for other in sorted(self.imports[name]):
                if other not in index:
                    visit(other)
                if other in path:
                    low[name] = min(low[name], low[other])
            if low[name] == index[name]:
                group = path[path.index(name) :]
                del path[path.index(name) :]
                if len(group) > 1:
                    found.append(sorted(group))

        for name in self.files:
            if name not in index:
                visit(name)
        return found

    def upward(self) -> list[str]:
        """Imports from a row above, or from another folder of the same row."""
        level = {room: number for number, row in enumerate(ROWS) for room in row}
        found = []
        for name, others in self.imports.items():
            own = room_of(name)
            if own is None:
                continue
            if own not in level:
                found.append(f"{name} has no place: '{own}' is in none of the rows of tests/code_map.py")
                continue
            for other in sorted(others):
                theirs = room_of(other)
                # the last row holds single modules, not a folder: they may use each other, without circles
                beside = (
                    level.get(theirs or own) == level[own] and theirs != own and level[own] < len(ROWS) - 1
                )
                if theirs in level and (level[theirs] < level[own] or beside):
                    found.append(f"{name} imports {other}, which does not stand below it")
        return found

    @cached_property
    def floors(self) -> dict[str, int]:
        """How many modules lie below each one on the longest way down; 0 imports none of ours. Without circles only."""
        known: dict[str, int] = {}

        def floor(name: str) -> int:
            if name not in known:
                known[name] = max((1 + floor(other) for other in self.imports[name]), default=0)
            return known[name]

        for name in self.files:
            floor(name)
        return known

    def lengths(self) -> dict[str, int]:
        """Lines of each module."""
        return {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in self.files.items()}

    def functions(self) -> dict[str, int]:
        """Lines of each function and method, its signature and docstring included."""
        found = {}
        for name, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    found[f"{name}:{node.name}:{node.lineno}"] = (
                        (node.end_lineno or node.lineno) - node.lineno + 1
                    )
        return found


def room_of(module: str) -> str | None:
    """The folder, or single module, right below the package; None for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def report(code: CodeMap) -> str:
    """What ``make map`` prints."""
    loose = [
        name for name, file in code.files.items() if file.parent == code.root / PACKAGE and name != PACKAGE
    ]
    circles, lengths, functions = code.circles(), code.lengths(), code.functions()
    chain = "not counted while there are circles" if circles else f"{1 + max(code.floors.values())} modules"
    rooms = {file.parent for file in code.files.values() if file.parent != code.root / PACKAGE}
    longest_files = sorted(lengths, key=lengths.__getitem__, reverse=True)[:5]
    longest_functions = sorted(functions, key=functions.__getitem__, reverse=True)[:5]
    lines = [
        f"modules                {len(code.files)}, {sum(lengths.values())} lines",
        f"directly in {PACKAGE}/   {len(loose)}: {', '.join(name.split('.')[-1] for name in loose)}",
        f"circles                {len(circles)}",
        *(f"    {' <-> '.join(group)}" for group in circles),
        f"imports upward         {len(code.upward())}",
        *(f"    {problem}" for problem in code.upward()),
        f"private names imported {len(code.private_imports())}",
        f"rooms                  {len(rooms)} folders on {len(ROWS)} floors",
        f"longest way down       {chain}",
        f"files over 400 lines   {sum(count > 400 for count in lengths.values())}",
        "longest files          " + ", ".join(f"{name} {lengths[name]}" for name in longest_files),
        f"functions              {len(functions)}, median {statistics.median(functions.values()):g} lines",
        "longest functions      " + ", ".join(f"{name} {functions[name]}" for name in longest_functions),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(CodeMap.of(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]))))
