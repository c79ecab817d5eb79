"""``vlmagent eval``: the same episodes for every system, counted honestly.

Episodes come from seeds that no training run uses (see ``seeding``); outputs are sampled at the configured temperature;
success is the task's. Transitions go into a database of their own, so that they can be replayed, and so that an
evaluation that was interrupted goes on where it stopped and ends like one left alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmagent.agents.api.answers import count_flaws
from vlmagent.config import Config
from vlmagent.errors import RunFailedError, StoreError
from vlmagent.evaluation.results import EvalResult, FinishedEvaluation, evaluation_row, result_of, summary
from vlmagent.evaluation.systems import System
from vlmagent.files import new_file
from vlmagent.paths import Run
from vlmagent.seeding import EvaluationSeeds, derive
from vlmagent.store.reader import StoreReader
from vlmagent.store.restore import restore_transition
from vlmagent.store.writer import StoreWriter, add_evaluation
from vlmagent.tasks.base import Task, offers_of
from vlmagent.training.rollout import Rollout
from vlmagent.training.tally import Outcome, Tally
from vlmagent.types import Transition

PAPER_EPISODES = 200
"""Episodes of the paper's evaluations, unless a task has its own ``eval_episodes`` (C.2)."""


class InterruptedEvaluationError(Exception):
    """The caller asked to stop. What was played is kept: ``resume`` continues from ``database``."""

    def __init__(self, database: Path | None, done: int) -> None:
        super().__init__(f"stopped after {done} episodes")
        self.database = database
        self.done = done


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """Which episodes a system is to play.

    Attributes:
        config: rules, batch size and what else is stored with the result.
        task: what is played.
        system: who plays.
        episodes: how many.
        seed: chooses them: equal seeds give equal episodes for every system.
        run: gets the result into its database; None for baselines on their own.
        folder: where the transitions' database goes; None keeps none.
    """

    config: Config
    task: Task
    system: System
    episodes: int
    seed: int
    run: Run | None = None
    folder: Path | None = None

    @property
    def num_envs(self) -> int:
        """Episodes played side by side."""
        # no more environments than episodes: the rest would be made and never played
        return min(self.system.num_envs or self.config.eval.num_envs, self.episodes)

    @property
    def fingerprint(self) -> str:
        """Digest of everything the result depends on: equal ones may continue each other."""
        config, system = self.config, self.system
        parts = [config.task, config.rule_set, config.cot, config.env, config.rollout.max_new_tokens]
        parts += [system.name, system.checkpoint, system.env_steps, system.model, system.identity]
        parts += [self.episodes, self.seed, system.temperature, self.num_envs]
        # str for what JSON does not know: two values that print alike are alike
        # 24 hexadecimal digits, 96 bits: far beyond any chance of two alike
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


EvaluationSteps = Generator[int, None, FinishedEvaluation]


