"""Looks, before anything long begins, whether what a training needs is there: in seconds, not after hours of SFT.

Three looks, each a function: at the environment (one reset and one step), at the network (one state encoded, one output
sampled and scored, one checkpoint saved and read back), at the disk (room for what the run will write). Each failure is
one sentence that says what to do. Changes nothing: no random stream of the training is touched, and what is written is
removed again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.filesize import decimal

from vlmagent.config import Config
from vlmagent.errors import UsageError, VlmAgentError
from vlmagent.paths import Run
from vlmagent.seeding import derive, train_episode_seed
from vlmagent.tasks.base import Task
from vlmagent.tasks.environments import check_reward
from vlmagent.types import Observation

SAMPLED_TOKENS = 8
"""An output of this length shows that sampling works; a whole one of 256 tokens would cost a 7 B model seconds."""
READ_BACK_BYTES = 2 * 2**30
"""Checkpoints up to this size are loaded again; of larger ones only the names and shapes of the tensors are read,
since a second copy of the model may not fit into memory."""
STEP_BYTES = 4096
"""About what an env step takes in the database, pictures aside; it grows with prompt and output."""
PICTURE_BYTES = 8192
"""About what a distinct picture takes in it."""


def check_environment(task: Task, config: Config) -> None:
    """One reset and one step of the task's environment, as training will do them.

    Raises:
        UsageError: what comes back is nothing to train on; names what it is and how to change it.
    """
    with _named(f"The environment of '{config.task}' could not be made"):
        env = task.make_env()
    try:
        seed = train_episode_seed(config.seed, 0, 0)
        with _named(f"The environment of '{config.task}' could not be reset with seed {seed}"):
            image, state = env.reset(seed=seed)
        observation = _observed(task, config, image, state)
        # any legal action does: this looks at the interface, not at the game
        action = observation.legal_actions[0]
        with _named(
            f"The environment of '{config.task}' could not take the action '{action}' after seed {seed}"
        ):
            image, reward, terminated, truncated, state = env.step(task.env_action(action, observation))
        check_reward(reward, config.task, seed, 1)
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            # environments compute with numpy, whose comparisons give np.bool_
            if not isinstance(value, bool | np.bool_):
                raise UsageError(
                    f"The environment of '{config.task}' returned {name} = {value!r}; it has to be True or False."
                )
        # a final state need not offer any action
        if not (terminated or truncated):
            _observed(task, config, image, state)
    finally:
        env.close()


def _observed(task: Task, config: Config, image: Any, state: Any) -> Observation:
    """What the task makes of what its environment returned, checked."""
    name = f"'{config.task}'"
    if not isinstance(state, Mapping):
        raise UsageError(
            f"The environment of {name} returned {type(state).__name__} as its info; it has to be a dictionary."
        )
    try:
        observation = task.observe(image, state)
    # it is a sentence for people already
    except VlmAgentError:
        raise
    except Exception as error:
        raise UsageError(
            f"The task {name} cannot read what its environment returned ({picture_problem(image) or 'a picture'}): "
            f"{type(error).__name__}: {error}"
        ) from error
    problem = picture_problem(observation.image)
    if problem:
        raise UsageError(f"The picture of {name} cannot be used: it is {problem}")
    actions = observation.legal_actions
    if not actions or not all(isinstance(action, str) and action for action in actions):
        raise UsageError(
            f"The task {name} offers no legal actions in its first state (legal_actions = {actions!r}). "
            "`observe` has to name at least one, each a text."
        )
    with _named(f"The task {name} could not write its prompt"):
        prompt = task.prompt(observation)
    if not isinstance(prompt, str) or not prompt.strip():
        raise UsageError(
            f"The task {name} wrote the prompt {prompt!r}; it has to be a text that says what to do."
        )
    return observation


def picture_problem(image: Any) -> str | None:
    """Why something is no RGB picture, uint8 of shape (H, W, 3), and what to do about it; None if it is one."""
    if isinstance(image, Mapping):
        keys = ", ".join(map(str, image))
        return f"a dictionary ({keys}). Let `observe` take the picture out of it, and put the rest into the info."
    if not isinstance(image, np.ndarray):
        return (
            f"{type(image).__name__}, no numpy array. Render the state as uint8 of shape (height, width, 3)."
        )
    shape = " x ".join(map(str, image.shape))
    # shapes before types: advice on numbers helps nobody whose axes are wrong
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        return f"grey ({shape}). Make it RGB: np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)."
    if image.ndim == 3 and image.shape[0] in (1, 3, 4) and image.shape[2] not in (3, 4):
        return f"channels first ({shape}). Move them to the end: image.transpose(1, 2, 0)."
    if image.ndim != 3:
        return f"an array of shape ({shape}). A picture is uint8 of shape (height, width, 3)."
    if image.shape[2] == 4:
        return f"RGBA ({shape}). Leave the last channel out: image[..., :3]."
    if image.shape[2] != 3:
        return f"of {image.shape[2]} channels ({shape}). A picture is uint8 of shape (height, width, 3)."
    if image.dtype != np.uint8:
        # floats up to 1 are shares of full brightness; NaN says nothing of the scale
        scale = "(image * 255)" if image.size and float(np.nanmax(image)) <= 1 else "image"
        return f"of {image.dtype} numbers, not of uint8. Convert it: {scale}.astype(np.uint8)."
    if not image.size:
        return f"empty ({shape})."
    return None


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Give an error from somebody else's code a first half that says what was being done."""
    try:
        yield
    except VlmAgentError:
        raise
    except Exception as error:
        # one line: libraries' messages often have several
        text = " ".join(str(error).split())
        raise UsageError(f"{what}: {type(error).__name__}: {text}") from error


