"""One process of a training, from nothing or a checkpoint to the end: the supervised start, then PPO.

Decides where a run begins; the updates themselves stand in ``loop``.
"""

from __future__ import annotations

import time

import torch

from vlmagent.config import Config
from vlmagent.models.device import choose_device
from vlmagent.paths import Run
from vlmagent.store.rows import RunStatus
from vlmagent.store.writer import StoreWriter
from vlmagent.tasks.registry import task_from_config
from vlmagent.training import preflight
from vlmagent.training.checkpoint import Network, TrainerState, load_network, remove_sft_state
from vlmagent.training.distributed.ranks import ALONE, Ranks
from vlmagent.training.distributed.shared_store import SharedWriter
from vlmagent.training.learners import initial_network, learning_tensors, needs_sft
from vlmagent.training.loop import PpoLoop, ShouldStop
from vlmagent.training.saved import SFT, newest_checkpoint
from vlmagent.training.sft.sft import SftInterruptedError, SftProgress


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
        self._run = run
        self._config = config
        self._writer = writer
        self._should_stop = should_stop
        self._ranks = ranks
        self._task = task_from_config(config)

    def run(self) -> RunStatus:
        """SFT unless there is a checkpoint, then PPO."""
        config = self._config
        if config.model.threads:
            torch.set_num_threads(config.model.threads)
        self._writer.event("phase", "phase: loading")
        # what is wrong with it is wrong in every process
        if self._ranks.rank == 0:
            preflight.check_environment(self._task, config)
        begun = self._resumed() or self._started()
        if begun is None:
            return "stopped"
        network, state = begun
        # a checkpoint's weights were opened in the host's memory
        network.to(choose_device(config.model.device))
        if config.model.name != "tiny" or config.agent != "vlm":
            self._writer.event("info", network.describe())
        loop = PpoLoop(
            self._run, config, self._task, network, state, self._writer, self._should_stop, self._ranks
        )
        with loop:
            return loop.run()

    def _resumed(self) -> tuple[Network, TrainerState] | None:
        """Network and state of the newest checkpoint, if there is one."""
        # the first process chooses: listings of a shared file system may differ for a moment, the weights must not
        newest = self._ranks.share(newest_checkpoint(self._run))
        if newest is None:
            return None
        if self._ranks.rank == 0:
            # a process that was killed while it removed this left gigabytes that nobody reads again
            remove_sft_state(self._run)
        self._writer.event("info", f"resumed from {newest.name}")
        return load_network(newest, self._config.model, self._config.cnn)

    def _started(self) -> tuple[Network, TrainerState] | None:
        """The network that RL starts from, or None when asked to stop before it was there."""
        try:
            network = self._sft()
        except SftInterruptedError:
            return None
        self._ranks.copy(learning_tensors(network))  # only the first process finds it in the cache
        return network, TrainerState(0, 0, None, None)

    def _sft(self) -> Network:
        sft = self._config.sft
        if needs_sft(self._config):
            self._writer.event("phase", f"phase: sft ({sft.all_samples} samples)")
        # a start that was interrupted: the clock of this process saw only the rest of it
        continued = (self._run.checkpoints / SFT).is_dir()
        started = time.monotonic()
        network, cached = initial_network(
            self._config, self._task, self._log_sft, self._should_stop, self._run, self._ranks, self._check
        )
        if needs_sft(self._config):
            took = f"{'the rest of it ' * continued}trained in {time.monotonic() - started:.0f} s"
            origin = "taken from the cache" if cached else took
            self._writer.event("info", f"SFT start: {sft.samples} samples, {origin}")
        return network

    def _check(self, network: Network) -> None:
        """Look now whether the network can act and be saved, before hours go into it."""
        if self._ranks.rank == 0:  # what is wrong is wrong in all processes; one of them ends them all
            size = preflight.check_network(self._config, self._task, network, self._run)
            trained = sum(tensor.numel() * 4 for tensor in learning_tensors(network))  # float32
            preflight.check_room(self._config, self._run, size, trained)

    def _log_sft(self, progress: SftProgress) -> None:
        values = {
            "sft/loss": progress.loss,
            "sft/samples": progress.samples,
            "sft/learning_rate": progress.learning_rate,
        }
        # nothing has been played yet: env step 0, and the optimiser's step in the place of the update
        self._writer.metrics(progress.step, 0, values)
