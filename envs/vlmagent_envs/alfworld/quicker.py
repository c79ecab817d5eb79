"""Makes textworld's PDDL games quicker in this process without changing what they say.

Four things are computed again and again there: the parse of every template, the parse of every condition, the parse of
the grammar, which is the same in all games but for the sentence that says the goal, and the translation of the game's
PDDL (four times a start). Here each is remembered. And every symbol of every text gets a deep
copy of all entities it may name, which takes nine tenths of a step; here it gets a copy of the table of them.
Used in worker processes only.
"""

from __future__ import annotations

import copy
import json
import re
from functools import lru_cache
from typing import Any

import fast_downward
from textworld.envs.pddl import logic, textgen
from textworld.logic import Rule

_TEMPLATES = 20_000
_CONDITIONS = 2_000
_GRAMMARS = 8
_TASK = "task"
_GOAL = re.compile(r'"task":\s*\[\s*\{\s*"rhs":\s*("(?:[^"\\]|\\.)*")\s*\}\s*\]')
"""The rule of a grammar that says the goal."""


def install(*, planner: bool) -> None:
    """Remember from now on; to be called once.

    Args:
        planner: keep the second translation, which is for planning; without it the first one takes its place.
    """
    textgen.deepcopy = duplicate
    _remember_templates()
    _remember_conditions()
    _remember_grammars()
    _remember_translations(planner)


def duplicate(value: Any) -> Any:
    """What ``textgen`` needs of a copy: its tables are only added to, its symbols only get another context.

    Args:
        value: a table of variables or of a mapping, a symbol, or a list of symbols.
    """
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, list):
        return [duplicate(item) for item in value]
    twin = copy.copy(value)
    for name in (
        "symbol",
        "expression",
    ):  # a list or a condition holds another symbol, which gets a context too
        inner = getattr(twin, name, None)
        if isinstance(inner, textgen.Symbol):
            setattr(twin, name, duplicate(inner))
    return twin


def _remember_templates() -> None:
    parse = textgen._parse_and_convert

    @lru_cache(maxsize=_TEMPLATES)
    def parsed(text: str, rule_name: str) -> Any:
        return parse(text, rule_name=rule_name)

    def remembered(text: str, rule_name: str, **_: Any) -> Any:
        return duplicate(parsed(text, rule_name))  # the caller writes its context into the symbols

    textgen._parse_and_convert = remembered


def _remember_conditions() -> None:
    Rule.parse_conjunctive_query = staticmethod(lru_cache(maxsize=_CONDITIONS)(Rule.parse_conjunctive_query))


def _remember_grammars() -> None:
    parse = logic._parse_and_convert

    @lru_cache(maxsize=_GRAMMARS)
    def parsed(text: str) -> Any:
        return parse(text, rule_name="pddlStart")

    def remembered(text: str, rule_name: str) -> Any:
        said = _GOAL.findall(text)
        if len(said) != 1:
            return parse(text, rule_name=rule_name)
        actions, common = parsed(_GOAL.sub('"task": [{"rhs": ""}]', text))
        symbols = textgen._parse_and_convert(json.loads(said[0]), rule_name="symbols")
        grammar = textgen.ContextSensitiveGrammar()
        grammar.update(common)
        grammar._rules[_TASK] = [textgen.ProductionRule(_TASK, symbols, condition="")]
        return actions, grammar

    logic._parse_and_convert = remembered


def _remember_translations(planner: bool) -> None:
    translate = fast_downward.pddl2sas

    @lru_cache(maxsize=2)  # the game being played, for playing and for planning
    def translated(domain: str, problem: str, optimize: bool) -> Any:
        return translate(domain, problem, optimize=optimize)

    def remembered(domain: str, problem: str, verbose: bool = False, optimize: bool = False) -> Any:
        return translated(domain, problem, optimize and planner)

    fast_downward.pddl2sas = remembered
