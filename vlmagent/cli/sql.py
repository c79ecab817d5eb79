"""``vlmagent runs sql``: a question to a run's database, and its answer as a table, JSON or CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from vlmagent.cli.grid import Column, Facts, Grid, cell
from vlmagent.cli.options import SHOWN_ROWS
from vlmagent.errors import UsageError
from vlmagent.store.ask import Found, Questions

LONGEST = 200
"""Characters of one value on a terminal."""


def sql_command(
    database: Path, question: str | None, *, as_json: bool, as_csv: bool, limit: int | None
) -> None:
    """Ask ``question`` and print the answer.

    Raises:
        UsageError: both forms are wanted, or it is no question.
        StoreError: the database cannot be read.
    """
    if as_json and as_csv:
        raise UsageError("Choose one of --json and --csv.")
    with Questions(database) as asked:
        if question is None:
            _print_tables(asked.tables(), as_json)
            return
        text = sys.stdin.read() if question == "-" else question
        plain = as_json or as_csv
        found = asked.ask(text, limit or (None if plain else SHOWN_ROWS))
    if as_json:
        rows = [dict(zip(found.columns, map(_plain, row), strict=True)) for row in found.rows]
        typer.echo(json.dumps(rows, indent=2))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(found.columns)
        writer.writerows([_plain(value) for value in row] for row in found.rows)
    else:
        _print_rows(found)


def _plain(value: Any) -> Any:
    """A value for a file: bytes, of which only pictures are made, as base64."""
    if isinstance(value, bytes):
        import base64

        return base64.b64encode(value).decode("ascii")
    return value


def _print_rows(found: Found) -> None:
    from rich.console import Console

    if not found.rows:
        typer.echo("No rows.")
        return
    numbers = [
        all(isinstance(row[index], int | float | None) for row in found.rows)
        for index in range(len(found.columns))
    ]
    # the first column stays whole: it says what a row is about
    columns = [
        Column(name, "number" if number else "text" if index and _is_long(found, index) else "name")
        for index, (name, number) in enumerate(zip(found.columns, numbers, strict=True))
    ]
    grid = Grid(columns)
    for row in found.rows:
        grid.add(*(cell(_short(value)) for value in row))
    Console().print(grid)
    if found.more:
        typer.echo(
            f"... and more rows: the first {len(found.rows)} are shown. --limit N shows more.", err=True
        )


def _is_long(found: Found, index: int) -> bool:
    return any(len(_short(row[index])) > 24 for row in found.rows)


def _short(value: Any) -> str:
    """A value on one line."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, float):
        # times are seconds since 1970: six digits would hide all that tells them apart
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.3f}"
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _print_tables(tables: Mapping[str, Sequence[tuple[str, str]]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({name: dict(columns) for name, columns in tables.items()}, indent=2))
        return
    from rich.console import Console

    pairs = [(name, cell(", ".join(column for column, _ in columns))) for name, columns in tables.items()]
    Console().print(Facts(pairs))
