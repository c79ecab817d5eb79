"""Writes a record of every finished and evaluated run that a table or figure is made of."""

from __future__ import annotations

from pathlib import Path

from vlmagent.evaluation.report.catalogue import RL, essence, expected_config, folder_name
from vlmagent.evaluation.report.collect import Collection, Trained
from vlmagent.evaluation.report.records import record_baseline, record_run, write_record
from vlmagent.evaluation.report.sources import RunSource
from vlmagent.evaluation.results import EvalResult


def write_records(found: Collection, folder: Path) -> list[Path]:
    """Records of what was found in run folders, and of systems that were not trained.

    Args:
        found: what a table or figure is made of.
        folder: where they go.

    Returns:
        The files that were written.

    Raises:
        UsageError: the folder cannot be written.
    """
    overrides = found.options.overrides
    files = []
    for study in found.studies:
        for run in study.runs:
            if _worth_keeping(run):
                name = folder_name(study.task, study.variant, run.seed, overrides)
                # without defaults: a setting that a later version adds does not rename old records
                what = essence(run.source.config, defaults=False)
                files.append(write_record(folder, name, record_run(run.source), what))
    for task, results in found.baselines.items():
        files += [_keep_baseline(found, task, result, folder) for result in results.values()]
    return files


def _worth_keeping(run: Trained) -> bool:
    # a record is not recorded again: only what lies here as a run
    return isinstance(run.source, RunSource) and run.end is not None and run.curve is not None


def _keep_baseline(found: Collection, task: str, result: EvalResult, folder: Path) -> Path:
    config = expected_config(task, RL, 0, found.options.overrides)
    assert config is not None
    played = [config.rule_set, config.env, config.cot, result.episodes + result.errors, result.seed]
    return write_record(folder, f"{task}-{result.system}", record_baseline(config, result), played)
