"""``vlmagent report NAME``: collects, writes Markdown and pictures, says what is missing and how to make it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlmagent import __version__
from vlmagent.errors import UsageError
from vlmagent.evaluation.published import SOURCE
from vlmagent.evaluation.report import figures, tables
from vlmagent.evaluation.report.catalogue import Item
from vlmagent.evaluation.report.collect import Collection, Options, collect
from vlmagent.evaluation.report.runs import Library
from vlmagent.files import write_text
from vlmagent.text import command


@dataclass(frozen=True, slots=True)
class Report:
    """A built table or figure: its text, the files it was written to, and what it lacks.

    Attributes:
        body: the text without its heading and without what it says of conditions.
    """

    markdown: str
    body: str
    files: tuple[Path, ...]
    missing: tuple[str, ...]


def build(item: Item, options: Options, out: Path, library: Library | None = None) -> Report:
    """Build a table or figure from the runs in the store and write it into ``out``.

    Raises:
        UsageError: ``out`` cannot be written, or matplotlib is missing.
    """
    found = collect(item, options, library)
    try:
        out.mkdir(parents=True, exist_ok=True)
        pictures = figures.draw(found, out) if item.is_figure else []
        body = figures.markdown(found, pictures) if item.is_figure else tables.TABLES[item.name](found)
        text = f"## {_heading(item)}\n\n{body}\n\n{_about(found)}\n"
        file = out / f"{item.name}.md"
        write_text(file, text)
    except OSError as error:
        raise UsageError(f"The report could not be written to {out}: {error.strerror or error}.") from None
    return Report(text, body, (file, *pictures), found.missing)


def _heading(item: Item) -> str:
    kind = "Figure" if item.is_figure else "Table"
    return f"{kind} {item.name.removeprefix(kind.lower())}: {item.title}"


def _about(found: Collection) -> str:
    """Under what conditions the numbers came about, and the command that makes them."""
    options = found.options
    lines = [
        f"vlmagent {__version__}; ours: mean ± standard deviation over {options.seeds} training seeds (n - 1), "
        f"success is a return > 0 (ALFWorld: the goal was reached); evaluations on "
        f"{options.episodes or 'the paper’s number of'} episodes of evaluation seed {options.eval_seed}. "
        f"In italics: {SOURCE}, a 7 B model; they stand beside ours and are part of no mean."
    ]
    runs = sum(len(study.runs) for study in found.studies)
    lines.append(f"Built from {runs} runs by `{command_for(found.item, options, 'reproduce')}`.")
    if found.missing:
        lines.append("Missing: " + "; ".join(found.missing) + ".")
    return "\n\n".join(lines)


def command_for(item: Item, options: Options, verb: str) -> str:
    """The command that makes this item with these options."""
    words: list[str | Path] = ["vlmagent", verb, item.name, "--seeds", str(options.seeds)]
    for task in options.tasks:
        words += ["--task", task]
    if options.episodes:
        # defaults are left out: the shortest command that makes the same
        words += ["--episodes", str(options.episodes)]
    if options.eval_seed:
        words += ["--eval-seed", str(options.eval_seed)]
    for key, value in _flat(options.overrides):
        words += ["--set", f"{key}={value}"]
    if options.records:
        words += ["--records", options.records]
    return command(*words)


def _flat(section: object, prefix: str = "") -> list[tuple[str, object]]:
    if not isinstance(section, dict):
        return [(prefix.removesuffix("."), section)]
    return [pair for key, value in section.items() for pair in _flat(value, f"{prefix}{key}.")]
