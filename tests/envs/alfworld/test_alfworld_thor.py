"""Real frames, against a fake of the simulator's interface that runs in the worker process like the real one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vlmagent_envs.alfworld import available
from vlmagent_envs.alfworld.env import AlfworldEnv
from vlmagent_envs.alfworld.games import AlfworldError

FAKE = '''
import random
import numpy as np


class AlfredThorEnv:
    """Answers like ALFWorld's: lists of one, frames BGR, games drawn by the global random, seeds ignored."""

    def __init__(self, config, train_eval="train"):
        assert config["env"]["thor"]["screen_width"] == 300
        assert config["controller"]["type"] == "oracle"
        print("Initialize AlfredThorEnv...")
        self.json_file_list = ["none"]

    def init_env(self, batch_size):
        assert batch_size == 1
        return self

    def reset(self):
        self.task = random.sample(self.json_file_list, k=1)[0]
        self.lit = False
        text = "-= Welcome to TextWorld, ALFRED! =-\\n\\nYou are in the middle of a room. "
        text += "Looking quickly around you, you see a desk 1.\\n\\n"
        return [text + "Your task is to: examine the pen with the desklamp."], self._infos()

    def step(self, actions):
        self.lit = self.lit or actions[0] == "use desklamp 1"
        return ["You turn on the desklamp 1." if self.lit else "Nothing happens."], None, [self.lit], self._infos()

    def _infos(self):
        commands = ["go to desk 1", "use desklamp 1", "look", "help"]
        return {
            "admissible_commands": [commands],
            "won": [self.lit],
            "goal_condition_success_rate": [1.0 if self.lit else 0.5],
            "extra.gamefile": [self.task],
            "extra.expert_plan": [["look"]],
        }

    def get_frames(self):
        frame = np.zeros((1, 300, 300, 3), np.uint8)
        frame[..., 0] = 250 if self.lit else 10  # blue, in OpenCV's order
        return frame

    def close(self):
        pass
'''


@pytest.fixture
def simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """A fake ``alfworld`` and all that it needs, found before the real one, and one game."""
    packages = tmp_path / "packages"
    module = packages / "alfworld" / "agents" / "environment"
    module.mkdir(parents=True)
    for folder in (module, module.parent, module.parent.parent):
        (folder / "__init__.py").write_text("")
    (module / "alfred_thor_env.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.setattr("vlmagent_envs.alfworld.env.missing_for_thor", lambda games: None)
    game = (
        tmp_path / "data" / "json_2.1.1" / "train" / "look_at_obj_in_light-Pen-None-DeskLamp-301" / "trial_1"
    )
    game.mkdir(parents=True)
    parameters = {"object_target": "Pen", "parent_target": "", "toggle_target": "DeskLamp"}
    (game / "traj_data.json").write_text(
        json.dumps({"task_type": "look_at_obj_in_light", "pddl_params": parameters})
    )
    return tmp_path / "data"


def test_frames_are_rgb_and_rewards_follow_the_conditions(simulator):
    env = AlfworldEnv(world="thor", data=str(simulator))
    try:
        frame, state = env.reset(seed=0)
        assert frame.shape == (300, 300, 3)
        assert frame[0, 0].tolist() == [0, 0, 10]
        assert state["scene"] is None
        assert state["task_type"] == "look"
        assert state["goal_text"] == "examine the pen with the desklamp"
        assert state["description"].endswith("you see a desk 1.")
        assert state["admissible"] == ("go to desk 1", "use desklamp 1", "look")
        assert state["game"].endswith("trial_1")
        frame, reward, terminated, truncated, state = env.step("use desklamp 1")
        assert frame[0, 0].tolist() == [0, 0, 250]
        assert (reward, terminated, truncated, state["won"]) == (51.0, True, False, True)
    finally:
        env.close()


def test_one_error_lists_all_that_is_missing(monkeypatch, tmp_path, cache):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(
        available, "_installed", lambda name: name in ("alfworld", "textworld", "fast_downward")
    )
    with pytest.raises(AlfworldError) as caught:
        AlfworldEnv(world="thor", data=str(tmp_path))
    for part in (
        "ai2thor==2.1.0",
        "opencv-python",
        "torchvision",
        "werkzeug==2.0.3",
        "releases",
        "DISPLAY",
        "alfworld-download",
        "`vlmagent doctor`",
    ):
        assert part in str(caught.value)
    assert "env.world=mini" in str(caught.value)


def test_another_release_of_the_simulator_is_named(monkeypatch):
    monkeypatch.setattr(available, "_installed", lambda name: True)
    monkeypatch.setattr(available, "_version", lambda name: "5.0.0")
    assert "ai2thor 2.1.0 instead of 5.0.0" in available.missing_for_thor(games=True)


def test_missing_packages_are_named_with_the_command(monkeypatch):
    monkeypatch.setattr(available, "_installed", lambda name: name != "textworld")
    monkeypatch.setattr(available.shutil, "which", lambda tool: None if tool == "cmake" else tool)
    message = available.missing_packages()
    assert "(textworld)" in message
    assert "pip install 'vlmagent[alfworld]'" in message
    assert "cmake, which this machine lacks" in message


def test_frames_of_another_size_are_scaled(simulator):
    source = simulator.parent / "packages" / "alfworld" / "agents" / "environment" / "alfred_thor_env.py"
    source.write_text(source.read_text().replace("(1, 300, 300, 3)", "(1, 150, 200, 3)"))
    env = AlfworldEnv(world="thor", data=str(simulator))
    try:
        frame, _ = env.reset(seed=0)
    finally:
        env.close()
    assert frame.shape == (300, 300, 3)
    assert np.all(frame[..., 2] == 10)
