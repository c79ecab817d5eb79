"""Plans: exact counts from sizes alone, sensible estimates, nothing fetched and nothing started."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vlmagent.cli.plan_view import plan_view
from vlmagent.config import Config, ModelConfig, find_config, load_config
from vlmagent.errors import UsageError
from vlmagent.models.architectures import find_architecture, shipped
from vlmagent.models.hf import build_policy
from vlmagent.models.lora import count_parts
from vlmagent.tasks.registry import task_from_config
from vlmagent.training.plan import places
from vlmagent.training.plan.hardware import REFERENCES, Hardware, peak
from vlmagent.training.plan.memory import rows_per_micro_batch
from vlmagent.training.plan.plan import Cost, TrainingPlan, estimate, make_plan
from vlmagent.training.plan.sizes import Sizes, Tokens, build_on_meta
from vlmagent.training.sft.samples import corpus, solver_samples

PAPER = "llava-hf/llava-v1.6-mistral-7b-hf"
CPU = Hardware("2 CPU cores", "cpu", 1, 16 * 10**9, 5e10, 1e10, here=True)


def paper(**changes: Any) -> Config:
    return load_config(find_config("paper/numberline"), changes)


@pytest.fixture(scope="module")
def plan() -> TrainingPlan:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlmagent.training.plan.plan.find_hardware", lambda: CPU)
        return make_plan(paper())


def test_the_papers_trainable_parameters(plan: TrainingPlan):
    assert plan.trained == 393_871_360
    parts = {part.name: part.trained for part in plan.parts if part.trained}
    assert parts == {
        "vision_tower": 56_623_104,
        "multi_modal_projector": 1_703_936,
        "language_model": 335_544_320,
    }
    assert plan.value_head == 4_720_641
    assert any("2,359,296 of these parameters" in note and "391,512,064" in note for note in plan.notes)


def test_what_a_sample_and_a_run_come_to(plan: TrainingPlan):
    assert plan.tokens.picture == 576
    assert torch.zeros(1).device.type == "cpu", "the meta device is left again"
    assert 90 < plan.tokens.prompt < 160
    assert 60 < plan.tokens.output < 120
    assert (plan.updates, plan.optimizer_steps) == (29, 29 * 4 * 4)
    assert {cost.rows for cost in plan.costs} == {12288 // plan.tokens.total}


def test_it_says_what_fits_where(plan: TrainingPlan):
    here, h200, a100 = plan.costs
    assert [cost.hardware for cost in plan.costs] == [CPU, *REFERENCES]
    assert not here.fits
    assert h200.fits
    assert a100.fits
    assert here.dtype == "float32"
    assert h200.dtype == "bfloat16"
    assert 20e9 < h200.held.memory.total < 25e9, "7.6 B weights of 2 bytes, 0.4 B adapters of 16"
    assert h200.held.peak < 40 * 2**30, "the paper: less than 40 GB"
    assert here.time.update > 100 * h200.time.update
    assert h200.time.update < a100.time.update


def test_it_is_printed(plan: TrainingPlan, capsys: pytest.CaptureFixture[str]):
    from rich.console import Console

    Console(width=120).print(plan_view(plan))
    text = capsys.readouterr().out
    for words in (
        "393,871,360",
        "391,512,064",
        "picture 576",
        "2 CPU cores",
        "H200",
        "does it fit",
        "29 updates",
        "learning: float32 logits",
        "GB for the run, in ",
        "memory of the machine  18.3 GB while the weights are opened",
        "checked                nothing yet",
    ):
        assert words in text


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_sizes_give_the_published_number_of_parameters(name: str):
    architecture = shipped()[name]
    network, _ = build_on_meta(architecture, ModelConfig(name=name))
    assert sum(parameter.numel() for parameter in network.parameters()) == architecture.parameters
    assert all(parameter.device.type == "meta" for parameter in network.parameters())


def test_other_choices_of_what_learns():
    architecture = shipped()[PAPER]

    def trained(**model: Any) -> int:
        settings = ModelConfig.model_validate({"name": PAPER, "tiles": False, **model})
        return sum(part.trained for part in count_parts(build_on_meta(architecture, settings)[0]))

    assert trained(lora={"enabled": True}) == 391_512_064
    assert trained(lora={"enabled": True}, train_vision=False) == 335_544_320
    assert trained() == 7_566_743_552, "all but the 4,096 numbers of the separator between tiles"


def test_estimates_follow_the_settings():
    tokens = Tokens(576, 120, 80, 576)
    network, _ = build_on_meta(shipped()[PAPER], paper().model)
    h200 = REFERENCES[0]

    def cost(**changes: Any) -> Any:
        config = paper(**changes)
        return estimate(config, Sizes.of(network, 4_720_641), tokens, h200)

    usual = cost()
    kept = cost(model={"activation_checkpointing": False})
    assert kept.held.learning.total > 3 * usual.held.learning.total
    assert kept.time.update < usual.time.update
    assert cost(model={"quantization": "4bit"}).held.memory.weights < usual.held.memory.weights - 9 * 10**9
    assert cost(ppo={"epochs": 8}).time.update == pytest.approx(2 * usual.time.update)
    assert cost(rollout={"num_envs": 32}).held.sampling.cache == usual.held.sampling.cache / 2
    assert (
        rows_per_micro_batch(paper(ppo={"max_tokens_per_micro_batch": 0, "micro_batch_size": 7}), tokens) == 7
    )
    assert rows_per_micro_batch(paper(ppo={"max_tokens_per_micro_batch": 10}), tokens) == 1


WEIGHTS = 16_727_855_108
"""7,566,743,552 of 2 bytes; 393,871,360 of adapters and 4,720,641 of the value head of 4."""
GRADIENTS = 1_594_368_004
"""Those 398,592,001 that learn, 4 bytes each."""
EXCHANGE = 800_000_000
"""As many gradients at once as the shipped files say, 4 bytes each."""


@pytest.mark.parametrize(
    ("processes", "stage", "weights", "gradients", "optimizer", "exchange"),
    [
        *((1, stage, WEIGHTS, GRADIENTS, 3_188_736_008, 0) for stage in range(4)),
        (2, 0, WEIGHTS, GRADIENTS, 3_188_736_008, GRADIENTS),
        (2, 1, WEIGHTS, GRADIENTS, 2_391_552_006, EXCHANGE),
        (2, 2, WEIGHTS, 797_184_002, 2_391_552_006, EXCHANGE),
        (2, 3, 8_363_927_554, 797_184_002, 1_594_368_004, EXCHANGE),
        (8, 0, WEIGHTS, GRADIENTS, 3_188_736_008, GRADIENTS),
        (8, 1, WEIGHTS, GRADIENTS, 597_888_001.5, EXCHANGE),
        (8, 2, WEIGHTS, 199_296_000.5, 597_888_001.5, EXCHANGE),
        (8, 3, 2_090_981_888.5, 199_296_000.5, 398_592_001, EXCHANGE),
    ],
)
def test_memory_of_each_process(
    adapted: Any,
    processes: int,
    stage: int,
    weights: float,
    gradients: float,
    optimizer: float,
    exchange: float,
):
    """ZeRO's stages divide the optimiser's state, then the gradients, then the weights."""
    held = several(adapted, processes, stage).held
    assert held.memory.weights == weights
    assert held.memory.gradients == gradients
    assert held.memory.optimizer == optimizer
    assert held.memory.exchange == exchange
    assert held.memory.gathered == held.sampling.gathered == (WEIGHTS if stage == 3 and processes > 1 else 0)
    assert held.sampling.cache == 64 / processes * (576 + 120 + 256) * 131_072


@pytest.fixture(scope="module")
def adapted() -> Any:
    """The paper's network, without weights."""
    return build_on_meta(shipped()[PAPER], paper().model)[0]


