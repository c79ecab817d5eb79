"""How a diagnosis looks: lines under headings in a terminal, a line each elsewhere, one document for programs."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from vlmagent import __version__
from vlmagent.cli.doctor.findings import Diagnosis, Finding, State
from vlmagent.text import encodable, harmless, is_unicode

_STYLES = {State.OK: "green", State.NOTE: "yellow", State.PROBLEM: "bold red"}
_SIGNS = {State.OK: "✓", State.NOTE: "•", State.PROBLEM: "✗"}


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
    for area, found in groupby(diagnosis.findings, key=lambda finding: finding.area):
        console.print(Text(area, style="bold"))
        for finding in found:
            console.print(_line(finding, console), soft_wrap=not console.is_terminal)
    console.print()
    style = "bold green" if diagnosis.ready else "bold red"
    console.print(Text(_plain(_conclusion(diagnosis), console), style), soft_wrap=not console.is_terminal)


def _line(finding: Finding, console: Console) -> RenderableType:
    """Sign, word, name, text; the remedy below, or behind where lines are not to be broken."""
    signs = is_unicode(console.encoding)
    word = f"{_SIGNS[finding.state]} {finding.state}" if signs else finding.state
    said = Text.assemble((_plain(finding.name, console), "bold"), ": ")
    said.append(_plain(finding.text, console))
    for way in finding.remedy.splitlines():
        said.append(f"{chr(10) if console.is_terminal else ' '}{'→' if signs else '->'} ")
        said.append(_plain(way, console), "cyan")
    sign = Text(f"  {word}", _STYLES[finding.state])
    if not console.is_terminal:
        sign.pad_right(13 - len(sign))
        return sign + said
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=11, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(sign, said)
    return table


def _conclusion(diagnosis: Diagnosis) -> str:
    problems, notes = diagnosis.count(State.PROBLEM), diagnosis.count(State.NOTE)
    counts = f"{problems} problem{'s' * (problems != 1)}, {notes} note{'s' * (notes != 1)}."
    if diagnosis.ready:
        return f"The built-in model can be trained here: vlmagent train numberline. {counts}"
    names = ", ".join(dict.fromkeys(finding.name for finding in diagnosis.obstacles))
    return f"The built-in model cannot be trained here until this is mended: {names}. {counts}"


def _plain(text: str, console: Console) -> str:
    """Fit to print here: paths and what other programs said may hold anything."""
    return encodable(harmless(text), console.encoding)
