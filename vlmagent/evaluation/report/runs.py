"""Finds the runs, records and evaluations that a table or figure is made of.

Only finished runs of exactly the recipe count.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from vlmagent import paths
from vlmagent.config import Config, load_config
from vlmagent.errors import StoreError, UsageError
from vlmagent.evaluation.report.catalogue import same_study
from vlmagent.evaluation.report.records import Record, RecordSource, config_of, read_records
from vlmagent.evaluation.report.sources import Conditions, RunSource, Source, evaluated
from vlmagent.evaluation.results import EvalResult, result_of
from vlmagent.paths import Run
from vlmagent.runs import folders, status
from vlmagent.store.reader import StoreReader

REPRODUCED = "reproduce"
"""The folder under the runs folder that ``vlmagent reproduce`` fills."""


class Library:
    """All runs under the runs folder, and under the folder that ``reproduce`` fills.

    Args:
        records: folder of records that stand for runs which are not here; None for none.

    Raises:
        UsageError: a file among the records is none.
    """

    def __init__(self, records: Path | None = None) -> None:
        self.records = read_records(records) if records else []
        # both: a run that was started by hand counts like one that `reproduce` made
        self.runs = [*folders.all_runs(), *folders.all_runs(paths.runs_dir() / REPRODUCED)]

    @cached_property
    def _configs(self) -> list[tuple[Run, Config]]:
        found = []
        for run in self.runs:
            try:
                found.append((run, load_config(run.config_file)))
            except UsageError:
                continue  # a broken run must not hide the others
        return found

    def find(self, expected: Config) -> Run | None:
        """The newest finished run of a config."""
        # the runs are sorted newest first within each folder
        for run, config in self._configs:
            if same_study(config, expected) and status.run_state(run) == "done":
                return run
        return None

    def source(self, expected: Config, conditions: Conditions, *, start: bool) -> Source | None:
        """What a finished run of a config says: its folder or, if that was not evaluated like this, a record.

        Args:
            start: whether its supervised start has to be evaluated too.
        """
        run = self.find(expected)
        # the folder before a record: it has more in it (every transition)
        own: list[Source] = [RunSource(run, expected)] if run else []
        known = [
            RecordSource(record, expected)
            for record, config in self._recorded
            # a record without curves is of a system that was not trained
            if record.curves and same_study(config, expected)
        ]
        whole = (source for source in [*own, *known] if complete(source, conditions, start=start))
        # an incomplete folder still says what is missing; an incomplete record does not help
        return next(whole, own[0] if own else None)

    @cached_property
    def _recorded(self) -> list[tuple[Record, Config]]:
        pairs = [(record, config_of(record)) for record in self.records]
        return [(record, config) for record, config in pairs if config is not None]

    def baselines(self, expected: Config, conditions: Conditions) -> dict[str, EvalResult]:
        """Newest results of systems that were not trained, by name, on this config's task, rules and options."""
        found: dict[str, EvalResult] = {}
        for config, result in self._evaluations:
            same = (config.get("task"), config.get("rule_set"), config.get("env")) == (
                expected.task,
                expected.rule_set,
                expected.env,
            )
            # an agent with a prompt depends on it; chance and experts read none
            prompted = result.requests is None or config.get("cot") == expected.cot
            if same and prompted and result.checkpoint is None and conditions.met_by(result):
                # newest first: the first one found stays
                found.setdefault(result.system, result)
        return found

    @cached_property
    def _evaluations(self) -> list[tuple[dict[str, Any], EvalResult]]:
        """Configs and results of all finished evaluations, newest first."""
        places = [Run(paths.runs_dir()), *self.runs]  # baselines without a run lie beside the runs
        files = [file for place in places for file in place.evaluations.glob("*.db")]
        # by the file's name, which begins with the time, whatever folder it is in
        found = list(_read_all(sorted(files, key=lambda file: file.name, reverse=True)))
        recorded = [(r.settings, e.result) for r in self.records if not r.curves for e in r.evaluations]
        return [*found, *recorded]


def complete(source: Source, conditions: Conditions, *, start: bool) -> bool:
    """Whether a run's end, and its start if that is wanted, were evaluated under these conditions."""
    wanted = (False, True) if start else (False,)
    return all(evaluated(source, conditions, start=which) is not None for which in wanted)


def _read_all(files: list[Path]) -> Iterator[tuple[dict[str, Any], EvalResult]]:
    for file in files:
        try:
            with StoreReader(file) as reader:
                run = reader.run()
                row = next(iter(reader.evaluations()), None)
            if run is not None and row is not None:
                yield json.loads(run.config_json), result_of(row.more)
        except (StoreError, ValueError, TypeError):
            continue  # an evaluation that was only begun, or of an old version
