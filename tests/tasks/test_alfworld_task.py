"""ALFWorld's prompt and responses, its place in rollouts, and what it says where it is not installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.tasks.alfworld_states import ADMISSIBLE, SMALL, STATE, needs_alfworld, shown, thing
from vlmagent.agents.simple import ExpertAgent
from vlmagent.errors import RunFailedError, UsageError
from vlmagent.seeding import evaluation_episode_seed, train_episode_seed
from vlmagent.tasks.base import offers_of
from vlmagent.tasks.parsing import parse_action
from vlmagent.tasks.registry import build_task, task_names
from vlmagent.training.metrics import EpisodeLog
from vlmagent.training.rollout import Rollout
from vlmagent.training.sft.samples import captions, solver_samples
from vlmagent.training.tally import Tally
from vlmagent.types import Decision, EpisodeEnd, EpisodeStart, ParsedAction, Transition

PROMPT = (
    "Your are an expert in the ALFRED Embodied Environment. You are also given the following text description of the "
    "current scene: ['You arrive at cabinet 1. The cabinet 1 is open. In it, you see a pan 1, and a egg 2.']. Your "
    "task is to put a cool mug in cabinet. Your admissible actions of the current situation are: ['go to cabinet 2', "
    "'go to shelf 1', 'go to shelf 10', 'take pan 1 from cabinet 1', 'look']. Your response should be a valid json "
    "file in the following format:\n{\n"
)
COT = (
    '"thoughts": "first describe what do you see in the image using the text description, then carefully think about '
    'which action to complete the task. ",\n'
)
END = '"action": "an admissible action"\n}'


@pytest.fixture
def task():
    return build_task("alfworld", env=SMALL)


@needs_alfworld
@pytest.mark.parametrize(
    ("cot", "expected"), [(True, PROMPT + COT + END), (False, PROMPT + END)], ids=["cot", "no cot"]
)
def test_prompt_is_the_papers(cot, expected):
    task = build_task("alfworld", cot=cot, env=SMALL)
    observation = task.observe(np.zeros((300, 300, 3), np.uint8), STATE)
    assert observation.legal_actions == ADMISSIBLE
    assert task.prompt(observation) == expected


@needs_alfworld
@pytest.mark.parametrize(
    ("state", "action", "expected"),
    [
        (
            STATE,
            "go to cabinet 2",
            "I am at cabinet 1, which is open. My hand is empty. I need a mug. The mug "
            "is not here. I look for it at cabinet 2.",
        ),
        (
            shown(),
            "go to shelf 1",
            "I am in the middle of a room. My hand is empty. I need a mug. I look for it at shelf 1.",
        ),
        (
            shown(place="drawer 3", opened=False),
            "open drawer 3",
            "I am at drawer 3, which is closed. My hand is empty. I need a mug. The drawer is closed, so I open it to "
            "look inside.",
        ),
        (
            shown(place="drawer 3", opened=False),
            "go to shelf 1",
            "I am at drawer 3, which is closed. My hand is empty. I need a mug. I look for it at shelf 1.",
        ),
        (
            shown(place="shelf 1", things=[thing("mug 1"), thing("mug 2", "hot"), thing("mug 3")]),
            "take mug 1 from shelf 1",
            "I am at shelf 1. My hand is empty. I need a mug. The mug 1 is here. I take it.",
        ),
        (
            shown(place="shelf 1", hand=("mug 1",)),
            "go to fridge 1",
            "I am at shelf 1. I hold a mug. I need to cool the mug with the fridge. I go to the fridge "
            "to cool it.",
        ),
        (
            shown(place="fridge 1", opened=False, hand=("mug 1",)),
            "cool mug 1 with fridge 1",
            "I am at fridge 1, which is closed. I hold a mug. I need to cool the mug with the fridge. The fridge is "
            "here, so I cool it.",
        ),
        (
            shown(place="fridge 1", opened=False, hand=("mug 1", "cold"), treated=True),
            "go to cabinet 1",
            "I am at fridge 1, which is closed. I hold a cold mug. I need to put the mug in the cabinet. I go to the "
            "cabinet to put it there.",
        ),
        (
            shown(place="cabinet 1", opened=False, hand=("mug 1", "cold"), treated=True),
            "open cabinet 1",
            "I am at cabinet 1, which is closed. I hold a cold mug. I need to put the mug in the cabinet. The cabinet "
            "is closed, so I open it to put it in.",
        ),
        (
            shown(place="cabinet 1", opened=True, hand=("mug 1", "cold"), treated=True),
            "move mug 1 to cabinet 1",
            "I am at cabinet 1, which is open. I hold a cold mug. I need to put the mug in the cabinet. "
            "It belongs here, so I put it down.",
        ),
        (
            shown(place="safe 1", things=[thing("mug 1")], task_type="pick2", target="safe"),
            "go to shelf 1",
            "I am at safe 1. My hand is empty. I need a mug. The mug 1 is here, where it belongs. I "
            "look for another at shelf 1.",
        ),
        (
            shown(
                place="desk 1",
                things=[thing("desklamp 1")],
                hand=("mug 1",),
                task_type="look",
                lamp="desklamp",
            ),
            "use desklamp 1",
            "I am at desk 1. I hold a mug. I need the desklamp for the mug. The desklamp 1 is "
            "here. I use it.",
        ),
        (
            shown(place="desk 1", hand=("mug 1",), task_type="look", lamp="desklamp"),
            "go to shelf 1",
            "I am at desk 1. I hold a mug. I need the desklamp for the mug. The desklamp is not here. I "
            "look for it at shelf 1.",
        ),
        (
            shown(place="desk 1", things=[thing("egg 2"), thing("cup 10"), thing("cup 9")]),
            "go to shelf 1",
            "I am at desk 1. My hand is empty. I need a mug. The mug is not here. I look for it at shelf 1.",
        ),
        (
            shown(place="desk 1", hand=("pen 1",)),
            "move pen 1 to desk 1",
            "I am at desk 1. I hold a pen. I need a mug. I put it away.",
        ),
        (
            shown(place="drawer 3", opened=False, hand=("pen 1",)),
            "open drawer 3",
            "I am at drawer 3, which is closed. I hold a pen. I need a mug. The drawer is closed, so I open it to put "
            "it away.",
        ),
        (
            shown(place="shelf 1", things=[thing("mug 1")], hand=("pen 1",)),
            "go to drawer 3",
            "I am at shelf 1. I hold a pen. I need a mug. I go to drawer 3 to put it away.",
        ),
        (
            shown(place="shelf 1", things=[thing("mug 1"), thing("mug 2")], task_type="pick2", target="safe"),
            "take mug 2 from shelf 1",
            "I am at shelf 1. My hand is empty. I need a mug. The mug 2 is here. I take it.",
        ),
        (
            shown(place="shelf 1", things=[thing("mug 1"), thing("pan 1")]),
            "take pan 1 from shelf 1",
            "I am at shelf 1. My hand is empty. I need a mug. The mug 1 is here. I choose to take pan 1 from shelf 1.",
        ),
        (
            shown(place="desk 1", things=[thing("desklamp 1")], task_type="look", lamp="desklamp"),
            "use desklamp 1",
            "I am at desk 1. My hand is empty. I need a mug. The mug is not here. I choose to use desklamp 1.",
        ),
        (
            shown(place="shelf 1", things=[thing("mug 1")]),
            "go to desk 1",
            "I am at shelf 1. My hand is empty. I need a mug. The mug 1 is here. I choose to go to desk 1.",
        ),
        (
            {**STATE, "scene": None, "description": 'The "mug" is gone.'},
            "look",
            "The 'mug' is gone. I need a mug. I choose to look.",
        ),
    ],
)
def test_responses_say_what_is_seen_sought_and_why(task, state, action, expected):
    response = task.expert_response(state, action)
    assert response == f'{{\n"thoughts": "{expected}",\n"action": "{action}"\n}}'
    assert json.loads(response)["action"] == action


@needs_alfworld
def test_response_without_cot_is_figure_31():
    task = build_task("alfworld", cot=False, env=SMALL)
    assert task.expert_response(STATE, "go to cabinet 2") == '{\n"action": "go to cabinet 2"\n}'


@needs_alfworld
def test_a_response_parses_back_and_names_are_matched_whole(task):
    rng = np.random.default_rng(0)
    for action in ADMISSIBLE:
        parsed = parse_action(task.expert_response(STATE, action), ADMISSIBLE, rng)
        assert (parsed.action, parsed.legal_output) == (action, True)
    assert parse_action('"action": "go to shelf 10"', ADMISSIBLE, rng).action == "go to shelf 10"
    assert not parse_action('"action": "go to shelf 100"', ADMISSIBLE, rng).legal_output


@needs_alfworld
def test_captions_say_what_the_card_shows(task):
    assert task.caption(STATE) == "I am at the open cabinet. I see a pan and an egg. My hand is empty."
    assert task.caption({**STATE, "scene": None}) is None


@needs_alfworld
def test_success_is_the_goal_whatever_it_cost(task):
    assert task.success(-7.0, {"won": True})
    assert not task.success(3.0, {"won": False})
    assert task.goal({"won": True})


class Recorder:
    """Keeps what a rollout tells."""

    def __init__(self):
        self.transitions: list[Transition] = []
        self.ends: list[EpisodeEnd] = []

    def episode_started(self, episode: EpisodeStart) -> None:
        pass

    def transition(self, transition: Transition) -> None:
        self.transitions.append(transition)

    def episode_ended(self, episode: EpisodeEnd) -> None:
        self.ends.append(episode)


class Mute(ExpertAgent):
    """The expert's actions, written illegibly on every second step."""

    def act(self, observations, states, seed):
        decisions = super().act(observations, states, seed)
        return [
            Decision(d.prompt, "?", "", ParsedAction(d.parsed.action, int(s["step"]) % 2 == 0, "", None))
            for d, s in zip(decisions, states, strict=True)
        ]


