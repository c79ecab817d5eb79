"""``vlmagent train``: SFT start, then PPO, everything logged; what the daemon runs.

Assembles task, policy, rollout, updater, store and checkpoints. A run continues from its newest checkpoint: what the
database holds beyond it is not sampled again but replayed, so that nothing logged is lost and an interrupted run ends
like one left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch

from vlmagent.config import Config
from vlmagent.errors import RunFailedError
from vlmagent.models.device import choose_device
from vlmagent.paths import Run
from vlmagent.seeding import derive, train_episode_seed
from vlmagent.store.reader import StoreReader
from vlmagent.store.restore import restore_transition
from vlmagent.store.rows import RunStatus, TransitionRow
from vlmagent.store.writer import StoreWriter
from vlmagent.tasks.registry import task_from_config
from vlmagent.training.checkpoint import (
    Network,
    TrainerState,
    find_checkpoint,
    list_checkpoints,
    load_network,
    prune,
    save_checkpoint,
)
from vlmagent.training.distributed.ranks import ALONE, Ranks, anyone, part
from vlmagent.training.distributed.shared_store import SharedWriter
from vlmagent.training.learners import (
    initial_network,
    learning_rates,
    learning_tensors,
    make_agent,
    make_engine,
    needs_sft,
    ppo_config,
)
from vlmagent.training.metrics import EpisodeLog, merged_metrics, rollout_metrics
from vlmagent.training.rl.buffer import RolloutBuffer, Sample
from vlmagent.training.rl.ppo import PpoUpdater
from vlmagent.training.rl.reference import Reference
from vlmagent.training.rollout import Rollout, observation_of
from vlmagent.training.schedule import cosine_factor
from vlmagent.training.sft.sft import SftInterruptedError, SftProgress
from vlmagent.types import Transition, UpdateStats

ShouldStop = Callable[[], bool]
SAMPLER_TOLERANCE = 0.01
SAMPLER_TOLERANCE_BF16 = 0.5
"""How far a token's log-prob may move between sampling and the first scoring, in nats, before a warning."""


