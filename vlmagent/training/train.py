"""``vlmagent train``: opens the run's database, trains, records how that ended; what the daemon runs."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from pathlib import Path

from vlmagent.config import Config, load_config
from vlmagent.errors import VlmAgentError, explain
from vlmagent.models.batching import is_out_of_memory
from vlmagent.paths import Run
from vlmagent.store.rows import RunStatus
from vlmagent.store.writer import StoreWriter, mark_failed
from vlmagent.training.changes import changes_of, standing_of
from vlmagent.training.learners import network_name
from vlmagent.training.loop import ShouldStop
from vlmagent.training.trainer import Trainer


def train(run: Run, should_stop: ShouldStop) -> RunStatus:
    """Train the run in folder ``run`` until done or asked to stop; continue it if it has checkpoints.

    Args:
        run: holds ``config.yaml``; everything else is written here.
        should_stop: asked after every environment step and SFT step.

    Returns:
        ``done`` or ``stopped``. On any error the run is marked ``failed`` in the database and the error goes on.
    """
    try:
        config = load_config(run.config_file)
        return recorded(run, config, lambda writer: Trainer(run, config, writer, should_stop).run())
    # KeyboardInterrupt and SystemExit too: nobody is left who could say that the run no longer goes on
    except BaseException as error:
        mark_failed(run.database, failure_text(error))
        raise


def recorded(run: Run, config: Config, work: Callable[[StoreWriter], RunStatus]) -> RunStatus:
    """Do ``work`` with the run's database open; how it began and ended is recorded, but not how it failed.

    Raises:
        UsageError: the config says something else than what the run was trained with, and no longer can.
    """
    with StoreWriter(
        run.database, journal_mode=config.store.journal_mode, queue_size=config.store.queue_size
    ) as writer:
        changes, at = changes_of(run, config), standing_of(run).saved  # before the row says the new config
        writer.start_run(
            run.resolve().name,
            config.task,
            network_name(config),
            json.dumps(config.model_dump(mode="json")),
            config.seed,
        )
        writer.set_status("running")
        for change in changes:
            writer.event("info", f"config changed at env step {at}: {change}")
        if writer.journal_mode != config.store.journal_mode:
            writer.event(
                "warning",
                f"store.journal_mode = {config.store.journal_mode} has to wait: somebody has the database open, whose "
                f"journal is {writer.journal_mode}. It takes effect at the next start without them.",
            )
        # an error passes by the lines below: `train` records it once the writer is closed
        status = work(writer)
        writer.event("info", f"training {status}")
        writer.set_status(status)
        writer.flush()
    return status


def failure_text(error: BaseException) -> str:
    """What the database says about a failure: our sentences as they are, foreign errors with their last frame."""
    if isinstance(error, VlmAgentError):
        return str(error)
    if is_out_of_memory(error):
        return (
            f"Out of memory: {error}. Lower rollout.max_new_tokens or ppo.micro_batch_size, or set "
            "model.activation_checkpointing=true, and resume. A lower rollout.num_envs needs a new run."
        )
    # the innermost frame: where the foreign code was when it failed
    frames = traceback.extract_tb(error.__traceback__)
    where = f" (at {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{explain(error)}{where}"
