"""Every error that the program tells its user has an entry under Troubleshooting, and every entry has its error."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.docs.messages import VALUE, Message, Source, one_line

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs/troubleshooting.md"
QUOTE = re.compile(r"^(?:### |- )(`+)(.+?)\1$", re.MULTILINE)
"""An error as a page quotes it: code that is a heading or an item of a list, ``...`` for values."""
LEFT_OUT = "..."
WRITERS = (
    "vlmagent/agents/api/advice.py: url_advice",
    "vlmagent/agents/api/advice.py: status_advice",
    "vlmagent/agents/api/advice.py: _key_advice",
    "vlmagent/agents/api/advice.py: connection_problem",
    "vlmagent/config/changes.py: _goal_refusal",
    "vlmagent/config/changes.py: _refusal",
    "vlmagent/config/validation.py: _explain",
    "vlmagent/runs/supervisor.py: _diagnosis",
    "vlmagent/training/preflight.py: picture_problem",
    "vlmagent/training/train.py: failure_text",
    "envs/vlmagent_envs/alfworld/available.py: missing_for_thor",
    "envs/vlmagent_envs/alfworld/available.py: missing_packages",
)
"""Where sentences of errors are written apart from the place that raises them."""
HANDED_ON = {
    "vlmagent/agents/api/advice.py: connection_problem": "a library's words",
    "vlmagent/agents/api/advice.py: status_advice": "what _key_advice says",
    "vlmagent/config/changes.py: _refusal": "no refusal",
    "vlmagent/config/changes.py: check_changes": "lines of _refusal and _goal_refusal",
    "vlmagent/config/validation.py: validate": "lines of _explain",
    "vlmagent/config/validation.py: _explain": "the ValueErrors of validators, which are found by themselves",
    "vlmagent/runs/admission.py: _check_device": "the error of choose_device under another exit code",
    "vlmagent/runs/supervisor.py: supervise": "what _diagnosis says",
    "vlmagent/store/writer.py: _check": "an error of the writer's thread, made by store_error",
    "vlmagent/tasks/alfworld.py: __init__": "what missing_packages says",
    "vlmagent/training/preflight.py: picture_problem": "no problem",
    "vlmagent/training/train.py: failure_text": "another error as it is",
    "vlmagent/tui/play_app.py: _complete": "an error of the session that is photographed",
    "envs/vlmagent_envs/alfworld/available.py: missing_for_thor": "nothing lacks",
    "envs/vlmagent_envs/alfworld/available.py: missing_packages": "nothing lacks",
    "envs/vlmagent_envs/alfworld/env.py: _root": "what missing_packages or missing_for_thor says",
}
"""Functions with an error whose words come from elsewhere, and from where."""
INTERNAL = {
    "vlmagent/models/policy.py: keep_reference": "the trainer asks only policies with adapters",
    "vlmagent/store/reader.py: episodes": "orders are the dashboard's own, no user names one",
    "envs/vlmagent_envs/alfworld/card.py: _cells": "a household has as many places as fit",
    "envs/vlmagent_envs/alfworld/card.py: _stroke": "strokes are the program's own drawings",
    "envs/vlmagent_envs/formulas.py: _python_value": "caught where formulas are evaluated",
}
"""Functions with an error that no user can bring about, and why."""

pytestmark = pytest.mark.skipif(
    not INDEX.is_file(), reason="the checkout is not here: the tests run against an installed package"
)


def quotes() -> dict[str, str]:
    """Every quoted error, and the page it stands on."""
    pages = [INDEX, *sorted(INDEX.with_suffix("").glob("*.md"))]
    return {
        one_line(quote): page.relative_to(ROOT).as_posix()
        for page in pages
        for _, quote in QUOTE.findall(page.read_text(encoding="utf-8"))
    }


def says(text: str, quote: str) -> bool:
    """Whether a text of the program has all that is quoted, in the same order."""
    place = 0
    for part in quote.split(LEFT_OUT):
        found = text.find(part.strip(), place)
        if found < 0:
            return False
        place = found + len(part.strip())
    return True


def is_entry(quote: str, message: Message) -> bool:
    """Whether a quote is of this error, and names enough of it to be found."""
    return says(message.text, quote) and all(fragment in quote for fragment in message.fragments)


@pytest.fixture(scope="module")
def program() -> Source:
    return Source(ROOT, ("vlmagent", "envs"), WRITERS)


def test_every_error_has_an_entry(program: Source):
    messages, known = program.messages(), quotes()
    assert len(messages) > 200  # they are found at all
    lacking = sorted(
        f"{message.place}: {message.fragments[0]}"
        for message in messages
        if message.is_told
        and message.function not in INTERNAL
        and not any(is_entry(quote, message) for quote in known)
    )
    assert not lacking, "These errors have no entry in docs/troubleshooting/:\n" + "\n".join(lacking)


def test_every_entry_has_its_error(program: Source):
    texts = program.texts()
    stale = [f"{page}: {quote}" for quote, page in quotes().items() if not any(says(t, quote) for t in texts)]
    assert not stale, "The program says nothing like these:\n" + "\n".join(stale)


def test_exceptions_are_needed(program: Source):
    messages = program.messages()
    untold = {message.function for message in messages if not message.is_told}
    assert untold == set(HANDED_ON)
    assert set(INTERNAL) <= {message.function for message in messages}


def test_quotes_are_long_enough_to_be_found():
    assert not [quote for quote in quotes() if sum(map(str.isalpha, quote)) < 4]


def test_the_index_links_every_page():
    text = INDEX.read_text(encoding="utf-8")
    pages = sorted(INDEX.with_suffix("").glob("*.md"))
    assert pages
    assert not [page.name for page in pages if f"({INDEX.stem}/{page.name}" not in text]


MADE_UP = """
PLACE = "at the door"
class VlmAgentError(Exception):
    "Raise VlmAgentError('this is a docstring')."