class Trainer:
    """One training process.

    Args:
        run: the run's folder.
        config: the resolved recipe.
        writer: the run's open database.
        should_stop: see ``train``.
        ranks: the processes that train this run together. All of them do the same steps in the same order, each with
            its own share of the environments; the first one writes.
    """

    def __init__(
        self,
        run: Run,
        config: Config,
        writer: StoreWriter | SharedWriter,
        should_stop: ShouldStop,
        ranks: Ranks = ALONE,
    ) -> None:
        self.path = run
        self.config = config
        self.writer = writer
        self.should_stop = should_stop
        self.ranks = ranks
        self.own = part(ranks, config.rollout.num_envs)
        self.task = task_from_config(config)
        if config.model.threads:
            torch.set_num_threads(config.model.threads)

    def run(self) -> RunStatus:
        """SFT unless there is a checkpoint, then PPO."""
        self.writer.event("phase", "phase: loading")
        newest = self.ranks.share(list_checkpoints(self.path)[-1:])
        if newest:
            policy, state = load_network(newest[0], self.config.model)
            self.writer.event("info", f"resumed from {newest[0].name}")
        else:
            fresh = self._start()
            if fresh is None:
                return "stopped"
            policy, state = fresh, TrainerState(0, 0, None, None)
        policy.to(choose_device(self.config.model.device))
        if self.config.model.name != "tiny" or self.config.agent != "vlm":
            self.writer.event("info", policy.describe())
        return self._rl(policy, state)

    def _start(self) -> Network | None:
        """The network that RL starts from, or None when asked to stop before it was there."""
        try:
            policy = self._sft()
        except SftInterruptedError:
            return None
        self.ranks.copy(learning_tensors(policy))  # only the first process finds it in the cache
        return policy

    def _sft(self) -> Network:
        sft = self.config.sft
        if needs_sft(self.config):
            self.writer.event("phase", f"phase: sft ({sft.all_samples} samples)")
        started = time.monotonic()
        policy, cached = initial_network(
            self.config, self.task, self._log_sft, self.should_stop, self.path, self.ranks
        )
        if not needs_sft(self.config):
            return policy
        origin = "taken from the cache" if cached else f"trained in {time.monotonic() - started:.0f} s"
        self.writer.event("info", f"SFT start: {sft.samples} samples, {origin}")
        return policy

    def _log_sft(self, progress: SftProgress) -> None:
        values = {
            "sft/loss": progress.loss,
            "sft/samples": progress.samples,
            "sft/learning_rate": progress.learning_rate,
        }
        self.writer.metrics(progress.step, 0, values)

    def _rl(self, policy: Network, state: TrainerState) -> RunStatus:
        """PPO updates from ``state`` on."""
        config = self.config
        self.policy = policy
        self.agent = make_agent(config, self.task, policy)
        self.rates = learning_rates(config)
        self.engine, scorer = make_engine(config, policy, self.agent, self.ranks)
        if state.optimizer is not None:
            self.engine.load_state_dict(state.optimizer)
        self.updater = PpoUpdater(scorer, self.engine, ppo_config(config), self.ranks)
        self._shrunk = 0
        self.episodes = EpisodeLog()
        self.rollout = Rollout(
            self.task,
            self.agent,
            num_envs=config.rollout.num_envs,
            split="train",
            seed=config.seed if self.ranks.world == 1 else derive(config.seed, "rank", self.ranks.rank),
            episode_seeds=lambda env_index, count: train_episode_seed(config.seed, env_index, count),
            sinks=[self.writer, self.episodes],
            ranks=self.ranks,
        )
        try:
            return self._updates(state)
        finally:
            self.rollout.close()

    def _updates(self, state: TrainerState) -> RunStatus:
        if state.rollout is None:
            self.rollout.start()
            self._calibrate()
            self._save(TrainerState(0, 0, self.rollout.snapshot(), self.engine.state_dict()))
        else:
            self.rollout.restore(state.rollout)
        self.reference = self._reference()
        if self.config.num_updates:  # none: the supervised start was all that was asked for
            self.writer.event("phase", f"phase: rl ({self.config.num_updates} updates)")
        for update in range(state.update_index + 1, self.config.num_updates + 1):
            boundary = self.rollout.snapshot()
            started = time.monotonic()
            samples = self._collect(update)
            if samples is None:
                self._save(
                    TrainerState(update - 1, int(boundary["steps"]), boundary, self.engine.state_dict())
                )
                return "stopped"
            self._update(update, samples, started)
        return "done"

    def _calibrate(self) -> None:
        """Set the critic's unit and standardise its input over all environments' first states."""
        self.policy.value_head.scale.fill_(self.config.ppo.value_scale)
        observations = self.ranks.gather([observation_of(slot) for slot in self.rollout.slots])
        with self.engine.whole():
            if observations:
                self.agent.calibrate([observation for theirs in observations for observation in theirs])
        self.ranks.copy(self.policy.value_head.buffers())

    def _collect(self, update: int) -> list[Sample] | None:
        """One update's samples, logged ones first; None when asked to stop before they were complete."""
        with self.engine.whole():
            return self._collected(update)

    def _collected(self, update: int) -> list[Sample] | None:
        ppo = self.config.ppo
        buffer = RolloutBuffer(
            len(self.own), ppo.steps_per_update // self.config.rollout.num_envs, self.own.start
        )
        for logged in self._logged_steps(update):
            transitions, differences = self.rollout.replay(logged)
            buffer.add(transitions)
            for difference in differences:
                self.writer.event(
                    "warning", f"the environment does not repeat itself under its seed: {difference}"
                )
        while not buffer.full:
            if anyone(self.ranks, self.should_stop()):
                self.writer.flush()
                return None
            buffer.add(self.rollout.step(update))
            self.writer.commit()
        penalties = self.reference.penalties(buffer.transitions) if self.reference else None
        self.drift = penalties.drift if penalties else None
        return buffer.finish(
            self.rollout.values(),
            gamma=ppo.gamma,
            gae_lambda=ppo.gae_lambda,
            penalties=penalties.values if penalties else None,
        )

    def _reference(self) -> Reference | None:
        """The policy that RL started from, for ``ppo.kl_coef``: its checkpoint is never removed."""
        ppo = ppo_config(self.config)
        if not ppo.kl_coef:
            return None
        start, _ = load_network(find_checkpoint(self.path, "start"), self.config.model)
        start.to(choose_device(self.config.model.device))
        return Reference(make_agent(self.config, self.task, start), ppo.kl_coef, ppo.micro_batch_size)

    def _logged_steps(self, update: int) -> list[list[Transition]]:
        """What was logged of this update before an interruption, by whole steps: this process's share."""
        rows: list[Transition] = []
        if self.ranks.rank == 0:
            with StoreReader(self.writer.path) as reader:
                rows = [trainable_transition(row) for row in reader.transitions_of_update(update)]
        rows = self.ranks.share(rows)
        size = self.config.rollout.num_envs
        if len(rows) % size:
            raise RunFailedError(
                f"Update {update} has {len(rows)} logged transitions, no multiple of rollout.num_envs = {size}. "
                "Was the config changed? Resume with the value the run was started with."
            )
        steps = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [step[self.own.start : self.own.stop] for step in steps]

    def _update(self, update: int, samples: Sequence[Sample], started: float) -> None:
        """One PPO update with its log rows and, when due, a checkpoint."""
        ppo = self.config.ppo
        collected = time.monotonic()
        self.writer.advantages(
            update,
            [sample.transition.id for sample in samples],
            [sample.advantage for sample in samples],
            [sample.return_ for sample in samples],
        )
        total = self.rates.updates or self.config.num_updates
        self.engine.set_lr_factor(cosine_factor(update - 1, total, self.rates.final / self.rates.policy))
        self.engine.freeze(0, update <= ppo.critic_warmup)
        stats = self.updater.update(samples, derive(self.config.seed, "update", update))
        values = {f"ppo/{name}": float(value) for name, value in asdict(stats).items()}
        own = rollout_metrics([sample.transition for sample in samples], self.episodes.take())
        if self.drift is not None:
            own["rollout/kl_to_start"] = self.drift
        values |= merged_metrics(self.ranks.gather(own))
        finished = time.monotonic()
        values["rollout/env_steps_per_second"] = ppo.steps_per_update / (finished - started)
        values["time/collect_seconds"] = collected - started
        values["time/update_seconds"] = finished - collected
        self.writer.metrics(update, self.rollout.steps, values)
        self._warn_of_memory()
        if self.ranks.rank == 0:
            self._warn(update, stats)
        last = update == self.config.num_updates
        if last or update % self.config.checkpoint.every == 0:
            self._save(
                TrainerState(update, self.rollout.steps, self.rollout.snapshot(), self.engine.state_dict())
            )

    def _warn_of_memory(self) -> None:
        """An event when micro-batches of this process had to become smaller."""
        batcher = self.updater.batcher
        if batcher.shrunk > self._shrunk:
            self._shrunk = batcher.shrunk
            self.writer.event("warning", f"memory ran out: a micro-batch is now {batcher.describe()} at most")

    def _warn(self, update: int, stats: UpdateStats) -> None:
        """Events about what went less well in an update."""
        if stats.skipped:
            self.writer.event(
                "warning", f"update {update}: {stats.skipped} optimiser steps skipped (not finite)"
            )
        allowed = SAMPLER_TOLERANCE if self.policy.exact else SAMPLER_TOLERANCE_BF16
        if stats.first_ratio_error > allowed:
            self.writer.event(
                "warning",
                f"update {update}: scoring an output again gave token log-probs that differ by up to "
                f"{stats.first_ratio_error:.3g} nats from those of sampling it; expected at most {allowed:g}",
            )

    def _save(self, state: TrainerState) -> None:
        """Write a checkpoint unless there is one of this step, then remove what is not kept."""
        self.writer.flush()  # the database is never behind a checkpoint
        with self.engine.whole():
            if self.ranks.rank == 0:
                self._write_checkpoint(state)
        self.ranks.share(None)  # nobody goes on before it is there

    def _write_checkpoint(self, state: TrainerState) -> None:
        if any(folder.name == f"step-{state.env_steps}" for folder in list_checkpoints(self.path)):
            return
        folder = save_checkpoint(self.path, self.policy, state)
        self.writer.checkpoint(state.env_steps, folder.relative_to(self.path))
        prune(self.path, keep_last=self.config.checkpoint.keep_last, keep=kept_steps(self.config))


def kept_steps(config: Config) -> set[int]:
    """Environment steps whose checkpoints are never removed: the start, and every ``keep_every`` updates."""
    every = config.checkpoint.keep_every
    updates = range(every, config.num_updates + 1, every) if every else ()
    return {0, *(update * config.ppo.steps_per_update for update in updates)}


def trainable_transition(row: TransitionRow) -> Transition:
    """A logged transition with its tokens, without which nothing can be learnt from it."""
    if row.token_ids is None or row.token_logprobs is None or row.action_start is None:
        raise RunFailedError(f"Transition {row.id} was logged without tokens; this run cannot be continued.")
    return restore_transition(row)