def check_network(config: Config, task: Task, network: Any, run: Run) -> int:
    """One state encoded, one output sampled and scored, one checkpoint saved and read back.

    Args:
        network: as it was loaded, before it has learnt anything.
        run: its folder holds the checkpoint for a moment.

    Returns:
        Bytes that a checkpoint's weights take, optimiser state aside.

    Raises:
        UsageError: it cannot act, or cannot be saved.
    """
    # torch only here: the environment and the disk are looked at by commands that never load it
    import torch

    # the CPU's generator is always put back, a GPU's only where it is named
    devices = [network.device] if network.device.type == "cuda" else []
    training = network.training
    with torch.random.fork_rng(devices=devices):
        network.eval()
        try:
            _act(config, task, network)
            return _saved_size(config, network, run)
        finally:
            network.train(training)  # the caller goes on with it


def _act(config: Config, task: Task, network: Any) -> None:
    import torch

    from vlmagent.training.learners import make_agent
    from vlmagent.types import Transition

    # a short output under otherwise the run's own settings
    short = config.rollout.model_copy(
        update={"max_new_tokens": min(SAMPLED_TOKENS, config.rollout.max_new_tokens)}
    )
    agent = make_agent(config.model_copy(update={"rollout": short}), task, network)
    env = task.make_env()
    try:
        image, state = env.reset(seed=train_episode_seed(config.seed, 0, 0))
        observation = task.observe(image, state)
    finally:
        env.close()
    model = f"The model '{config.model.name}'" if config.agent == "vlm" else "The baseline 'cnn'"
    with _named(f"{model} cannot act on a first state of '{config.task}'"), torch.no_grad():
        decision = agent.act([observation], [state], derive(config.seed, "preflight"))[0]
        # a finished episode of one step; only its prompt, picture and tokens are scored
        transition = Transition(1, 1, 0, 0, 0, observation.image, decision, 0.0, True, False, None)
        scores = agent.score([transition])
    finite = bool(torch.isfinite(scores.token_logprobs).all() and torch.isfinite(scores.values).all())
    if not finite:
        raise UsageError(
            f"{model} gives log-probs or values that are not finite on a first state of '{config.task}'. Its weights "
            "may be damaged, or too large for this precision: try --set model.dtype=float32."
        )


def _saved_size(config: Config, network: Any, run: Run) -> int:
    from vlmagent.training.checkpoint import TrainerState, load_network, write_checkpoint

    # in the run's folder, since that disk has to hold the checkpoints; a kill leaves a name that `files.tidy` removes
    with tempfile.TemporaryDirectory(prefix=".tmp-preflight-", dir=run.path) as place:
        folder = Path(place)
        what = "This model could be trained, but not saved"
        with _named(f"{what}: its checkpoint could not be written"):
            write_checkpoint(folder, network, TrainerState(0, 0, None, None))
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if size <= READ_BACK_BYTES:
            with _named(f"{what}: its checkpoint could not be read back"):
                load_network(folder, config.model)
    return size


def check_room(config: Config, run: Run, checkpoint_bytes: int, trained_bytes: int) -> None:
    """Whether the disk has room for what the run will write.

    Args:
        checkpoint_bytes: weights of a checkpoint, as ``check_network`` measured them.
        trained_bytes: of the weights that learn, in float32; the optimiser keeps twice as much beside them.

    Raises:
        UsageError: it has not; says how much there is and how much is needed.
    """
    needed = needed_bytes(config, checkpoint_bytes, trained_bytes)
    free = shutil.disk_usage(run.path).free
    if free < needed:
        raise UsageError(
            f"The run needs about {decimal(needed)} in {run.path}, and {decimal(free)} are free. Free some space, "
            "choose another place with --run-dir, or keep fewer checkpoints: --set checkpoint.keep_last=1 --set "
            "checkpoint.keep_every=0."
        )


def needed_bytes(config: Config, checkpoint_bytes: int, trained_bytes: int) -> int:
    """What a run will write: checkpoints kept at the same time (and the one being written), and its database."""
    kept = config.checkpoint
    updates = config.num_updates
    # the start and every keep_every-th update stay
    for_good = 1 + (updates // kept.keep_every if kept.keep_every else 0)
    # beside the newest ones and the one being written; a short run has no more than one an update
    checkpoints = min(for_good + kept.keep_last + 1, updates + 2)
    database = config.ppo.env_steps * (STEP_BYTES + PICTURE_BYTES)
    # weights, and AdamW's two moments of what learns
    return checkpoints * (checkpoint_bytes + 2 * trained_bytes) + database
