"""What a training needs is looked at before anything long begins; each failure is one sentence that says what to do."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import SMALL
from tests.models.tiny_families import write
from vlmagent.config import Config
from vlmagent.errors import UsageError
from vlmagent.models.hf import build_policy, load_policy
from vlmagent.paths import Run
from vlmagent.tasks.registry import task_from_config
from vlmagent.training import preflight
from vlmagent.training.sft.samples import corpus
from vlmagent.types import Observation

RGB = np.full((8, 8, 3), 200, dtype=np.uint8)


class Env:
    """Somebody's environment, which returns what it is told to."""

    def __init__(self, image: Any = RGB, reward: Any = 0.0, info: Any = None, end: Any = False) -> None:
        self.image, self.reward, self.info, self.end = image, reward, {} if info is None else info, end
        self.closed = False

    def reset(self, *, seed: int) -> Any:
        return self.image, self.info

    def step(self, action: Any) -> Any:
        return self.image, self.reward, self.end, False, self.info

    def close(self) -> None:
        self.closed = True


class Thirsty(Env):
    """Cannot be reset."""

    def reset(self, *, seed: int) -> Any:
        raise RuntimeError("no\nwater")


class Fragile(Env):
    """Breaks at its first step."""

    def step(self, action: Any) -> Any:
        raise KeyError("left")


def somebodys(env: Any, actions: tuple[str, ...] = ("left", "right"), prompt: str = "Go.") -> Any:
    """A task that hands on what the environment returns."""
    return SimpleNamespace(
        make_env=lambda: env,
        observe=lambda image, state: Observation(image, None, actions),
        prompt=lambda observation: prompt,
        env_action=lambda action, observation: actions.index(action),
    )


def config(**changes: Any) -> Config:
    return Config.model_validate({**SMALL, "task": "maze:Maze-v0", **changes})


PICTURES = {
    "RGBA (8 x 8 x 4). Leave the last channel out": np.zeros((8, 8, 4), dtype=np.uint8),
    "grey (8 x 8). Make it RGB: np.repeat": np.zeros((8, 8), dtype=np.uint8),
    "grey (8 x 8 x 1)": np.zeros((8, 8, 1), dtype=np.uint8),
    "of float32 numbers, not of uint8. Convert it: (image * 255).astype": np.ones(
        (8, 8, 3), dtype=np.float32
    ),
    "of int64 numbers, not of uint8. Convert it: image.astype": np.full((8, 8, 3), 200),
    "channels first (3 x 8 x 8). Move them to the end": np.zeros((3, 8, 8), dtype=np.uint8),
    "a dictionary (agent, rgb). Let `observe` take the picture out": {"agent": 1, "rgb": RGB},
    "an array of shape (12). A picture is uint8": np.zeros(12),
    "of 2 channels (8 x 8 x 2)": np.zeros((8, 8, 2), dtype=np.uint8),
    "str, no numpy array": "a wall ahead",
    "empty (0 x 8 x 3)": np.zeros((0, 8, 3), dtype=np.uint8),
}


@pytest.mark.parametrize("said", PICTURES)
def test_a_picture_that_is_none(said: str):
    env = Env(PICTURES[said])
    with pytest.raises(UsageError) as caught:
        preflight.check_environment(somebodys(env), config())
    assert "'maze:Maze-v0'" in str(caught.value)
    assert said in str(caught.value)
    assert env.closed


ENVIRONMENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "returned the reward nan in step 1": (Env(reward=math.nan), {}),
    "returned the reward -inf in step 1": (Env(reward=-math.inf), {}),
    "returned the reward None in step 1": (Env(reward=None), {}),
    "returned terminated = 'yes'; it has to be True or False": (Env(end="yes"), {}),
    "returned list as its info": (Env(info=[1]), {}),
    "could not be reset with seed": (Thirsty(), {}),
    "RuntimeError: no water": (Thirsty(), {}),
    "could not take the action 'left' after seed": (Fragile(), {}),
    "offers no legal actions": (Env(), {"actions": ()}),
    "wrote the prompt ' '": (Env(), {"prompt": " "}),
}


