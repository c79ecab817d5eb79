"""PPO updates of one run: collect, update, log, save; and how an interrupted one goes on.

A run continues from its newest checkpoint: what the database holds beyond it is not sampled again but replayed, so that
nothing logged is lost and an interrupted run ends like one left alone. Knows nothing of how the network came about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from vlmagent.config import Config
from vlmagent.config.changes import steps_in_all
from vlmagent.errors import RunFailedError
from vlmagent.models.batching import MicroBatcher
from vlmagent.models.device import choose_device
from vlmagent.models.policy import Policy
from vlmagent.paths import Run
from vlmagent.seeding import derive, train_episode_seed
from vlmagent.store.reader import StoreReader
from vlmagent.store.restore import restore_transition
from vlmagent.store.rows import RunStatus, TransitionRow
from vlmagent.store.writer import StoreWriter
from vlmagent.tasks.base import Task
from vlmagent.training.checkpoint import (
    Network,
    TrainerState,
    load_network,
    prune,
    save_checkpoint,
)
from vlmagent.training.distributed.ranks import ALONE, Ranks, anyone, part
from vlmagent.training.distributed.shared_store import SharedWriter
from vlmagent.training.learners import learning_rates, make_agent, make_engine, ppo_config
from vlmagent.training.learnt import LearntWatch, Verdict
from vlmagent.training.metrics import EpisodeLog, merged_metrics, rollout_metrics
from vlmagent.training.rl.buffer import RolloutBuffer, Sample
from vlmagent.training.rl.ppo import PpoUpdater
from vlmagent.training.rl.reference import Reference
from vlmagent.training.rollout import Rollout, observation_of
from vlmagent.training.saved import START, find_checkpoint, list_checkpoints
from vlmagent.training.schedule import cosine_factor
from vlmagent.types import Transition, UpdateStats

ShouldStop = Callable[[], bool]
SAMPLER_TOLERANCE = 0.01
SAMPLER_TOLERANCE_BF16 = 0.5
"""How far a token's log-prob may move between sampling and the first scoring, in nats, before a warning."""


@dataclass(frozen=True, slots=True)
class Collected:
    """One update's experience.

    Attributes:
        drift: mean log pi - log pi_start in nats per output; None where nothing measures it.
        env_steps: how many of the transitions were sampled now; the others had been logged before an interruption.
        seconds: how long collecting took, replay included.
    """

    samples: Sequence[Sample]
    drift: float | None
    env_steps: int
    seconds: float