def rollout(task, agent, sinks, num_envs=2, seeds=train_episode_seed):
    return Rollout(
        task, agent, num_envs=num_envs, split="train", seed=0, sinks=sinks,
        episode_seeds=lambda env_index, count: seeds(0, env_index, count),
    )  # fmt: skip


@needs_alfworld
def test_a_rollout_with_a_killed_process_and_illegal_outputs(task):
    recorder, log, tally = Recorder(), EpisodeLog(), Tally()
    run = rollout(task, Mute(task), [recorder, log, tally])
    try:
        run.start()
        for _ in range(3):
            run.step()
        os.kill(run.slots[0].env.unwrapped.worker.pid, signal.SIGKILL)
        logged = [run.step()]
        assert [t.truncated for t in logged[0]] == [True, False]
        assert recorder.ends[0].ended == "lost"
        assert not recorder.ends[0].success
        assert (log.take(), tally.outcomes, tally.errors) == ([], [], 1)
        while len(recorder.ends) < 3:
            logged.append(run.step())
        first = [t for t in recorder.transitions if t.episode_id == recorder.ends[1].id]
        illegal = [t for t in first if not t.decision.parsed.legal_output]
        assert len(illegal) == len(first) // 2
        goal = {"pick": 51}.get(recorder.ends[1].kind, 52)
        assert recorder.ends[1].episode_return == goal - len(illegal)
        assert recorder.ends[1].success
        assert sum(t.reward for t in first) == recorder.ends[1].episode_return
        saved = json.loads(json.dumps(run.snapshot()))
        returns = [slot.episode_return for slot in run.slots]
        observations = [slot.observation for slot in run.slots]
        run.restore(saved)
        assert [slot.episode_return for slot in run.slots] == returns
        for slot, before in zip(run.slots, observations, strict=True):
            assert slot.observation.state_text == before.state_text
            assert np.array_equal(slot.observation.image, before.image)
        assert run.snapshot() == saved
    finally:
        run.close()
    _test_replay(task, recorder.transitions)


