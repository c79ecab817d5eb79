"""ZeRO over two processes on the CPU against one process on the whole batch; the configuration files."""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.training.distributed.two_processes import run_two
from vlmagent.errors import UsageError
from vlmagent.training.distributed.zero_config import complete, read_zero_config, zero_names

pytestmark = pytest.mark.usefixtures("forked_programs")
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="the extra 'deepspeed' is not installed"
)


@needs_deepspeed
def test_every_stage_equals_one_process_on_the_whole_batch():
    """Frozen groups, clipping, learning rates, losses that are not finite, saved and loaded states."""
    said = run_two("tests.training.engines.zero_worker", "0", "1", "2", "3")
    equal = [line for line in said if line.startswith("equal")]
    assert equal == ["equal 0", "equal 1", "equal 2", "equal 3"]


def test_the_shipped_files_have_their_stage():
    assert zero_names() == ["zero0", "zero1", "zero2", "zero3"]
    for stage, name in enumerate(zero_names()):
        assert read_zero_config(name)["zero_optimization"]["stage"] == stage


def test_a_file_is_taken_as_it_is_and_completed(tmp_path: Path):
    file = tmp_path / "mine.json"
    zero = {"stage": 2, "overlap_comm": True, "reduce_bucket_size": "auto", "round_robin_gradients": True}
    mine = {
        "zero_optimization": zero,
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": False},
        "train_batch_size": "auto",
        "gradient_accumulation_steps": 7,
        "wall_clock_breakdown": True,
    }
    file.write_text(json.dumps(mine))
    assert read_zero_config(str(file)) == mine
    assert complete(mine, 4) == {
        "steps_per_print": 10**9,
        "wall_clock_breakdown": True,
        "zero_optimization": {"stage": 2, "overlap_comm": True, "round_robin_gradients": True},
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "zero_allow_untested_optimizer": True,
        "data_types": {"grad_accum_dtype": "fp32"},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "could not be read as JSON"),
        ("[]", "should hold an object"),
        ('{"bf16": {"enabled": true}}', "model.dtype"),
        ('{"optimizer": {"type": "AdamW"}}', "ppo.lr"),
        ('{"zero_optimization": {"stage": 1, "overlap_comm": true}}', "needs stage 2 or 3"),
        ('{"zero_optimization": {"stage": 4}}', "Valid choices: 0, 1, 2, 3"),
        ('{"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}', "Remove the section"),
    ],
)
def test_what_contradicts_the_recipe_is_refused(tmp_path: Path, text: str, said: str):
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_zero_config(str(file))


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'zero2'"):
        read_zero_config("zero-2")
