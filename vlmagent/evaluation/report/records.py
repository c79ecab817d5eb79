"""Records: small JSON files that stand for finished runs, to keep and to publish where whole databases are too large.

A record holds what tables and figures ask of a run and nothing that tells where it was made.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from vlmagent import __version__
from vlmagent.config import Config
from vlmagent.errors import UsageError
from vlmagent.evaluation.report.catalogue import Measure
from vlmagent.evaluation.report.sources import Curve, Source, counts, planned_end
from vlmagent.evaluation.results import EvalResult
from vlmagent.files import write_text
from vlmagent.store.study import LogprobSums

CURVE_POINTS = 250
"""Points that are kept of a training curve, its peak among them."""
MEASURES: tuple[Measure, ...] = ("success", "return")


class EvaluationRecord(BaseModel):
    """One evaluation, and the log-prob sums of its outputs where they were known."""

    result: EvalResult
    logprobs: LogprobSums | None = None


class CurveRecord(BaseModel):
    """A training curve, thinned."""

    steps: list[float]
    values: list[float]


class Record(BaseModel):
    """A finished run, or evaluations of a system that was not trained: then without curves.

    Attributes:
        version: of the program that wrote it.
        settings: the whole config; kept as it was written, a later program may know other fields.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    version: str
    settings: dict[str, Any]
    evaluations: list[EvaluationRecord]
    curves: dict[Measure, CurveRecord] = {}


class RecordSource:
    """A record of a run as a ``Source``."""

    def __init__(self, record: Record, config: Config) -> None:
        self._record = record
        self._config = config

    @property
    def config(self) -> Config:
        """What it was trained with."""
        return self._config

    @property
    def end(self) -> int:
        """Environment steps of its last checkpoint."""
        if not self._config.ppo.stop_when.success:
            return planned_end(self._config)
        # only evaluations of the start and the end are recorded
        return max((result.env_steps or 0 for result in self.results()), default=0)

    def results(self) -> list[EvalResult]:
        """Every recorded evaluation, oldest first."""
        return [evaluation.result for evaluation in self._record.evaluations]

    def curve(self, measure: Measure) -> Curve | None:
        """The recorded curve."""
        curve = self._record.curves.get(measure)
        return Curve(np.array(curve.steps), np.array(curve.values)) if curve else None

    def logprobs(self, result: EvalResult) -> LogprobSums | None:
        """The recorded sums of an evaluation."""
        return next((e.logprobs for e in self._record.evaluations if e.result == result), None)


def read_records(folder: Path) -> list[Record]:
    """All records in a folder, in the order of their names; none where there is no such folder.

    Raises:
        UsageError: one of its JSON files is no record.
    """
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            found.append(Record.model_validate_json(file.read_bytes()))
        except (OSError, ValidationError) as error:
            problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            raise UsageError(
                f"{file} is no record of a run ({problem}). Move it out of the folder given with --records, which "
                "holds what `vlmagent reproduce --records` wrote and nothing else."
            ) from None
    return found


def config_of(record: Record) -> Config | None:
    """A record's config, or None if it was written by a version with other settings."""
    try:
        return Config.model_validate(record.settings)
    except ValidationError:
        return None


def record_run(source: Source) -> Record:
    """What is to be kept of a finished run: evaluations of its start and its end, and its curves."""
    evaluations = [
        # places tell where it was made and mean nothing elsewhere
        EvaluationRecord(result=_placeless(result), logprobs=source.logprobs(result))
        for result in source.results()
        # evaluations half-way through training are in no table
        if counts(result, source)
    ]
    curves = {measure: curve for measure in MEASURES if (curve := source.curve(measure)) is not None}
    return Record(
        version=__version__,
        settings=source.config.model_dump(mode="json"),
        evaluations=evaluations,
        curves={measure: _thinned(curve) for measure, curve in curves.items()},
    )


def record_baseline(config: Config, result: EvalResult) -> Record:
    """What is to be kept of an evaluation of a system that was not trained."""
    return Record(
        version=__version__,
        settings=config.model_dump(mode="json"),
        evaluations=[EvaluationRecord(result=_placeless(result))],
    )


def _placeless(result: EvalResult) -> EvalResult:
    """Without the paths of the machine that made it."""
    return replace(result, run=None, database=None)


def _thinned(curve: Curve) -> CurveRecord:
    places = np.linspace(0, len(curve.steps) - 1, min(CURVE_POINTS, len(curve.steps)))
    # the peak is printed in tables, so thinning must not lose it
    kept = np.union1d(places.round().astype(int), [int(curve.values.argmax())])
    return CurveRecord(
        # six digits: more than any figure shows, and a file that compresses
        steps=curve.steps[kept].tolist(),
        values=[round(value, 6) for value in curve.values[kept].tolist()],
    )


def write_record(folder: Path, name: str, record: Record, essence: object) -> Path:
    """Write a record under its name and a digest of what it is of; one that is there already is replaced.

    Args:
        essence: what tells this record from others of the same name.

    Raises:
        UsageError: the folder cannot be written.
    """
    # what differs between two records of one name is the recipe; eight digits suffice to tell a few apart
    digest = hashlib.sha256(json.dumps(essence, sort_keys=True).encode()).hexdigest()[:8]
    file = folder / f"{name}-{digest}.json"
    try:
        write_text(file, record.model_dump_json() + "\n")
    except OSError as error:
        raise UsageError(
            f"The record {file.name} could not be written to {folder}: {error.strerror or error}."
        ) from None
    return file