def evaluate(
    plan: EvaluationPlan,
    *,
    resume: Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FinishedEvaluation:
    """``evaluation_steps`` from the first to the last."""
    steps = evaluation_steps(plan, resume=resume, should_stop=should_stop)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: FinishedEvaluation = end.value
            return found


def evaluation_steps(
    plan: EvaluationPlan,
    *,
    resume: Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> EvaluationSteps:
    """Play the episodes and count; a generator, so that whoever waits can show how far it is.

    Args:
        resume: database of an interrupted evaluation with the same fingerprint.
        should_stop: asked after every step of all environments.

    Yields:
        How many episodes have ended, each time that some have.

    Returns:
        The result and every episode.

    Raises:
        InterruptedEvaluationError: ``should_stop`` answered True.
        RunFailedError: an API allows no further request, or no episode has a result. What was played is kept.
    """
    # the same file goes on: the transitions in it are replayed and not played again
    database = resume or (_new_database(plan) if plan.folder else None)
    if database is None:
        started = time.monotonic()
        tally = Tally()
        yield from _play(plan, tally, None, [], should_stop)
        return _finish(plan, tally, None, time.monotonic() - started)
    logged, seconds = _logged(database) if resume else ([], 0.0)
    with StoreWriter(database, journal_mode=plan.config.store.journal_mode) as writer:
        return (yield from _evaluate_into(writer, plan, logged, seconds, should_stop))


def _evaluate_into(
    writer: StoreWriter,
    plan: EvaluationPlan,
    logged: Sequence[Transition],
    seconds: float,
    should_stop: Callable[[], bool],
) -> EvaluationSteps:
    """Play into an open database; its status tells how it ended, whatever happens."""
    about = {"fingerprint": plan.fingerprint, "system": plan.system.name, "episodes": plan.episodes}
    # the config and what identifies this evaluation, from which `find_earlier` knows it again
    document = {**plan.config.model_dump(mode="json"), "evaluation": about}
    writer.start_run(
        str(plan.run or plan.folder),
        plan.config.task,
        plan.system.model or plan.system.name,
        json.dumps(document),
        plan.seed,
    )
    writer.set_status("running")
    # what was answered before is not asked, or paid for, once more
    if plan.system.use_journal:
        with StoreReader(writer.path) as reader:
            plan.system.use_journal(reader.answers(), writer.answer)
    started = time.monotonic()
    tally = Tally()
    try:
        yield from _play(plan, tally, writer, logged, should_stop)
        evaluation = _finish(plan, tally, writer.path, seconds + time.monotonic() - started)
    except (InterruptedEvaluationError, RunFailedError) as error:
        # these two leave something to continue; any other error is a mistake, and the database says `running`
        writer.event("info", f"stopped: {error}")
        writer.set_status("stopped")
        raise
    # after the episodes, in order: a database with this row is a finished evaluation (`finished`)
    writer.evaluation(evaluation_row(evaluation.result))
    writer.set_status("done")
    writer.flush()
    if plan.run:  # its own process may be writing there: a row in one transaction is all that others may add
        add_evaluation(plan.run.database, evaluation_row(evaluation.result))
    return evaluation


def _play(
    plan: EvaluationPlan,
    tally: Tally,
    writer: StoreWriter | None,
    logged: Sequence[Transition],
    should_stop: Callable[[], bool],
) -> Iterator[int]:
    """Step until every episode has ended, logged steps first; yields how many have."""
    rollout = Rollout(
        plan.task,
        plan.system.agent,
        num_envs=plan.num_envs,
        split="eval",
        seed=derive(plan.seed, "evaluation sampling"),
        episode_seeds=EvaluationSeeds(plan.seed, plan.episodes, plan.num_envs),
        sinks=[tally, writer] if writer else [tally],
    )
    try:
        rollout.start()
        # before stepping: the environments have to be where the log ends
        for step in _steps(logged):
            for difference in rollout.replay(step, [tally])[1]:
                if writer:
                    writer.event("warning", f"the environment does not repeat itself: {difference}")
        shown = 0
        while rollout.active:
            # between steps, where all environments stand still and the log is whole
            if should_stop():
                raise InterruptedEvaluationError(writer.path if writer else None, tally.done)
            rollout.step()
            if writer:
                writer.commit()  # after each step: a killed evaluation loses at most one, and resumes at its start
            if tally.done > shown:
                shown = tally.done
                yield shown
    finally:
        rollout.close()


def _logged(database: Path) -> tuple[list[Transition], float]:
    """What an interrupted evaluation played, and for how long."""
    with StoreReader(database) as reader:
        failures = reader.failures()
        rows = reader.transitions_after(0, -1)
        run = reader.run()
    # the heart beat until the earlier process ended, so this is how long it worked
    seconds = run.heartbeat_at - run.created_at if run else 0.0
    return [restore_transition(row, failures.get(row.id)) for row in rows], max(seconds, 0.0)


def _steps(logged: Sequence[Transition]) -> list[list[Transition]]:
    """Transitions by the step they were made in: within one, ``env_index`` grows."""
    # all active environments step together, in order: an index that does not grow begins the next step
    steps: list[list[Transition]] = []
    for transition in logged:
        if not steps or transition.env_index <= steps[-1][-1].env_index:
            steps.append([])
        steps[-1].append(transition)
    return steps


def default_episodes(config: Config, task: Task) -> int:
    """Episodes that the config asks for, or else the paper's number for the task."""
    return config.eval.episodes or offers_of(task).eval_episodes or PAPER_EPISODES


def _new_database(plan: EvaluationPlan) -> Path:
    """A new file for one evaluation's transitions."""
    assert plan.folder is not None
    # names of endpoints hold colons and slashes
    system = "".join(c if (c.isascii() and c.isalnum()) or c in "-_." else "-" for c in plan.system.name)
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{system[:60]}-{plan.system.checkpoint or 'baseline'}"
    try:
        return new_file(plan.folder, stem, ".db")
    except OSError as error:
        raise StoreError(
            f"The evaluation could not be written to {plan.folder}: {error.strerror or error}. "
            "Choose another place with $VLMAGENT_RUNS."
        ) from None


def find_earlier(plan: EvaluationPlan) -> Path | None:
    """The newest database of an evaluation with the same fingerprint, finished or not."""
    if plan.folder is None:
        return None
    # names begin with the time, so reverse order is newest first
    for database in sorted(plan.folder.glob("*.db"), reverse=True):
        try:
            with StoreReader(database) as reader:
                run = reader.run()
            about = json.loads(run.config_json).get("evaluation", {}) if run else {}
        except (StoreError, ValueError):
            continue
        if about.get("fingerprint") == plan.fingerprint:
            return database
    return None


def finished(database: Path) -> FinishedEvaluation | None:
    """The evaluation in a database as it was when it ended; None when it has not.

    Raises:
        StoreError: it cannot be read.
    """
    with StoreReader(database) as reader:
        row = next(iter(reader.evaluations()), None)
        if row is None:
            return None
        played = reader.episodes(split="eval", order="oldest", limit=-1)
        broken = {t.episode_id for t in map(reader.transition, reader.failures()) if t}
    outcomes = [
        Outcome(e.seed, bool(e.success), e.episode_return or 0.0, bool(e.goal), e.length or 0)
        for e in played
        if e.ended not in ("running", "lost") and e.id not in broken
    ]
    return FinishedEvaluation(result_of(row.more), tuple(sorted(outcomes, key=lambda o: o.seed)))


def _finish(plan: EvaluationPlan, tally: Tally, database: Path | None, seconds: float) -> FinishedEvaluation:
    """The result of a complete tally."""
    # episodes end in another order with another number of environments; their seeds do not change
    outcomes = tuple(sorted(tally.outcomes, key=lambda o: o.seed))
    if not outcomes:
        raise RunFailedError(f"None of the {tally.errors} episodes of {plan.system.name} has a result.")
    numbers = summary(outcomes, plan.seed)
    kinds = sorted({o.kind for o in outcomes if o.kind is not None})
    where = database  # below the run's folder relative to it, so that the run can be moved
    if database and plan.run and database.is_relative_to(plan.run):
        where = database.relative_to(plan.run)
    result = EvalResult(
        task=plan.config.task,
        system=plan.system.name,
        rule_set=plan.config.rule_set,
        legal_rate=tally.legal_rate,
        seed=plan.seed,
        checkpoint=plan.system.checkpoint,
        env_steps=plan.system.env_steps,
        model=plan.system.model,
        temperature=plan.system.temperature,
        run=str(plan.run) if plan.run else None,
        database=str(where) if where else None,
        seconds=seconds,
        training_seed=plan.config.seed if plan.system.checkpoint else None,
        errors=tally.errors,
        by_type={kind: summary([o for o in outcomes if o.kind == kind], plan.seed) for kind in kinds} or None,
        **numbers,
        **_spent(database, plan.system),
    )
    return FinishedEvaluation(result, outcomes)


def _spent(database: Path | None, system: System) -> dict[str, Any]:
    """Requests, cost and useless answers of an API."""
    if system.use_journal is None or database is None:
        return {}
    with StoreReader(database) as reader:
        rows = reader.answers()
    flaws = count_flaws(rows)
    return {
        "requests": sum(row.attempts for row in rows),
        "refusals": flaws["refused"],
        "cut": flaws["cut"],
        "empty": flaws["empty"],
        "cost": sum(row.cost for row in rows),
    }