class CookError(VlmAgentError): ...
class CakeError(CookError): ...
def bake(oven):
    if oven is None:
        raise CakeError(f"The oven {oven} is "
                        f"cold {PLACE}. Light it.")
    problem = "empty" if oven.empty else "full"
    return errors.CookError(f"The oven {oven!r} is {problem}.")
def refuse(what: str):
    raise CookError(f"{what}: {len(what)} too many")
refuse("Eggs"); refuse(what=f"{PLACE} cakes")
def plain():
    raise ValueError("nobody sees this")
@field_validator("sugar")
def sweet(value):
    raise ValueError("sugar must be sweet")
def hand_on(error):
    raise CookError(str(error))
def words():
    return "No flour in the house"
raise unknown_choice(f"cake of {PLACE}", name, [])
"""


def test_errors_are_found_wherever_they_are_made(tmp_path: Path):
    (tmp_path / "kitchen").mkdir()
    (tmp_path / "kitchen/oven.py").write_text(MADE_UP)
    source = Source(tmp_path, ["kitchen"], ["kitchen/oven.py: words"])
    found = source.messages()
    assert source.kinds == {"VlmAgentError", "AlfworldError", "CookError", "CakeError"}
    assert [message.text.replace(VALUE, "*") for message in found if message.is_told] == [
        "The oven * is cold at the door. Light it.",
        "The oven * is empty.",
        "The oven * is full.",
        "Eggs: * too many",
        "at the door cakes: * too many",
        "sugar must be sweet",
        "No flour in the house",
        "Unknown cake of at the door '*'.",
    ]
    assert [message.function for message in found if not message.is_told] == ["kitchen/oven.py: hand_on"]
    by_function = defaultdict(list)
    for message in found:
        by_function[message.function].append(message.fragments)
    assert by_function["kitchen/oven.py: bake"][0] == ("is cold at the door.", "The oven")
    assert by_function["kitchen/oven.py: refuse"] == [
        ("too many", ""),
        ("at the door cakes:", "at the door cakes:"),
    ]


def test_quotes_are_told_from_made_up_ones():
    message = Message("a.py:1", f"The oven {VALUE} is cold at the door. Light it.", "a.py: bake")
    assert is_entry("The oven ... is cold at the door.", message)
    assert is_entry("The oven ... is cold at the door. ...", message)
    assert not is_entry("The oven ... is cold", message)  # too little of it
    assert not is_entry("... is cold at the door.", message)
    assert not is_entry("The oven is hot, yet ... is cold at the door.", message)
    assert not says(message.text, "... cold ... The oven")
    assert QUOTE.findall(
        "### `A ... b`\n\n- ``Use `c` now``\n\n### A symptom with `code`\n- `x` is so\n"
    ) == [
        ("`", "A ... b"),
        ("``", "Use `c` now"),
    ]
