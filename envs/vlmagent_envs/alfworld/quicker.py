"""Makes textworld's PDDL games quicker in this process without changing what they say.

Three things are computed again and again there: the parse of every template, the parse of every condition, and the
translation of the game's PDDL (four times a start). Here each is remembered. Used in worker processes only.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import fast_downward
from textworld.envs.pddl import textgen
from textworld.logic import Rule

_TEMPLATES = 20_000
_CONDITIONS = 2_000


def install(*, planner: bool) -> None:
    """Remember from now on; to be called once.

    Args:
        planner: keep the second translation, which is for planning; without it the first one takes its place.
    """
    _remember_templates()
    _remember_conditions()
    _remember_translations(planner)


def _remember_templates() -> None:
    parse = textgen._parse_and_convert

    @lru_cache(maxsize=_TEMPLATES)
    def parsed(text: str, rule_name: str) -> Any:
        return parse(text, rule_name=rule_name)

    def remembered(text: str, rule_name: str, **_: Any) -> Any:
        return copy.deepcopy(parsed(text, rule_name))  # the caller writes its context into the symbols

    textgen._parse_and_convert = remembered


def _remember_conditions() -> None:
    Rule.parse_conjunctive_query = staticmethod(lru_cache(maxsize=_CONDITIONS)(Rule.parse_conjunctive_query))


def _remember_translations(planner: bool) -> None:
    translate = fast_downward.pddl2sas

    @lru_cache(maxsize=2)  # the game being played, for playing and for planning
    def translated(domain: str, problem: str, optimize: bool) -> Any:
        return translate(domain, problem, optimize=optimize)

    def remembered(domain: str, problem: str, verbose: bool = False, optimize: bool = False) -> Any:
        return translated(domain, problem, optimize and planner)

    fast_downward.pddl2sas = remembered
