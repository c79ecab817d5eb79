"""Plans: exact counts from sizes alone, sensible estimates, nothing fetched and nothing started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vlmagent.config import Config, ModelConfig, find_config, load_config
from vlmagent.errors import UsageError
from vlmagent.hardware import REFERENCES, Hardware, peak
from vlmagent.models.architectures import find_architecture, shipped
from vlmagent.models.lora import count_parts
from vlmagent.plan import Plan, Sizes, Tokens, build_on_meta, estimate, make_plan, rows_per_micro_batch
from vlmagent.plan_view import plan_view

PAPER = "llava-hf/llava-v1.6-mistral-7b-hf"
CPU = Hardware("2 CPU cores", "cpu", 1, 16 * 10**9, 5e10, 1e10, here=True)


def paper(**changes: Any) -> Config:
    return load_config(find_config("paper/numberline"), changes)


@pytest.fixture(scope="module")
def plan() -> Plan:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlmagent.plan.find_hardware", lambda: CPU)
        return make_plan(paper())


def test_the_papers_trainable_parameters(plan: Plan):
    assert plan.trained == 393_871_360
    parts = {part.name: part.trained for part in plan.parts if part.trained}
    assert parts == {
        "vision_tower": 56_623_104,
        "multi_modal_projector": 1_703_936,
        "language_model": 335_544_320,
    }
    assert plan.value_head == 4_720_641
    assert any("2,359,296 of these parameters" in note and "391,512,064" in note for note in plan.notes)


def test_what_a_sample_and_a_run_come_to(plan: Plan):
    assert plan.tokens.picture == 576
    assert torch.zeros(1).device.type == "cpu", "the meta device is left again"
    assert 90 < plan.tokens.prompt < 160
    assert 60 < plan.tokens.output < 120
    assert (plan.updates, plan.optimizer_steps) == (29, 29 * 4 * 4)
    assert {cost.rows for cost in plan.costs} == {12288 // plan.tokens.total}


def test_it_says_what_fits_where(plan: Plan):
    here, h200, a100 = plan.costs
    assert [cost.hardware for cost in plan.costs] == [CPU, *REFERENCES]
    assert not here.fits
    assert h200.fits
    assert a100.fits
    assert here.dtype == "float32"
    assert h200.dtype == "bfloat16"
    assert 20e9 < h200.static < 25e9, "7.6 B weights of 2 bytes, 0.4 B adapters of 16"
    assert h200.peak < 40e9, "the paper: less than 40 GB"
    assert here.update > 100 * h200.update
    assert h200.update < a100.update


def test_it_is_printed(plan: Plan, capsys: pytest.CaptureFixture[str]):
    from rich.console import Console

    Console(width=100).print(plan_view(plan))
    text = capsys.readouterr().out
    for words in (
        "393,871,360",
        "391,512,064",
        "picture 576",
        "2 CPU cores",
        "H200",
        "does it fit",
        "29 updates",
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
        return estimate(config, Sizes.of(network, config.model, 4_720_641), tokens, h200)

    usual = cost()
    assert cost(model={"activation_checkpointing": False}).micro_batch > 3 * usual.micro_batch
    assert cost(model={"activation_checkpointing": False}).update < usual.update
    assert cost(model={"quantization": "4bit"}).static < usual.static - 9e9
    assert cost(ppo={"epochs": 8}).update == pytest.approx(2 * usual.update)
    assert cost(rollout={"num_envs": 32}).generation == pytest.approx(usual.generation / 2)
    assert (
        rows_per_micro_batch(paper(ppo={"max_tokens_per_micro_batch": 0, "micro_batch_size": 7}), tokens) == 7
    )
    assert rows_per_micro_batch(paper(ppo={"max_tokens_per_micro_batch": 10}), tokens) == 1


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
    with pytest.raises(UsageError, match="for checkpoints"):
        make_plan(load_config(find_config("numberline")))


def test_peaks_by_name():
    assert peak("NVIDIA H200") == (989e12, 4.8e12)
    assert peak("NVIDIA H100 PCIe")[0] == 756e12
    assert peak("NVIDIA A100-SXM4-80GB")[0] == 312e12
    assert peak("Something else") == peak("A100")