def several(
    adapted: Any, processes: int, stage: int, hardware: Hardware = REFERENCES[0], **changes: Any
) -> Cost:
    config = paper(distributed={"processes": processes, "deepspeed": f"zero{stage}"}, **changes)
    return estimate(config, Sizes.of(adapted, 4_720_641), Tokens(576, 120, 80, 576), hardware)


def test_work_is_divided(adapted: Any):
    """Going forward and back takes a part of the time; generating a token takes as long for fewer environments."""
    one, eight = several(adapted, 1, 1), several(adapted, 8, 1)
    assert eight.time.update == pytest.approx(one.time.update / 8)
    assert eight.time.sft == pytest.approx(one.time.sft / 8)
    tokens = 512 / 64 * 80 * 0.03
    assert eight.time.collect - tokens == pytest.approx((one.time.collect - tokens) / 8)
    assert (one.rows, eight.rows) == (15, 15)
    assert several(adapted, 16, 1).rows == 8
    assert eight.hardware == one.hardware == REFERENCES[0]


def test_processes_on_the_cpu_share_the_machine(adapted: Any):
    one, two = several(adapted, 1, 1, CPU), several(adapted, 2, 1, CPU)
    assert two.hardware.memory == 8 * 10**9
    assert two.time.update == pytest.approx(one.time.update)
    assert two.time.collect == pytest.approx(one.time.collect, rel=0.5)