class PpoLoop:
    """The updates of one run in one process. Use it as a context: leaving it closes the environments.

    Args:
        network: what learns; on its device.
        state: where the run stands.
        should_stop: asked after every environment step.
        ranks: see ``Trainer``.
    """

    def __init__(
        self,
        run: Run,
        config: Config,
        task: Task,
        network: Network,
        state: TrainerState,
        writer: StoreWriter | SharedWriter,
        should_stop: ShouldStop,
        ranks: Ranks = ALONE,
    ) -> None:
        self._run = run
        self._config = config
        self._task = task
        self._network = network
        self._state = state
        self._writer = writer
        self._should_stop = should_stop
        self._ranks = ranks
        # env steps are counted, not updates: their length or the goal may have changed since the run was begun
        left = (steps_in_all(config, state.env_steps) - state.env_steps) // config.ppo.steps_per_update
        self._updates = state.update_index + left
        # indices of this process's environments, a stretch without gaps: parts joined by rank are in order
        self._own = part(ranks, config.rollout.num_envs)
        self._agent = make_agent(config, task, network)
        self._rates = learning_rates(config)
        self._engine, scorer = make_engine(config, network, self._agent, ranks)
        # without one the run only begins: AdamW makes its moments in the first step
        if state.optimizer is not None:
            self._engine.load_state_dict(state.optimizer)
        self._updater = PpoUpdater(scorer, self._engine, ppo_config(config), ranks)
        # how often memory had run out when people were last told
        self._shrunk = self._updater.batcher.shrunk
        self._episodes = EpisodeLog()
        self._watch = LearntWatch(writer.path, config.ppo.stop_when)
        self._rollout = Rollout(
            task,
            self._agent,
            num_envs=config.rollout.num_envs,
            split="train",
            # processes with the same seed would draw the same numbers for the same states; the seeds of episodes go
            # by environment and so are those that one process would play
            seed=config.seed if ranks.world == 1 else derive(config.seed, "rank", ranks.rank),
            episode_seeds=lambda env_index, count: train_episode_seed(config.seed, env_index, count),
            sinks=[writer, self._episodes],
            ranks=ranks,
        )

    def __enter__(self) -> PpoLoop:
        return self

    def __exit__(self, *_: object) -> None:
        self._rollout.close()

    def run(self) -> RunStatus:
        """All updates that are left, or as many as the task takes; ``stopped`` when asked to stop before."""
        config = self._config
        if self._state.rollout is None:
            self._begin()
        else:
            self._rollout.restore(self._state.rollout)
        begun = self._stands(self._state.update_index)
        if begun.words and self._state.update_index < self._updates:
            more = "--set ppo.stop_when.success=0 goes on to ppo.env_steps"
            self._writer.event("info", f"learnt already: {begun.words}; {more}")
            return "done"
        reference = self._reference()
        if self._updates:  # none: the supervised start was all that was asked for
            self._writer.event("phase", f"phase: rl ({self._updates} updates)")
        for update in range(self._state.update_index + 1, self._updates + 1):
            # taken before anything of this update is collected: a stop in its middle saves this, and resuming replays
            # from here what is in the log
            boundary = self._rollout.snapshot()
            # sampling needs every weight, of which each process has only a part in ZeRO's stage 3
            with self._engine.whole():
                collected = self._collect(update, reference)
            if collected is None:
                at = int(boundary["steps"])
                # the weights have not moved since the last whole update
                self._save(TrainerState(update - 1, at, boundary, self._engine.state_dict()))
                return "stopped"
            stands = self._stands(update)
            self._improve(update, collected, stands.passed)
            if stands.words or update == self._updates or update % config.checkpoint.every == 0:
                self._save(self._present_state(update))
            if stands.words:
                # not before it is saved: a run that is killed in between would say it twice
                steps = self._rollout.steps
                self._writer.event("info", f"learnt: {stands.words} after {steps:,} env steps; PPO ends here")
                return "done"
        return "done"

    def _stands(self, update: int) -> Verdict:
        """Whether the task is learnt after an update, whose episodes have all ended; the same in every process."""
        self._writer.flush(sync=False)  # what is judged is what the database holds
        found = self._watch.after(update, self._rollout.steps) if self._ranks.rank == 0 else None
        shared = self._ranks.share(found)
        assert shared is not None
        return shared

    def _begin(self) -> None:
        """The first episodes, the critic's units, and the checkpoint that RL starts from."""
        self._rollout.start()
        # the critic's unit is set and its input standardised over all environments' first states
        self._network.value_head.scale.fill_(self._config.ppo.value_scale)
        # complete in the first process alone: the others find nothing here and copy what it measured
        observations = self._ranks.gather([observation_of(slot) for slot in self._rollout.slots])
        with self._engine.whole():
            if observations:
                # all environments' states, not only this process's: the critic reads the same numbers everywhere
                self._agent.calibrate([observation for theirs in observations for observation in theirs])
        self._ranks.copy(self._network.value_head.buffers())
        # `step-0`, which `_reference`, people (`start`) and comparisons look for later
        self._save(self._present_state(0))

    def _reference(self) -> Reference | None:
        """The policy that RL started from, for ``ppo.kl_coef``: its checkpoint is never removed."""
        ppo = ppo_config(self._config)
        if not ppo.kl_coef:
            return None
        folder = find_checkpoint(self._run, START)
        batcher = MicroBatcher(ppo.micro_batch_size, ppo.max_tokens_per_micro_batch)
        network = self._network
        if isinstance(network, Policy) and network.has_adapters:
            # a second copy of the adapters is some hundred megabytes at 7 B, a second model 14 gigabytes
            network.keep_reference(folder)
            return Reference(self._agent, ppo.kl_coef, batcher, network.reference)
        start, _ = load_network(folder, self._config.model)
        start.to(choose_device(self._config.model.device))
        return Reference(make_agent(self._config, self._task, start), ppo.kl_coef, batcher)

    def _present_state(self, update: int) -> TrainerState:
        return TrainerState(update, self._rollout.steps, self._rollout.snapshot(), self._engine.state_dict())

    def _collect(self, update: int, reference: Reference | None) -> Collected | None:
        """One update's samples, logged ones first; None when asked to stop before they were complete."""
        ppo, num_envs = self._config.ppo, self._config.rollout.num_envs
        started = time.monotonic()
        buffer = RolloutBuffer(len(self._own), ppo.steps_per_update // num_envs, self._own.start)
        self._replay(update, buffer)
        replayed = len(buffer)
        while not buffer.full:
            # one process that stopped alone would leave the others waiting in their next exchange
            if anyone(self._ranks, self._should_stop()):
                # steps are committed, but may still wait in the writer's queue
                self._writer.flush()
                return None
            buffer.add(self._rollout.step(update))
            # one transaction for a step of all environments: a killed run leaves whole steps, which `_replay` needs
            self._writer.commit()
        env_steps = (len(buffer) - replayed) * self._ranks.world
        # before `finish`, which empties the buffer
        penalties = reference.penalties(buffer.transitions) if reference else None
        samples = buffer.finish(
            # V(s_T) of episodes that go on in the next update
            self._rollout.values(),
            gamma=ppo.gamma,
            gae_lambda=ppo.gae_lambda,
            penalties=penalties.values if penalties else None,
        )
        drift = penalties.drift if penalties else None
        return Collected(samples, drift, env_steps, time.monotonic() - started)

    def _replay(self, update: int, buffer: RolloutBuffer) -> None:
        """Bring the environments and ``buffer`` to where the log of an interrupted update ends."""
        for logged in self._logged_steps(update):
            # the store has these steps; the metrics of the update do not have their episodes yet
            transitions, differences = self._rollout.replay(logged, sinks=[self._episodes])
            buffer.add(transitions)
            for difference in differences:
                self._writer.event(
                    "warning", f"the environment does not repeat itself under its seed: {difference}"
                )

    def _logged_steps(self, update: int) -> list[list[Transition]]:
        """What was logged of this update before an interruption, by whole steps: this process's share."""
        rows: list[Transition] = []
        # read once and sent, so that all processes replay the same rows
        if self._ranks.rank == 0:
            with StoreReader(self._writer.path) as reader:
                rows = [trainable_transition(row) for row in reader.transitions_of_update(update)]
        rows = self._ranks.share(rows)
        size = self._config.rollout.num_envs
        if len(rows) % size:
            raise RunFailedError(
                f"Update {update} has {len(rows)} logged transitions, no multiple of rollout.num_envs = {size}. "
                "Was the config changed? Resume with the value the run was started with."
            )
        # rows are in the order of their ids: step by step, and in each step by environment
        steps = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [step[self._own.start : self._own.stop] for step in steps]

    def _improve(self, update: int, collected: Collected, passed: Mapping[str, float]) -> None:
        """One PPO update with its log rows; those of ``passed`` are among them."""
        started = time.monotonic()
        samples = collected.samples
        self._writer.advantages(
            update,
            [sample.transition.id for sample in samples],
            [sample.advantage for sample in samples],
            [sample.return_ for sample in samples],
        )
        # `update - 1` have been done: the first one has the full rate; the critic's rate falls by the same factor
        total = self._rates.updates or self._updates
        self._engine.set_lr_factor(cosine_factor(update - 1, total, self._rates.final / self._rates.policy))
        # group 0 is the policy, group 1 the critic (`learners.parameter_groups`)
        self._engine.freeze(0, update <= self._config.ppo.critic_warmup)
        stats = self._updater.update(samples, derive(self._config.seed, "update", update))
        # not only before the next update: frozen weights decode with other rounding, and a run that is resumed in
        # between, whose weights are not frozen, would sample other outputs than one left alone
        self._engine.freeze(0, False)
        values = {f"ppo/{name}": float(value) for name, value in asdict(stats).items()}
        # episodes that ended in the replayed part are among them (see `_replay`)
        own = rollout_metrics([sample.transition for sample in samples], self._episodes.take())
        if collected.drift is not None:
            own["rollout/kl_to_start"] = collected.drift
        values |= {**merged_metrics(self._ranks.gather(own)), **passed}
        updating = time.monotonic() - started
        if (
            collected.env_steps
        ):  # an update that was replayed as a whole tells nothing of the speed of sampling
            values["rollout/env_steps_per_second"] = collected.env_steps / (collected.seconds + updating)
        values["time/collect_seconds"] = collected.seconds
        values["time/update_seconds"] = updating
        self._writer.metrics(update, self._rollout.steps, values)
        self._warn_of_memory()
        if self._ranks.rank == 0:
            self._warn(update, stats)

    def _warn_of_memory(self) -> None:
        """An event when micro-batches of this process had to become smaller."""
        # reported once for each time, by the process that ran out
        batcher = self._updater.batcher
        if batcher.shrunk > self._shrunk:
            self._shrunk = batcher.shrunk
            self._writer.event(
                "warning", f"memory ran out: a micro-batch is now {batcher.describe()} at most"
            )

    def _warn(self, update: int, stats: UpdateStats) -> None:
        """Events about what went less well in an update."""
        if stats.skipped:
            self._writer.event(
                "warning", f"update {update}: {stats.skipped} optimiser steps skipped (not finite)"
            )
        # bfloat16 rounds differently when tokens come one by one
        allowed = SAMPLER_TOLERANCE if self._network.exact else SAMPLER_TOLERANCE_BF16
        if stats.first_ratio_error > allowed:
            self._writer.event(
                "warning",
                f"update {update}: scoring an output again gave token log-probs that differ by up to "
                f"{stats.first_ratio_error:.3g} nats from those of sampling it; expected at most {allowed:g}",
            )

    def _save(self, state: TrainerState) -> None:
        """Write a checkpoint unless there is one of this step, then remove what is not kept."""
        self._writer.flush()  # the database is never behind a checkpoint
        # all processes give their parts of the weights; only the first writes
        with self._engine.whole():
            if self._ranks.rank == 0:
                self._write_checkpoint(state)
        self._ranks.share(None)  # nobody goes on before it is there

    def _write_checkpoint(self, state: TrainerState) -> None:
        # stopped before the first new step: the checkpoint of this step is there already
        if any(folder.name == f"step-{state.env_steps}" for folder in list_checkpoints(self._run)):
            return
        folder = save_checkpoint(self._run, self._network, state)
        self._writer.checkpoint(state.env_steps, folder.relative_to(self._run.path))
        kept = self._config.checkpoint
        prune(self._run, keep_last=kept.keep_last, keep_every=kept.keep_every)


def trainable_transition(row: TransitionRow) -> Transition:
    """A logged transition with its tokens, without which nothing can be learnt from it."""
    if row.token_ids is None or row.token_logprobs is None or row.action_start is None:
        raise RunFailedError(f"Transition {row.id} was logged without tokens; this run cannot be continued.")
    return restore_transition(row)