@pytest.mark.parametrize("said", ENVIRONMENTS)
def test_an_environment_to_learn_nothing_from(said: str):
    env, options = ENVIRONMENTS[said]
    with pytest.raises(UsageError, match="maze:Maze-v0") as caught:
        preflight.check_environment(somebodys(env, **options), config())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_our_environments_pass():
    for task in ("numberline", "ezpoints", "points24", "blackjack"):
        ours = Config.model_validate({**SMALL, "task": task})
        preflight.check_environment(task_from_config(ours), ours)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "run").mkdir()
    return Run(tmp_path / "run")


def test_the_built_in_model_passes_and_nothing_is_left_or_changed(run: Run, small_config: Config):
    task = task_from_config(small_config)
    policy = build_policy(small_config.model, corpus(task, False, 200), 0)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    size = preflight.check_network(small_config, task, policy, run)
    assert torch.equal(torch.rand(3), expected)  # training draws what it would have drawn
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_dict().items())
    assert size > 100_000
    assert list(run.path.iterdir()) == []


def test_a_model_that_gives_no_numbers(run: Run, small_config: Config):
    task = task_from_config(small_config)
    policy = build_policy(small_config.model, corpus(task, False, 200), 0)
    with torch.no_grad():
        policy.value_head.layers[0].weight.fill_(math.nan)
    with pytest.raises(
        UsageError, match=r"not finite on a first state of 'numberline'.*model\.dtype=float32"
    ):
        preflight.check_network(small_config, task, policy, run)


def test_a_model_without_a_chat_template(run: Run, tmp_path: Path):
    folder = write("llava", tmp_path / "model")
    for file in folder.glob("chat_template*"):
        file.unlink()
    for name in ("tokenizer_config.json", "processor_config.json"):
        data = json.loads((folder / name).read_text())
        data.pop("chat_template", None)
        (folder / name).write_text(json.dumps(data))
    ours = config(task="numberline", model={"name": str(folder)})
    task = task_from_config(ours)
    with pytest.raises(UsageError, match="chat template"):
        preflight.check_network(ours, task, load_policy(folder, ours.model), run)


def test_a_model_that_can_be_trained_but_not_saved(
    run: Run, small_config: Config, monkeypatch: pytest.MonkeyPatch
):
    task = task_from_config(small_config)
    policy = build_policy(small_config.model, corpus(task, False, 200), 0)

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("quantization_config must be a dictionary")

    monkeypatch.setattr(policy.backbone, "save_pretrained", refuse)
    with pytest.raises(UsageError, match=r"could be trained, but not saved.*quantization_config must be"):
        preflight.check_network(small_config, task, policy, run)
    assert list(run.path.iterdir()) == []


def test_a_disk_without_room(run: Run, small_config: Config, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    with pytest.raises(UsageError, match=r"needs about .* MB in .* and 1\.0 MB are free"):
        preflight.check_room(small_config, run, checkpoint_bytes=10**7, trained_bytes=10**6)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**10))
    preflight.check_room(small_config, run, checkpoint_bytes=10**7, trained_bytes=10**6)


def test_room_counts_what_is_kept():
    recipe = Config.model_validate(
        {
            **SMALL,
            "ppo": {**SMALL["ppo"], "env_steps": 3200},  # 100 updates
            "checkpoint": {"keep_last": 3, "keep_every": 10},
        }
    )
    steps = 3200 * (preflight.STEP_BYTES + preflight.PICTURE_BYTES)
    # the start, ten for good, three newest and the one being written; each with two moments per trained weight
    assert preflight.needed_bytes(recipe, 1000, 100) == 15 * 1200 + steps
    only_sft = recipe.model_copy(update={"ppo": recipe.ppo.model_copy(update={"env_steps": 0})})
    assert preflight.needed_bytes(only_sft, 1000, 100) == 2 * 1200
