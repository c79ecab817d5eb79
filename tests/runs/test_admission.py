"""A run whose model or encoders were moved goes on with their new place, and with no other model's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import tiny_families
from vlmagent.config import Config, ModelConfig, load_config
from vlmagent.errors import UsageError
from vlmagent.models.fitting import fingerprint
from vlmagent.models.hf import load_policy, quiet, save_policy
from vlmagent.paths import Run
from vlmagent.runs import folders, launch


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("families")
    quiet()
    return lambda name: root / name if (root / name).exists() else tiny_families.write(name, root / name)


def run_of(model: dict[str, object]) -> Run:
    return folders.create_run(Config.model_validate({"task": "numberline", "model": model}))


def trained(run: Run, weights: Path) -> Run:
    """A run with a checkpoint of these files."""
    folder = run.checkpoints / "step-0"
    shutil.copytree(weights, folder)
    (folder / "trainer.json").write_text("{}")
    return run


def moved(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def with_other_weights(folder: Path, to: Path) -> Path:
    file = moved(folder, to) / "model.safetensors"
    save_file({name: tensor * 2 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    return to


def refused(run: Run, pair: str, message: str) -> None:
    before = run.config_file.read_bytes()
    with pytest.raises(UsageError, match=message):
        launch.update_config(run, [pair])
    assert run.config_file.read_bytes() == before


def test_adapters_stay_with_the_weights_they_were_trained_on(family, tmp_path: Path) -> None:
    base = moved(family("llava"), tmp_path / "base")
    lora = {"enabled": True, "r": 2, "alpha": 4}
    policy = load_policy(base, ModelConfig.model_validate({"name": str(base), "lora": lora}))
    (tmp_path / "adapter").mkdir()
    save_policy(policy, tmp_path / "adapter")
    run = trained(run_of({"name": str(base), "lora": lora}), tmp_path / "adapter")
    other = with_other_weights(base, tmp_path / "other")
    new = base.rename(tmp_path / "new")
    refused(run, f"model.name={tmp_path / 'nowhere'}", "nowhere' does not exist")
    refused(run, f"model.name={other}", "was trained on other weights than those in .*other")
    refused(run, "model.name=tiny", "tiny")
    assert launch.update_config(run, [f"model.name={new}"]).model.name == str(new)
    assert load_config(run.config_file).model.name == str(new)


def test_whole_weights_stay_with_their_architecture(family, tmp_path: Path) -> None:
    run = trained(run_of({"name": str(family("llava"))}), family("llava"))
    refused(run, f"model.name={family('qwen2_vl')}", "model_type is qwen2_vl, not llava")
    larger = moved(family("llava"), tmp_path / "larger")
    document = json.loads((larger / "config.json").read_text())
    layers = document["text_config"]["num_hidden_layers"]
    document["text_config"]["num_hidden_layers"] = layers + 1
    (larger / "config.json").write_text(json.dumps(document))
    refused(run, f"model.name={larger}", f"num_hidden_layers is {layers + 1}, not {layers}")
    new = moved(family("llava"), tmp_path / "new")
    assert launch.update_config(run, [f"model.name={new}"]).model.name == str(new)


def test_encoders_stay_the_ones_the_baseline_was_trained_on(family, tmp_path: Path) -> None:
    encoder = moved(family("llava"), tmp_path / "encoder")
    weights = tmp_path / "weights"
    weights.mkdir()
    saved = {
        "format": 1,
        "vision": str(encoder),
        "vision_fingerprint": fingerprint(encoder),
        "text": None,
        "has_text": False,
    }
    (weights / "cnn.json").write_text(json.dumps(saved))
    config = {"task": "numberline", "agent": "cnn", "cnn": {"vision": str(encoder)}}
    run = trained(folders.create_run(Config.model_validate(config)), weights)
    other = with_other_weights(encoder, tmp_path / "other")
    new = encoder.rename(tmp_path / "new")
    refused(run, f"cnn.vision={tmp_path / 'nowhere'}", "does not exist")
    refused(run, f"cnn.vision={other}", "was trained on other weights")
    refused(run, "cnn.vision=tiny", r"cnn\.vision = tiny cannot be set")
    assert launch.update_config(run, [f"cnn.vision={new}"]).cnn.vision == str(new)


def test_a_gpu_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(run_of({}), "model.device=cuda", "torch sees no GPU")
