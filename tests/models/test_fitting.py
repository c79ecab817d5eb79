"""What does not fit is refused with names: weights, adapters, value heads, tokenizers, bases of adapters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.test_lora import adapted, disturb, scores
from vlmagent.config import ModelConfig
from vlmagent.errors import UsageError
from vlmagent.models.fitting import Fit, compare, fingerprint
from vlmagent.models.hf import load_policy, save_policy
from vlmagent.models.locate import check_checkpoint

Checkpoint = Callable[[str], Path]
Tensors = dict[str, torch.Tensor]


def changed(folder: Path, to: Path, change: Callable[[Tensors], Tensors], file: str = "model") -> Path:
    """A copy of a checkpoint whose tensors went through ``change``."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    weights = to / f"{file}.safetensors"
    save_file(change(load_file(weights)), weights, metadata={"format": "pt"})
    return to


def renamed(tensors: Tensors, old: str, new: str) -> Tensors:
    return {name.replace(old, new): tensor for name, tensor in tensors.items()}


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_comparison_names_each_kind_of_misfit() -> None:
    held = {"a": (2, 3), "b": (4,), "c": (1,)}
    fit = compare(held, {"a": (2, 3), "b": (5,), "d": (1,)})
    assert fit == Fit(("c",), ("d",), ("b: (4,) in the file, (5,) in the network",))
    assert compare(held, {"a": (2, 3)}, {"b": (4,), "c": (1,), "e": (9,)}).whole
    many = Fit(unplaced=tuple("vwxyz"))
    assert many.describe() == "5 tensors in the file without a place (v, w, x, ...)"
    with pytest.raises(
        UsageError, match=r"^The thing does not fit: 1 tensor missing from the file \(q\)\. Mend it\.$"
    ):
        Fit(untouched=("q",)).check("The thing", "Mend it.")
    Fit().check("The thing", "Mend it.")


