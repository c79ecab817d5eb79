"""The shared harness, and the bare bound that goes through what a loop really did."""

from __future__ import annotations

import pytest
import torch

from benchmarks import speed
from benchmarks.bare import Bare, Call, Recorder
from benchmarks.harness import Spread, in_turns, markdown
from vlmagent.config import ModelConfig
from vlmagent.models.hf import build_policy
from vlmagent.models.policy import Policy
from vlmagent.tasks.registry import build_task
from vlmagent.training.sft.samples import corpus


@pytest.fixture(scope="module")
def policy() -> Policy:
    tiny = {"vision_width": 32, "vision_layers": 1, "width": 32, "layers": 2, "heads": 2, "vision_heads": 2}
    config = ModelConfig.model_validate({"tiny": tiny, "value_head": [16]})
    return build_policy(config, corpus(build_task("numberline"), size=50), 0).eval()


def test_cases_take_turns_and_the_first_round_is_not_counted() -> None:
    said: list[str] = []
    times = in_turns({"a": lambda: said.append("a"), "b": lambda: said.append("b")}, 2)
    assert said == ["a", "b"] * 3
    assert times["a"].wall.rounds == times["b"].processor.rounds == 2


def test_spread() -> None:
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 5.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0, 1)
    assert Spread(0.0123, 0.01, 0.02, 3).words() == "12.3 (10 to 20)"


def test_a_loops_passes_are_written_down_and_gone_through_again(policy: Policy) -> None:
    task = build_task("numberline")
    env = task.make_env()
    states = []
    for seed in (0, 1, 0):
        image, state = env.reset(seed=seed)
        states.append(policy.encode(task.prompt(task.observe(image, state)), image))
    recorder = Recorder(policy.passes)
    policy.passes = recorder
    sampled = policy.sample(states, temperature=1.0, max_new_tokens=5, seed=0)
    policy.values(states)
    policy.score(states, [output.token_ids for output in sampled], temperature=1.0)
    policy.passes = recorder.inner
    prompt = len(states[0].input_ids)
    wrote, looked, learnt = recorder.calls
    assert wrote == Call(2, (prompt, prompt), (max(len(s.token_ids) for s in sampled),) * 3, True, False)
    assert (looked.rows, looked.writes, looked.learns) == ((), False, False)
    assert learnt.learns
    bare = Bare(policy)
    before = bare.head.weight.detach().clone()
    bare.go(recorder.calls)
    assert not torch.equal(bare.head.weight, before), "what learns is stepped"


def test_the_page_has_a_table_for_each_part_that_was_measured() -> None:
    spread = {"median": 0.0188, "low": 0.018, "high": 0.02, "rounds": 3}
    loop = {"ours": spread, "paper": spread, "times_the_papers_schedule": 12.36}
    loop |= {"times_the_bare_bound": 1.456, "logging_share": 0.021}
    where = {"cores": 2, "processor": "x", "memory_gib": 24, "torch": "2", "transformers": "5", "threads": 1}
    found = {"machine": {**where, "load": 0.1}, "date": "2026-12-01", "rounds": 3}
    text = speed.page({**found, "loop": {"numberline": loop}})
    row = "| numberline | 18.8 (18 to 20) | 18.8 (18 to 20) | 12.4 | 1.46 | 2.1 % |"
    assert row in text
    assert "growth" not in text
    filled = speed.BLOCK.sub(lambda match: f"{match[1]}{text}\n{match[2]}", speed.PAGE.read_text("utf-8"))
    assert row in filled
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