def test_the_built_in_model_is_counted_as_it_will_be_built(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vlmagent.training.plan.plan.find_hardware", lambda: CPU)
    config = load_config(find_config("numberline"), {"sft": {"corpus_samples": 200}})
    found = make_plan(config)
    task = task_from_config(config)
    policy = build_policy(config.model, corpus(task, size=200), config.seed)
    assert found.trained == sum(parameter.numel() for parameter in policy.model.parameters())
    assert found.value_head == sum(parameter.numel() for parameter in policy.value_head.parameters())
    sample = next(solver_samples(task, 0))
    state = policy.encode(sample.prompt, sample.image)
    assert abs(found.tokens.read - len(state.input_ids)) <= 1  # prompts differ in a number or two
    assert [cost.hardware.name for cost in found.costs] == ["2 CPU cores"]


def test_a_plan_is_of_a_model_that_writes():
    with pytest.raises(UsageError, match="--plan knows the agent 'vlm' only"):
        make_plan(load_config(find_config("numberline"), {"agent": "cnn"}))


def test_a_plan_of_gpus_that_are_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from rich.console import Console

    monkeypatch.setattr("vlmagent.training.plan.plan.find_hardware", lambda: CPU)
    hosts = tmp_path / "hosts"
    hosts.write_text("one slots=4\ntwo slots=4\n")
    where = {"processes": 8, "deepspeed": "zero2", "hostfile": str(hosts)}
    found = make_plan(paper(distributed=where, model={"device": "cuda"}))
    assert [cost.hardware.name for cost in found.costs] == ["H200", "A100 80 GB"]
    assert found.notes[-1] == "The run needs 4 GPUs on each machine; torch sees 0 here."
    Console(width=100).print(plan_view(found))
    text = capsys.readouterr().out
    for words in (
        "8 on 2 machines, ZeRO stage 2",
        "8 environments, 16 samples of a minibatch, 16 of a fine-tuning batch",
        "8 x H200",
        "per process",
        "exchange of gradients",
    ):
        assert words in text


def test_a_disk_without_room_is_a_warning_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from rich.console import Console

    monkeypatch.setattr("vlmagent.training.plan.plan.find_hardware", lambda: CPU)
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: SimpleNamespace(free=5 * 10**9))
    found = make_plan(paper(), tmp_path / "run")
    assert [room.enough for room in found.rooms] == [False, True]
    (warning,) = found.warnings
    assert warning.startswith(
        f"Not enough room for the run: about 28.9 GB would be written to {tmp_path}/run, "
    )
    assert "5.0 GB are free" in warning
    Console(width=400).print(plan_view(found))
    assert f"Warning: {warning}" in capsys.readouterr().out


def test_host_memory_that_every_process_needs_at_once_is_a_warning(monkeypatch: pytest.MonkeyPatch):
    """Eight processes open 16.7 GB each, on a machine of 64 GB."""
    gpu = Hardware("H200", "cuda", 8, 141 * 10**9, 989e12, 4.8e12, here=True)
    monkeypatch.setattr("vlmagent.training.plan.plan.find_hardware", lambda: gpu)
    monkeypatch.setattr(places.psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * 10**9))
    (warning,) = make_plan(paper(distributed={"processes": 8})).warnings
    assert "about 146.7 GB are needed" in warning
    assert "there are 64.0 GB" in warning
    assert not make_plan(paper()).warnings


def test_sizes_from_a_models_folder(tmp_path: Path):
    architecture = shipped()["Qwen/Qwen3-VL-2B-Instruct"]
    (tmp_path / "config.json").write_text(json.dumps(dict(architecture.config)))
    size = {"shortest_edge": 65536, "longest_edge": 16777216}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": size}))
    found = find_architecture(str(tmp_path))
    network, family = build_on_meta(found, ModelConfig(name=str(tmp_path)))
    assert sum(parameter.numel() for parameter in network.parameters()) == architecture.parameters
    assert family.image_tokens(network.config, found.pictures, 300, 300) == 81 + 2


def test_models_that_nothing_is_known_of(tmp_path: Path):
    with pytest.raises(UsageError, match=r"Did you mean 'Qwen/Qwen3-VL-8B-Instruct'"):
        make_plan(paper(model={"name": "Qwen/Qwen3-VL-9B-Instruct"}))
    with pytest.raises(UsageError, match=r"no config\.json"):
        make_plan(paper(model={"name": str(tmp_path)}))


def test_peaks_by_name():
    assert peak("NVIDIA H200") == (989e12, 4.8e12)
    assert peak("NVIDIA H100 PCIe")[0] == 756e12
    assert peak("NVIDIA A100-SXM4-80GB")[0] == 312e12
    assert peak("Something else") == peak("A100")