class TestModelFolders:
    """A whole checkpoint."""

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (
                lambda t: {name: x for name, x in t.items() if "layers.1.mlp" not in name},
                r"3 tensors missing from the file \(model\.language_model\.layers\.1\.mlp\.down_proj\.weight",
            ),
            (
                lambda t: {**t, "model.surprise.weight": torch.zeros(2)},
                r"1 tensor in the file without a place \(model\.surprise\.weight\)",
            ),
            (
                lambda t: {name: x[:-1].clone() if "lm_head" in name else x for name, x in t.items()},
                r"1 tensor of another shape \(lm_head\.weight: \(\d+, 32\) in the file, \(\d+, 32\) in the network\)",
            ),
        ],
    )
    def test_refused_by_name(
        self, change: Callable[[Tensors], Tensors], words: str, checkpoint: Checkpoint, tmp_path: Path
    ) -> None:
        folder = changed(checkpoint("qwen3_vl"), tmp_path / "model", change)
        with pytest.raises(UsageError, match=words) as caught:
            load_policy(folder)
        assert str(folder) in str(caught.value)
        assert "fetch or copy the checkpoint again" in str(caught.value)

    def test_a_tokenizer_with_more_tokens_than_rows(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        shutil.copytree(checkpoint("qwen3_vl"), folder)
        tokens = json.loads((folder / "tokenizer.json").read_text())
        first = max(token["id"] for token in tokens["added_tokens"])
        last = max(first, *tokens["model"]["vocab"].values())
        tokens["added_tokens"].append({**tokens["added_tokens"][-1], "id": last + 1, "content": "<|extra|>"})
        (folder / "tokenizer.json").write_text(json.dumps(tokens))
        words = rf"1 of its \d+ tokens have no row among the {last + 1} .*'<\|extra\|>', id {last + 1}"
        with pytest.raises(UsageError, match=words):
            load_policy(folder)

    def test_a_processor_that_marks_pictures_otherwise(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        shutil.copytree(checkpoint("llava"), folder)
        edit(folder / "config.json", image_token_index=9, image_token_id=9)
        with pytest.raises(
            UsageError, match=r"marks pictures with id \d+, and the model looks for them at id 9"
        ):
            load_policy(folder)


def test_a_model_that_is_cut_off(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint("llava"), folder)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="could not be opened"):
        load_policy(folder)


class TestQuantizationConfig:
    """A config that says the weights are quantised."""

    @pytest.mark.parametrize("method", [{"quant_method": "gguf"}, {"quant_method": "awq"}])
    def test_left_behind_it_is_left_out(
        self, method: dict[str, Any], checkpoint: Checkpoint, tmp_path: Path
    ) -> None:
        """With it a model opens and trains, and cannot be saved."""
        folder, out = tmp_path / "model", tmp_path / "out"
        shutil.copytree(checkpoint("llava"), folder)
        edit(folder / "config.json", quantization_config=method)
        policy = load_policy(folder, ModelConfig(name=str(folder)))
        assert "speaks of quantised weights, but they are not" in policy.describe()
        out.mkdir()
        save_policy(policy, out)
        assert "quantization_config" not in json.loads((out / "config.json").read_text())
        assert torch.equal(scores(load_policy(out)), scores(load_policy(checkpoint("llava"))))

    def test_quantised_weights_cannot_learn_whole(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        folder = changed(
            checkpoint("llava"),
            tmp_path / "model",
            lambda t: {**t, "x.qweight": torch.ones(2, dtype=torch.int32)},
        )
        edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
        with pytest.raises(UsageError, match=r"are quantised .*model\.lora\.enabled=true"):
            load_policy(folder, ModelConfig(name=str(folder)))


class TestValueHeads:
    """A critic beside a model."""

    @pytest.fixture
    def saved(self, checkpoint: Checkpoint, tmp_path: Path) -> Path:
        policy = load_policy(checkpoint("llava"), ModelConfig(name="x", value_head=(16,)))
        save_policy(policy, tmp_path)
        return tmp_path

    def test_of_another_shape(self, saved: Path) -> None:
        edit(saved / "value_head.json", hidden=[8])
        words = r"The value head in .* of another shape \(layers\.0\.bias: \(16,\) in the file, \(8,\) in the network"
        with pytest.raises(UsageError, match=words):
            load_policy(saved)

    def test_with_another_number_of_layers(self, saved: Path) -> None:
        edit(saved / "value_head.json", hidden=[16, 16])
        with pytest.raises(UsageError, match=r"2 tensors missing from the file \(layers\.4\.\w+"):
            load_policy(saved)

    @pytest.mark.parametrize("hidden", [None, "wide", [0], [2.5]])
    def test_without_widths(self, saved: Path, hidden: object) -> None:
        edit(saved / "value_head.json", hidden=hidden)
        with pytest.raises(UsageError, match="does not say the widths"):
            load_policy(saved)

    def test_cut_off(self, saved: Path) -> None:
        file = saved / "value_head.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(UsageError, match=r"value_head\.safetensors could not be read .*Copy it again"):
            load_policy(saved)

    @pytest.mark.parametrize("name", ["value_head.json", "value_head.safetensors"])
    def test_half_of_it(self, saved: Path, name: str) -> None:
        (saved / name).unlink()
        with pytest.raises(UsageError, match=f"not whole: {name} is missing"):
            load_policy(saved)

    def test_an_earlier_one_without_a_scale(self, saved: Path) -> None:
        head = load_file(saved / "value_head.safetensors")
        del head["scale"]
        save_file(head, saved / "value_head.safetensors")
        assert float(load_policy(saved).value_head.scale) == 1.0


class TestAdapters:
    """LoRA adapters on a base."""

    @pytest.fixture
    def saved(self, checkpoint: Checkpoint, tmp_path: Path) -> Path:
        """Adapters of Qwen2.5-VL that do something."""
        policy = adapted(checkpoint("qwen2_5_vl"))
        disturb(policy)
        folder = tmp_path / "adapter"
        folder.mkdir()
        save_policy(policy, folder)
        return folder

    @pytest.mark.parametrize("lora", [True, False])
    def test_older_names_are_mapped_when_every_tensor_lands(
        self, saved: Path, tmp_path: Path, lora: bool
    ) -> None:
        """``model.layers`` became ``model.language_model.layers``, ``visual`` became ``model.visual``."""

        def older(tensors: Tensors) -> Tensors:
            inner = renamed(tensors, "model.model.language_model.", "model.model.")
            return renamed(inner, "base_model.model.model.visual.", "base_model.model.visual.")

        old = changed(saved, tmp_path / "old", older, "adapter_model")
        assert set(load_file(old / "adapter_model.safetensors")) != set(
            load_file(saved / "adapter_model.safetensors")
        )
        config = ModelConfig.model_validate({"name": str(old), "lora": {"enabled": lora}})
        policy = load_policy(old, config)
        assert torch.allclose(scores(policy), scores(load_policy(saved)), atol=1e-5)
        assert "had names of an earlier transformers" in policy.describe()
        assert "earlier" not in load_policy(saved).describe()

    def test_names_that_nothing_maps_are_refused(self, saved: Path, tmp_path: Path) -> None:
        odd = changed(saved, tmp_path / "odd", lambda t: renamed(t, ".layers.", ".h."), "adapter_model")
        with pytest.raises(UsageError) as caught:
            load_policy(odd)
        text = str(caught.value)
        assert f"The adapter in {odd}" in text
        assert (
            "28 tensors in the file without a place (base_model.model.model.language_model.h.0.mlp." in text
        )
        assert "28 tensors missing from the file (base_model.model.model.language_model.layers.0." in text
        assert "merge it into its model" in text

    def test_a_part_is_not_enough(self, saved: Path, tmp_path: Path) -> None:
        """A module that stays as it was made would be a random matrix times zero."""
        part = changed(
            saved,
            tmp_path / "part",
            lambda t: {n: x for n, x in t.items() if "layers.1." not in n},
            "adapter_model",
        )
        with pytest.raises(UsageError, match=r"14 tensors missing from the file"):
            load_policy(part)

    def test_of_another_size(self, saved: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
        edit(saved / "adapter_config.json", r=2)
        with pytest.raises(
            UsageError, match=r"of another shape \(.*\(4, 32\) in the file, \(2, 32\) in the network"
        ):
            load_policy(saved)

    def test_of_another_family(self, saved: Path, checkpoint: Checkpoint) -> None:
        edit(saved / "adapter_config.json", base_model_name_or_path=str(checkpoint("llava")))
        (saved / "vlmagent.json").unlink()
        with pytest.raises(UsageError, match="does not fit"):
            load_policy(saved)

    def test_on_other_weights_of_the_same_kind(
        self, saved: Path, checkpoint: Checkpoint, tmp_path: Path
    ) -> None:
        """Every tensor would land, and mean something else."""
        other = changed(
            checkpoint("qwen2_5_vl"), tmp_path / "other", lambda t: {n: 2 * x for n, x in t.items()}
        )
        edit(saved / "adapter_config.json", base_model_name_or_path=str(other))
        with pytest.raises(UsageError, match=r"was trained on other weights than those in .*other"):
            load_policy(saved)
        edit(saved / "vlmagent.json", base=None)  # earlier versions, and adapters from elsewhere, say nothing
        load_policy(saved)

    def test_cut_off(self, saved: Path) -> None:
        file = saved / "adapter_model.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
        with pytest.raises(UsageError, match=r"adapter_model\.safetensors could not be read .*Copy it again"):
            load_policy(saved)

    def test_of_another_type(self, saved: Path) -> None:
        edit(saved / "adapter_config.json", peft_type="PROMPT_TUNING")
        with pytest.raises(UsageError, match=r"adapter of the type PROMPT_TUNING.*Valid choices: .*LORA"):
            check_checkpoint(saved)

    @pytest.mark.parametrize("as_config", [True, False])
    def test_a_base_that_was_moved(
        self, saved: Path, checkpoint: Checkpoint, tmp_path: Path, as_config: bool
    ) -> None:
        """model.name says where it is now, and checkpoints written from then on say it too."""
        expected = scores(load_policy(saved))
        edit(saved / "adapter_config.json", base_model_name_or_path=str(tmp_path / "gone"))
        with pytest.raises(UsageError, match=r"gone', which is not there.*--set model\.name=NEW"):
            load_policy(saved)
        new, out = tmp_path / "new", tmp_path / "out"
        shutil.copytree(checkpoint("qwen2_5_vl"), new)
        lora = {"enabled": True}
        config = ModelConfig.model_validate({"name": str(new), "lora": lora})
        policy = load_policy(saved, config) if as_config else load_policy(saved, base=str(new))
        assert torch.allclose(scores(policy), expected, atol=1e-6)
        out.mkdir()
        save_policy(policy, out)
        assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(new)
        # a run that began with an adapter names that one, whose own base is gone too
        unmoved = ModelConfig.model_validate({"name": str(saved), "lora": lora})
        assert torch.allclose(scores(load_policy(out, unmoved)), expected, atol=1e-6)


def test_a_fingerprint_tells_weights_apart_but_not_their_precision(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder = checkpoint("llava")
    half = changed(folder, tmp_path / "half", lambda t: {n: x.to(torch.bfloat16) for n, x in t.items()})
    other = changed(folder, tmp_path / "other", lambda t: {n: x + 1 for n, x in t.items()})
    longer = changed(folder, tmp_path / "more", lambda t: {**t, "more": torch.zeros(1)})
    assert fingerprint(half) == fingerprint(folder)
    assert len({fingerprint(f) for f in (folder, other, longer)}) == 3
