"""The sentences that the program can end with, read from its source: every error that is made for people.

Reads files as text and imports none of them. A value that is filled in at run time is ``VALUE`` in a sentence.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from pathlib import Path

VALUE = "\0"
PEOPLES = ("VlmAgentError", "AlfworldError")
"""Errors whose text is written for people, as is that of their subclasses."""
VALIDATORS = ("field_validator", "model_validator")
"""Decorators under which pydantic turns a ``ValueError`` into a line of an error for people."""
MOST_VARIANTS = 24
DEEPEST = 8
LONGEST_FRAGMENT = 60
SHORTEST_BEGINNING = 8
Function = ast.FunctionDef | ast.AsyncFunctionDef
Argument = tuple[ast.expr, Function | None]
"""What a call gives for a parameter, and the function that the call stands in."""


@dataclass(frozen=True, slots=True)
class Message:
    """A sentence of the program.

    Attributes:
        place: ``file:line``.
        text: whitespace as single blanks, ``VALUE`` for what is filled in.
        function: ``file: name`` of the function around it.
    """

    place: str
    text: str
    function: str

    @property
    def is_told(self) -> bool:
        """Whether the source says any of it, rather than handing on what another place wrote."""
        return sum(character.isalpha() for character in self.text) >= 4

    @property
    def fragments(self) -> tuple[str, str]:
        """What a page has to quote: the longest constant part of the first sentence, and how that begins."""
        first = re.split(r"(?<=[.!?])(?=\s|$)", self.text, maxsplit=1)[0]
        parts = [part.strip() for part in first.split(VALUE)]
        begins = parts[0] if len(parts[0]) >= SHORTEST_BEGINNING else ""
        return shortened(max(parts, key=len)), shortened(begins)


@dataclass(frozen=True)
class Source:
    """Python files below some folders.

    Attributes:
        root: what places are relative to.
        folders: names below it.
        writers: functions that return or yield whole sentences of errors which are made elsewhere: ``file: name``.
    """

    root: Path
    folders: Sequence[str]
    writers: Sequence[str] = ()

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The syntax tree of each file, by its path."""
        files = [file for folder in self.folders for file in sorted((self.root / folder).rglob("*.py"))]
        return {
            file.relative_to(self.root).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
            for file in files
        }

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Names of the classes of errors for people."""
        bases = {
            node.name: {name_of(base) for base in node.bases}
            for tree in self.trees.values()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
        }
        found = set(PEOPLES)
        while more := {name for name, theirs in bases.items() if theirs & found} - found:
            found |= more
        return frozenset(found)

    @cached_property
    def constants(self) -> dict[tuple[str, str], ast.expr]:
        """What modules bind to names in capitals, by file and name; under no file what any module binds to it."""
        found = {}
        for file, tree in self.trees.items():
            for node in tree.body:
                if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                    for name in filter(str.isupper, targets(node)):
                        found[file, name] = found["", name] = node.value
        return found

    @cached_property
    def calls(self) -> dict[tuple[str, str], list[tuple[Function | None, ast.Call]]]:
        """Every call, by its file and the name of what is called, with the function that it stands in."""
        found = defaultdict(list)
        for file, tree in self.trees.items():
            for caller, node in within(tree):
                if isinstance(node, ast.Call):
                    found[file, name_of(node.func)].append((caller, node))
        return found

    def messages(self) -> list[Message]:
        """Every sentence of an error for people."""
        return [message for file in self.trees for message in self._of_file(file)]

    def texts(self) -> set[str]:
        """Every text in the source, docstrings aside, with and without what can be filled in; and all messages."""
        found = {message.text for message in self.messages()}
        for file, tree in self.trees.items():
            for function, node in within(tree):
                if isinstance(node, ast.JoinedStr | ast.Constant | ast.BinOp):
                    found |= set(map(one_line, self._variants(node, file, function)))
        return found

    def _of_file(self, file: str) -> Iterator[Message]:
        for function, node in within(self.trees[file]):
            name = f"{file}: {function.name if function else ''}"
            told: ast.expr | None = None
            if isinstance(node, ast.Call):
                told = self._argument(node, file, function)
            elif isinstance(node, ast.Return | ast.Yield) and name in self.writers:
                told = node.value
            if told is None:
                continue
            before, behind = (
                ("Unknown ", f" '{VALUE}'.")
                if name_of(getattr(node, "func", None)) == "unknown_choice"
                else ("", "")
            )
            for text in self._variants(told, file, function):
                yield Message(f"{file}:{node.lineno}", one_line(before + text + behind), name)

    def _argument(self, call: ast.Call, file: str, function: Function | None) -> ast.expr | None:
        """The sentence of a call that makes an error for people."""
        kind = name_of(call.func)
        ours = kind in self.kinds or kind == "unknown_choice"
        if kind == "ValueError":
            ours = file.startswith("envs/") or (function is not None and is_validator(function))
        return call.args[0] if ours and call.args else None

    def _variants(self, node: ast.expr | None, file: str, function: Function | None) -> list[str]:
        """The texts that an expression can be, over all calls of its function in the same file."""
        found = [
            text
            for given in self._calls(file, function)
            for text in self._resolve(node, file, function, given, 0)
        ]
        return list(islice(dict.fromkeys(found), MOST_VARIANTS))

    def _resolve(
        self,
        node: ast.expr | None,
        file: str,
        function: Function | None,
        given: Mapping[str, Argument],
        depth: int,
    ) -> list[str]:
        """The texts that an expression can be when its function was called with the arguments ``given``."""
        if depth > DEEPEST:
            return [VALUE]

        def inner(part: ast.expr) -> list[str]:
            return self._resolve(part, file, function, given, depth + 1)

        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=parts):
                return joined(list(map(inner, parts)))
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None) | ast.Starred(value=value):
                return inner(value)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return joined([inner(left), inner(right)])
            case ast.IfExp(body=body, orelse=orelse):
                return [*inner(body), *inner(orelse)]
            case ast.Call(func=ast.Attribute(value=value, attr="strip" | "rstrip")):
                return inner(value)
            case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join"), args=[ast.List() as listed]):
                return inner(listed)
            case ast.List(elts=parts):
                return joined([text for part in parts for text in ([" "], inner(part))][1:])
            case ast.Name(id=name) if name in given:
                value, caller = given[name]
                return self._resolve(value, file, caller, {}, depth + 1)
            case ast.Name(id=name):
                known = self.constants.get((file, name)) or self.constants.get(("", name))
                bound = [*bindings(name, function)] or [one for one in [known] if one]
                return [text for one in bound for text in inner(one)] or [VALUE]
        return [VALUE]

    def _calls(self, file: str, function: Function | None) -> list[dict[str, Argument]]:
        """The arguments that calls in the same file give to a function; one without any where there are none."""
        found: list[dict[str, Argument]] = []
        names = [one.arg for one in function.args.args if one.arg not in ("self", "cls")] if function else []
        for caller, call in self.calls.get((file, function.name), []) if function and names else ():
            given = dict(zip(names, ((value, caller) for value in call.args), strict=False))
            found.append(given | {word.arg: (word.value, caller) for word in call.keywords if word.arg})
        return found or [{}]


def within(tree: ast.AST, function: Function | None = None) -> Iterator[tuple[Function | None, ast.AST]]:
    """Every node but docstrings, and the innermost function around it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        yield function, node
        yield from within(node, node if isinstance(node, Function) else function)


