"""Against the package itself: its own environment plays our games, and our shortcuts change nothing that it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.envs.alfworld.conftest import COUNTS
from vlmagent_envs.alfworld.games import data_root, find_games, household
from vlmagent_envs.alfworld.household import TASK_TYPES

SAMPLE = Path(__file__).parents[3].parent / "shared" / "alfworld_sample"

STOCK = """
import json, sys
from pathlib import Path
from alfworld.agents.environment.alfred_tw_env import AlfredTWEnv
from vlmagent_envs.alfworld.backends import thor_config
config = thor_config(Path(sys.argv[1]), 300)
config["env"] |= {"domain_randomization": False, "expert_type": "handcoded"}
scanned = AlfredTWEnv(config, train_eval="eval_out_of_distribution")
env = scanned.init_env(batch_size=1)
texts, infos = env.reset()
_, _, _, after = env.step(["look"])
env.close()
print(json.dumps([scanned.num_games, texts[0], infos["won"][0], after["admissible_commands"][0]]))
"""

PLAIN_AND_QUICK = """
import json, sys
from pathlib import Path
import textworld
from textworld.envs.pddl import PddlEnv
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
from vlmagent_envs.alfworld import quicker
if sys.argv[1] == "quick":
    quicker.install(planner=False)
infos = textworld.EnvInfos(won=True, admissible_commands=True, facts=True)
env, said = AlfredDemangler(PddlEnv(infos), shuffle=False), []
for game in sys.argv[2:]:
    env.load(game)
    state = env.reset()
    for step in range(8):
        said.append([state["feedback"], state["admissible_commands"], sorted(map(str, state["facts"])), state["won"]])
        commands = [c for c in state["admissible_commands"] if c not in ("help", "look", "inventory")]
        handling = [c for c in commands if not c.startswith(("go to", "examine"))]
        state, _, _ = env.step((handling or commands)[7 * step % len(handling or commands)])
print(json.dumps(said))
"""


def run(script, *arguments):
    process = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return json.loads(process.stdout.strip().splitlines()[-1])


def test_alfworlds_own_environment_scans_and_plays_the_household(cache):
    root = household(cache / "alfworld", 0, COUNTS)
    games, text, won, commands = run(STOCK, root)
    assert games == 6
    assert text.startswith("-= Welcome to TextWorld, ALFRED! =-")
    assert "Your task is to: " in text
    assert not won
    assert "look" in commands


def test_our_shortcuts_change_nothing_that_is_said(cache):
    root = household(cache / "alfworld", 0, COUNTS)
    games = [find_games(root, "train", (kind,))[0].folder / "game.tw-pddl" for kind in TASK_TYPES]
    plain, quick = (run(PLAIN_AND_QUICK, how, *games) for how in ("plain", "quick"))
    assert len({said[0] for said in plain[::8]}) == len(games)
    assert plain == quick


def test_a_household_is_written_once_and_others_beside_it(cache, tmp_path):
    counts = dict.fromkeys(COUNTS, 1)
    root = household(tmp_path, 0, counts)
    stamp = root.stat().st_mtime_ns
    assert household(tmp_path, 0, counts) == root
    assert root.stat().st_mtime_ns == stamp
    assert household(tmp_path, 1, counts) != root
    assert len(find_games(root, "train", TASK_TYPES)) == 6
    assert not list(tmp_path.glob(".tmp*"))


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the six real games are not on this machine")
@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_the_expert_wins_the_real_games(env, task_type):
    env.root, env.split, env.task_types = data_root(str(SAMPLE)), "valid_unseen", (task_type,)
    picture, state = env.reset(seed=0)
    assert state["task_type"] == task_type
    assert len(state["goal_text"]) > 10
    assert len(state["admissible"]) > 5
    seen, total, done = {picture.tobytes()}, 0.0, False
    while not done:
        picture, reward, done, truncated, state = env.step(state["expert_action"])
        seen.add(picture.tobytes())
        total += reward
        assert not truncated
        assert (state["progress"] == 1) == state["won"]
    assert total == (51 if task_type == "pick" else 52)
    assert state["won"]
    assert len(seen) > 3