def _test_replay(task, transitions):
    """A log with a lost episode in it can be replayed to the same end."""
    recorder = Recorder()
    run = rollout(task, Mute(task), [recorder])
    try:
        run.start()
        for start in range(0, 10, 2):
            _, differences = run.replay(transitions[start : start + 2], [recorder])
            assert differences == []
    finally:
        run.close()
    assert recorder.ends[0].ended == "lost"
    assert [t.reward for t in recorder.transitions] == [t.reward for t in transitions[:10]]


def test_tasks_without_a_price_for_illegal_outputs_have_none():
    assert offers_of(build_task("numberline")).illegal_reward == 0


@needs_alfworld
def test_samples_and_captions_come_from_the_experts_games(task):
    samples, seen = solver_samples(task, 0), captions(build_task("alfworld", env=SMALL), 0)
    try:
        sample = next(samples)
        assert sample.image.shape == (300, 300, 3)
        assert sample.prompt.startswith("Your are an expert in the ALFRED")
        assert json.loads(sample.response)["action"].startswith("go to")
        assert next(seen).response.startswith("I am in the middle of a room.")
    finally:
        samples.close()
        seen.close()


@needs_alfworld
def test_evaluation_episodes_come_from_the_evaluation_split(task):
    env = task.make_env()
    try:
        assert env.reset(seed=evaluation_episode_seed(0, 0))[1]["game"].startswith("valid_seen")
        assert env.reset(seed=train_episode_seed(0, 0, 0))[1]["game"].startswith("train")
    finally:
        env.close()


