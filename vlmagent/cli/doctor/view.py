"""How a diagnosis looks: lines under headings in a terminal, a line each elsewhere, one document for programs."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vlmagent import __version__
from vlmagent.cli.doctor.findings import Diagnosis, Finding, State
from vlmagent.text import encodable, harmless, is_unicode

_STYLES = {State.OK: "green", State.NOTE: "yellow", State.PROBLEM: "bold red"}
_SIGNS = {State.OK: "✓", State.NOTE: "•", State.PROBLEM: "✗"}

SIGN_WIDTH = 11
"""Cells before what is said of a finding."""


def document(diagnosis: Diagnosis) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "version": __version__,
        "ready": diagnosis.ready,
        "problems": diagnosis.count(State.PROBLEM),
        "notes": diagnosis.count(State.NOTE),
        "findings": [asdict(finding) for finding in diagnosis.findings],
    }


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Print all findings by area, and what they come to."""
    # findings come in the order of their checks, so those of an area stand together
    for area, found in groupby(diagnosis.findings, key=lambda finding: finding.area):
        console.print(Text(area, style="bold"))
        for finding in found:
            if console.is_terminal:
                # elsewhere a line each, so that a log can be searched by line
                _show(finding, console)
            else:
                console.print(_line(finding, console), soft_wrap=True)
    console.print()
    style = "bold green" if diagnosis.ready else "bold red"
    console.print(Text(_plain(_conclusion(diagnosis), console), style), soft_wrap=not console.is_terminal)


def _show(finding: Finding, console: Console) -> None:
    """Sign, word, name and text; a line below for each remedy, left to the terminal to break: it may be a command."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=SIGN_WIDTH, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(_sign(finding, console), _said(finding, console))
    console.print(table)
    for way in _ways(finding, console):
        console.print(Text(" " * (SIGN_WIDTH + 1)) + way, soft_wrap=True)


def _line(finding: Finding, console: Console) -> Text:
    """The same in one line, which is not to be broken."""
    sign = _sign(finding, console)
    # padded by hand: in one line there is no table that would do it
    sign.pad_right(SIGN_WIDTH + 2 - len(sign))
    return Text(" ").join([sign + _said(finding, console), *_ways(finding, console)])


def _sign(finding: Finding, console: Console) -> Text:
    word = f"{_SIGNS[finding.state]} {finding.state}" if is_unicode(console.encoding) else finding.state
    return Text(f"  {word}", _STYLES[finding.state])


def _said(finding: Finding, console: Console) -> Text:
    return Text.assemble((_plain(finding.name, console), "bold"), ": ", _plain(finding.text, console))


def _ways(finding: Finding, console: Console) -> list[Text]:
    arrow = "→" if is_unicode(console.encoding) else "->"
    ways = finding.remedy.splitlines()
    return [Text.assemble(f"{arrow} ", (_plain(way, console), "cyan")) for way in ways]


def _conclusion(diagnosis: Diagnosis) -> str:
    problems = diagnosis.count(State.PROBLEM)
    notes = diagnosis.count(State.NOTE)
    counts = f"{problems} problem{'s' * (problems != 1)}, {notes} note{'s' * (notes != 1)}."
    if diagnosis.ready:
        return f"The built-in model can be trained here: vlmagent train numberline. {counts}"
    names = ", ".join(dict.fromkeys(finding.name for finding in diagnosis.obstacles))
    return f"The built-in model cannot be trained here until this is mended: {names}. {counts}"


def _plain(text: str, console: Console) -> str:
    """Fit to print here: paths and what other programs said may hold anything."""
    return encodable(harmless(text), console.encoding)
