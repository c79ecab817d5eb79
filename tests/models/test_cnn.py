"""The baseline's network: sampling equals scoring, features are computed once, encoders come from anywhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, ViTConfig, ViTModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from vlmagent.config import CnnConfig, ModelConfig
from vlmagent.errors import UsageError
from vlmagent.models import tiny
from vlmagent.models.cnn import CnnPolicy, load_cnn, save_cnn
from vlmagent.models.cnn_encoders import TextFeatures, VisionFeatures

SIZES = ModelConfig.model_validate(
    {
        "tiny": {
            "vision_width": 32,
            "vision_layers": 1,
            "width": 32,
            "layers": 1,
            "heads": 2,
            "vision_heads": 2,
        }
    }
).tiny
NAMES = ("+", "-", "=")


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (60, 60, 3), dtype=np.uint8) for _ in range(count)]


def parts():
    tokenizer = tiny.build_tokenizer(["one plus two equals three + - ="] * 3, 300)
    return tiny.build_model(SIZES, tokenizer, 0), tiny.build_processor(SIZES, tokenizer)


def network(*, text: bool = True, names=NAMES, actions: int = 3) -> CnnPolicy:
    model, processor = parts()
    vision = VisionFeatures(model.model.vision_tower, processor.image_processor, "patches")
    words = TextFeatures(model.model.language_model, processor.tokenizer) if text else None
    width = 26 * 32 + (32 if text else 0)
    policy = CnnPolicy(
        vision, words, width=width, actions=actions, names=names, hidden=(16, 16), seed=1
    ).eval()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return policy


def test_scored_logprobs_equal_sampled_ones():
    policy = network()
    states = [
        policy.features(image, text)
        for image, text in zip(pictures(5), ["", "1", "1+", "2", "1"], strict=True)
    ]
    policy.calibrate(states)
    chosen, logprobs, values = policy.choose(states, seed=3)
    scores = policy.score(states, chosen.tolist())
    assert scores.token_logprobs.shape == scores.mask.shape == scores.entropies.shape == (5, 1)
    assert scores.token_logprobs[:, 0].detach().numpy() == pytest.approx(logprobs, abs=1e-6)
    assert scores.values.detach().numpy() == pytest.approx(values, abs=1e-6)
    assert scores.token_logprobs.requires_grad
    assert np.array_equal(policy.choose(states, seed=3)[0], chosen)


def test_sampling_follows_the_distribution():
    policy = network(text=False)
    states = [policy.features(pictures(1)[0], "")] * 4000
    chosen, logprobs, _ = policy.choose(states, seed=0)
    for action in range(3):
        share = (chosen == action).mean()
        expected = np.exp(logprobs[chosen == action][0])
        assert share == pytest.approx(expected, abs=0.03)


def test_picture_and_text_both_matter_and_are_encoded_once(monkeypatch):
    policy = network()
    first, second = pictures(2)
    count = []
    original = VisionFeatures.__call__
    monkeypatch.setattr(
        VisionFeatures, "__call__", lambda self, image: (count.append(1), original(self, image))[1]
    )
    one = policy.features(first, "1")
    assert not torch.equal(one, policy.features(second, "1"))
    assert not torch.equal(one, policy.features(first, "1+"))
    assert torch.equal(one, policy.features(first.copy(), "1"))
    assert len(count) == 3
    assert torch.isfinite(policy.features(first, "")).all()


def test_encoders_are_frozen_and_no_parameters_of_the_policy():
    policy = network()
    names = {name.split(".")[0] for name, _ in policy.named_parameters()}
    assert names == {"head", "value_head"}
    assert not any(p.requires_grad for p in policy.vision.model.parameters())
    assert "3 actions" in policy.describe()


def test_calibration_standardises_and_does_not_blow_up_constants():
    policy = network(text=False)
    states = [policy.features(image, "") for image in pictures(6)]
    for state in states:
        state[0] = 7.0  # says nothing in these states
    deviation = torch.stack(states).std(0, correction=0)
    policy.calibrate(states)
    standard = (torch.stack(states) - policy.mean) / policy.std
    assert standard.mean(0).abs().max() < 1e-3
    assert standard[:, 0].abs().max() < 1e-3
    assert float(policy.std.min()) == pytest.approx(0.1 * float(deviation.pow(2).mean().sqrt()), rel=1e-3)
    assert torch.equal(policy.std[deviation > 1], deviation[deviation > 1])


def test_saved_and_loaded_it_is_the_same(tmp_path: Path):
    policy = network()
    policy.calibrate([policy.features(image, "1") for image in pictures(3)])
    save_cnn(policy, tmp_path)
    loaded = load_cnn(tmp_path)
    assert loaded.names == NAMES
    states = [policy.features(image, "2+") for image in pictures(2)]
    again = [loaded.features(image, "2+") for image in pictures(2)]
    for one, two in zip(states, again, strict=True):
        assert torch.allclose(one, two, atol=1e-6)
    assert torch.allclose(
        policy.score(states, [0, 1]).token_logprobs, loaded.score(again, [0, 1]).token_logprobs
    )
    (tmp_path / "cnn.json").write_text('{"format": 99}')
    with pytest.raises(UsageError, match="cnn format 99"):
        load_cnn(tmp_path)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A CLIP with random weights, saved as its users save it."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        text_config={**sizes, "vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2},
    )
    folder = tmp_path / "clip"
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False).save_pretrained(folder)
    return folder


def test_any_clip_serves_as_the_eye(clip: Path, tmp_path: Path):
    pooled, patches = VisionFeatures.open(clip, "pooled"), VisionFeatures.open(clip, "patches")
    image = pictures(1)[0]
    assert pooled(image).shape == (16,)
    assert patches(image).shape == (17 * 16,)
    policy = CnnPolicy(pooled, None, width=16, actions=2, names=("+", "-"), hidden=(8,))
    out = tmp_path / "saved"
    out.mkdir()
    save_cnn(policy, out)
    assert not (out / "vision").exists()  # it stays where it is
    assert torch.equal(load_cnn(out).features(image, ""), policy.features(image, ""))


def test_any_text_encoder_serves_for_the_words(tmp_path: Path):
    folder = tmp_path / "bert"
    tokenizer = tiny.build_tokenizer(["one plus two"] * 3, 300)
    tokenizer.save_pretrained(folder)
    BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        )
    ).save_pretrained(folder)
    text = TextFeatures.open(folder)
    assert text("one plus").shape == (16,)
    assert text("").shape == (16,)
    assert not torch.equal(text("one"), text("two"))


def test_a_folder_without_an_encoder_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"cnn\.vision = '.*' could not be opened"):
        VisionFeatures.open(tmp_path, "pooled")
    with pytest.raises(UsageError, match=r"cnn\.text = '.*' could not be opened"):
        TextFeatures.open(tmp_path)


def test_a_vit_without_its_pooler(tmp_path: Path):
    """transformers would make one up; the patches are there all the same."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8), add_pooling_layer=False).save_pretrained(
        tmp_path
    )
    CLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"2 tensors missing .*pooler\.dense.*--set cnn\.pooling=patches"):
        VisionFeatures.open(tmp_path, "pooled")
    assert VisionFeatures.open(tmp_path, "patches")(pictures(1)[0]).shape == (17 * 16,)