def bindings(name: str, function: Function | None) -> Iterator[ast.expr]:
    """What a function binds to a name."""
    for node in ast.walk(function) if function else ():
        if (
            isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr)
            and name in targets(node)
            and node.value
        ):
            yield node.value
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            for target in node.targets:
                pairs = (
                    zip(target.elts, node.value.elts, strict=False) if isinstance(target, ast.Tuple) else ()
                )
                yield from (value for one, value in pairs if isinstance(one, ast.Name) and one.id == name)


def targets(node: ast.Assign | ast.AnnAssign | ast.NamedExpr) -> list[str]:
    """The names that are bound alone."""
    bound = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in bound if isinstance(target, ast.Name)]


def joined(parts: Sequence[Sequence[str]]) -> list[str]:
    """Every way to put one text of each part behind another."""
    return ["".join(chosen) for chosen in islice(product(*parts), MOST_VARIANTS)]


def name_of(node: ast.AST | None) -> str:
    """The last part of a dotted name, "" for anything else."""
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def is_validator(function: Function) -> bool:
    """Whether pydantic calls it to check a value."""
    return any(
        name_of(one.func if isinstance(one, ast.Call) else one) in VALIDATORS
        for one in function.decorator_list
    )


def one_line(text: str) -> str:
    """Whitespace as single blanks."""
    return " ".join(text.split())


def shortened(text: str) -> str:
    """Whole words of a text, as many as have to be quoted."""
    return text if len(text) <= LONGEST_FRAGMENT else text[:LONGEST_FRAGMENT].rpartition(" ")[0]