@needs_alfworld
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"world": "moon"}, ["env.world", "'mini'", "'thor'"]),
        ({"task_types": ["fly"]}, ["env.task_types", "pick2"]),
        ({"train_games": 0}, ["env.train_games", "at least 1"]),
        ({"splitt": "train"}, ["env.splitt", "env.split"]),
    ],
)
def test_mistakes_in_options(options, parts):
    with pytest.raises(UsageError) as caught:
        build_task("alfworld", env=options)
    for part in parts:
        assert part in str(caught.value)


@needs_alfworld
def test_a_game_that_fails_is_no_mistake_of_the_user(tmp_path):
    folder = tmp_path / "train" / "broken" / "trial_1"
    folder.mkdir(parents=True)
    about = {"object_target": "Pen", "parent_target": "", "toggle_target": "DeskLamp"}
    (folder / "traj_data.json").write_text(
        json.dumps({"task_type": "look_at_obj_in_light", "pddl_params": about})
    )
    broken = {"pddl_domain": "(", "grammar": "", "pddl_problem": "", "solvable": True}
    (folder / "game.tw-pddl").write_text(json.dumps(broken))
    env = build_task("alfworld", env={"world": "tw", "data": str(tmp_path)}).make_env()
    try:
        with pytest.raises(RunFailedError, match="ALFWorld failed"):
            env.reset(seed=0)
    finally:
        env.close()


@needs_alfworld
def test_real_games_that_are_not_there_are_explained(tmp_path):
    task = build_task("alfworld", env={"world": "tw", "data": str(tmp_path)})
    with pytest.raises(UsageError, match="alfworld-download"):
        task.make_env()


def test_without_the_extra_it_says_one_command_and_all_else_works(monkeypatch):
    said = "ALFWorld needs packages that are not installed (textworld). Run: pip install 'vlmagent[alfworld]'"
    monkeypatch.setattr("vlmagent.tasks.alfworld.missing_packages", lambda: said)
    with pytest.raises(UsageError, match=r"pip install 'vlmagent\[alfworld\]'"):
        build_task("alfworld")
    assert "alfworld" in task_names()
    build_task("numberline")
    build_task("vlmagent_envs:vlmagent/Blackjack-v0")


def test_importing_the_task_imports_nothing_of_the_extra():
    code = (
        "import sys, vlmagent.tasks.alfworld, vlmagent_envs.alfworld.env;"
        "print(sorted({'alfworld', 'textworld', 'fast_downward', 'jericho', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
