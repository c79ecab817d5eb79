"""Fills the tables and figures of docs/results.md from the records beside it; the words between them stay.

    vlmagent reproduce table2 --task numberline --task ezpoints --records docs/records   # makes what is missing
    python benchmarks/results_page.py

A block of the page begins with a line ``<!-- table2 -->`` and ends with ``<!-- end -->``.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from vlmagent.evaluation.report.build import build, command_for
from vlmagent.evaluation.report.catalogue import SEEDS, find_item
from vlmagent.evaluation.report.collect import Options
from vlmagent.evaluation.report.runs import Library

DOCS = Path(__file__).parent.parent / "docs"
PAGE, PICTURES, RECORDS = DOCS / "results.md", DOCS / "results", DOCS / "records"
TASKS = ("numberline", "ezpoints")
BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str, pictures: Path) -> tuple[str, list[str]]:
    """The page with its blocks built anew from the records, and what they lack.

    Args:
        pictures: folder for the figures.
    """
    missing: list[str] = []
    library = Library(RECORDS)

    def block(match: re.Match[str]) -> str:
        item = find_item(match[2])
        tasks = tuple(task for task in TASKS if task in item.tasks)
        options = Options(SEEDS, tasks, records=RECORDS.relative_to(DOCS.parent))
        built = build(item, options, pictures, library)
        missing.extend(f"{item.name}: {what}" for what in built.missing)
        body = built.body.replace(f"]({item.name}.png)", f"]({pictures.name}/{item.name}.png)")
        return f"{match[1]}\n{body}\n\n`{command_for(item, options, 'reproduce')}`\n\n{match[3]}"

    return BLOCK.sub(block, page), missing


def main() -> int:
    os.environ["VLMAGENT_RUNS"] = os.devnull  # nothing but what is recorded may be on the page
    text, missing = filled(PAGE.read_text(encoding="utf-8"), PICTURES)
    PAGE.write_text(text, encoding="utf-8")
    for file in PICTURES.glob("*.md"):
        file.unlink()  # the page has their text
    print("\n".join([f"Written: {PAGE}", *(f"Missing: {what}" for what in missing)]))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
