"""What a run's config says now, against what the run was trained with: refused, or known key by key.

Asked before a run goes on, by the command line before it writes anything and by the training process itself, since a
config is a file that people edit. Never imports torch.
"""

from __future__ import annotations

import json

from vlmagent.config import Config
from vlmagent.config.changes import Change, Standing, check_changes
from vlmagent.config.validation import validate
from vlmagent.errors import StoreError, UsageError
from vlmagent.paths import TRAINER, Run
from vlmagent.store.reader import NotReadyError, StoreReader
from vlmagent.training.saved import SFT, newest_checkpoint, steps_of


def trained_config(run: Run) -> Config | None:
    """The config that the run was trained with last, as its database has it; None where it has none that is readable.

    The database and not ``config.yaml``: the file may have been edited, or written by a command that then failed. A
    damaged database, none yet, and the config of another version all count as none.
    """
    try:
        with StoreReader(run.database) as reader:
            row = reader.run()
        return None if row is None else validate(Config, json.loads(row.config_json))
    except (StoreError, UsageError, ValueError):
        return None


def standing_of(run: Run) -> Standing:
    """How far a run is."""
    newest = newest_checkpoint(run)
    logged: int | None = 0
    if run.database.is_file():
        try:
            with StoreReader(run.database) as reader:
                logged = reader.env_steps()
        # the file is there before its tables are
        except NotReadyError:
            logged = 0
        except StoreError:  # damaged, or of an older schema, which is brought up to date when the run goes on
            logged = None
    # an interrupted supervised start: weights that come from the config, though no step was logged
    sft = (run.checkpoints / SFT / TRAINER).is_file()
    return Standing(
        # None counts as begun: what cannot be read may hold steps
        begun=newest is not None or sft or logged != 0,
        saved=0 if newest is None else steps_of(newest),
        logged=logged,
    )


def changes_of(run: Run, config: Config, old: Config | None = None) -> list[Change]:
    """In what ``config`` differs from what the run was trained with.

    Args:
        old: what counts as that where the database has none; None: nothing was trained with anything yet.

    Raises:
        UsageError: something in it can no longer change; see ``config.changes``.
    """
    before = trained_config(run) or old
    if before is None:
        return []
    return check_changes(f"the run {run.name}", before, config, standing_of(run))