def test_an_encoder_that_lacks_a_layer(clip: Path):
    weights = load_file(clip / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "vision_model.encoder" not in name}
    save_file(kept, clip / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UsageError, match=r"cnn\.vision = .*missing from the file \(vision_model\.encoder\.layers\.0"
    ):
        VisionFeatures.open(clip, "pooled")


class TestEncodersOfTheUsers:
    """A saved network whose encoder stands in a folder of its own."""

    @pytest.fixture
    def saved(self, clip: Path, tmp_path: Path) -> Path:
        policy = CnnPolicy(
            VisionFeatures.open(clip, "pooled"), None, width=16, actions=2, names=("+", "-"), hidden=(8,)
        )
        folder = tmp_path / "saved"
        folder.mkdir()
        save_cnn(policy, folder)
        return folder

    def test_moved(self, saved: Path, clip: Path, tmp_path: Path):
        before = load_cnn(saved).features(pictures(1)[0], "")
        new = clip.rename(tmp_path / "new")
        with pytest.raises(UsageError, match=r"clip', is not there.*--set cnn\.vision=NEW"):
            load_cnn(saved)
        loaded = load_cnn(saved, CnnConfig(vision=str(new)))
        assert torch.equal(loaded.features(pictures(1)[0], ""), before)
        again = tmp_path / "again"
        again.mkdir()
        save_cnn(loaded, again)
        load_cnn(again)  # it knows the new place

    def test_replaced_by_another(self, saved: Path, clip: Path):
        weights = load_file(clip / "model.safetensors")
        save_file(
            {name: tensor + 1 for name, tensor in weights.items()},
            clip / "model.safetensors",
            metadata={"format": "pt"},
        )
        with pytest.raises(UsageError, match="was trained on other weights"):
            load_cnn(saved)

    def test_of_another_width(self, saved: Path):
        document = json.loads((saved / "cnn.json").read_text())
        (saved / "cnn.json").write_text(json.dumps({**document, "pooling": "patches"}))
        with pytest.raises(UsageError, match=r"give 272 features .* trained on 16: cnn\.vision"):
            load_cnn(saved).features(pictures(1)[0], "")

    def test_heads_of_another_network(self, saved: Path):
        document = json.loads((saved / "cnn.json").read_text())
        (saved / "cnn.json").write_text(json.dumps({**document, "actions": 3}))
        with pytest.raises(
            UsageError, match=r"cnn\.safetensors in .* 2 tensors of another shape \(head\.2\."
        ):
            load_cnn(saved)
