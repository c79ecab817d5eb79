"""The policy with a tiny random model: sampler and scorer agree, pictures matter, nothing forbidden is written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from vlmagent.config import Config, ModelConfig
from vlmagent.errors import UsageError
from vlmagent.models.hf import build_policy, load_policy, save_policy
from vlmagent.models.policy import Policy, output_lengths
from vlmagent.tasks.registry import build_task, task_from_config
from vlmagent.training.sft.loss import response_loss
from vlmagent.training.sft.samples import corpus, solver_samples

PROMPTS = ["Which way?", "You are playing a game called number line. Which way? " * 3]


@pytest.fixture(scope="module")
def policy() -> Policy:
    tiny = {"vision_width": 32, "vision_layers": 1, "width": 32, "layers": 2, "heads": 2, "vision_heads": 2}
    config = ModelConfig.model_validate({"tiny": tiny, "value_head": [16]})
    built = build_policy(config, corpus(build_task("numberline")), seed=3)
    with torch.no_grad():  # a critic that starts at zero everywhere would hide mistakes
        for parameter in built.value_head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return built


def states(policy: Policy, pictures: int = 2):
    task = build_task("numberline")
    env = task.make_env()
    images = [env.reset(seed=seed)[0] for seed in range(pictures)]
    return [policy.encode(PROMPTS[i % len(PROMPTS)], images[i % pictures]) for i in range(4)]


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_scored_logprobs_equal_sampled_ones(policy, temperature):
    """Rows of different prompt and output lengths in one left-padded batch, recomputed to 1e-4."""
    encoded = states(policy)
    sampled = policy.sample(encoded, temperature=temperature, max_new_tokens=20, seed=1)
    assert len({len(s.input_ids) for s in encoded}) > 1
    with torch.no_grad():
        scores = policy.score(encoded, [s.token_ids for s in sampled], temperature=temperature)
    for row, output in enumerate(sampled):
        length = len(output.token_ids)
        assert scores.mask[row].sum() == length
        assert scores.token_logprobs[row, :length].numpy() == pytest.approx(output.token_logprobs, abs=1e-4)
        assert float(scores.values[row]) == pytest.approx(output.value, abs=1e-4)


def test_a_row_does_not_depend_on_its_batch(policy):
    encoded = states(policy)
    outputs = [np.array([5, 6, policy.eos_id]), np.array([7]), np.array([8, 9]), np.array([0 + 20] * 6)]
    with torch.no_grad():
        together = policy.score(encoded, outputs, temperature=1.0)
        for row, (state, output) in enumerate(zip(encoded, outputs, strict=True)):
            alone = policy.score([state], [output], temperature=1.0)
            expected = together.token_logprobs[row, : len(output)]
            assert alone.token_logprobs[0].numpy() == pytest.approx(expected.numpy(), abs=1e-4)
            assert float(alone.values[0]) == pytest.approx(float(together.values[row]), abs=1e-4)


def test_values_alone_equal_those_of_sampling(policy):
    encoded = states(policy)
    sampled = policy.sample(encoded, temperature=1.0, max_new_tokens=4, seed=0)
    assert policy.values(encoded).numpy() == pytest.approx([s.value for s in sampled], abs=1e-4)


def test_one_seed_one_sample(policy):
    encoded = states(policy)
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    first = policy.sample(encoded, temperature=1.0, max_new_tokens=12, seed=5)
    assert torch.equal(before, torch.random.get_rng_state()), "sampling must not disturb the global generator"
    again = policy.sample(encoded, temperature=1.0, max_new_tokens=12, seed=5)
    other = policy.sample(encoded, temperature=1.0, max_new_tokens=12, seed=6)
    assert all(np.array_equal(a.token_ids, b.token_ids) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a.token_ids, b.token_ids) for a, b in zip(first, other, strict=True))


def test_special_tokens_are_never_sampled_and_have_no_probability(policy):
    encoded = states(policy)
    forbidden = set(policy.banned)
    assert policy.backbone.config.image_token_id in forbidden
    assert policy.eos_id not in forbidden
    for seed in range(20):
        for output in policy.sample(encoded, temperature=2.0, max_new_tokens=30, seed=seed):
            assert not forbidden & set(output.token_ids.tolist())
            assert np.isfinite(output.token_logprobs).all()
    scores = policy.score(encoded, [[policy.eos_id]] * len(encoded), temperature=1.0)
    assert torch.isfinite(scores.entropies).all()


def test_the_picture_matters(policy):
    task = build_task("numberline")
    env = task.make_env()
    first, other = env.reset(seed=0)[0], env.reset(seed=3)[0]
    assert not np.array_equal(first, other)
    output = [np.arange(20, 30)]
    with torch.no_grad():
        one = policy.score([policy.encode("x", first)], output, temperature=1.0).token_logprobs
        two = policy.score([policy.encode("x", other)], output, temperature=1.0).token_logprobs
    assert not torch.allclose(one, two)


def test_equal_pictures_are_encoded_once(policy, monkeypatch):
    sizes = []
    original = policy.backbone.get_image_features

    def spy(pixel_values, **kwargs):
        sizes.append(len(pixel_values))
        return original(pixel_values=pixel_values, **kwargs)

    monkeypatch.setattr(policy.backbone, "get_image_features", spy)
    policy.values(states(policy, pictures=2))
    assert sizes == [2]


def test_greedy_decoding_takes_the_likeliest_token(policy):
    encoded = states(policy)
    one = policy.sample(encoded, temperature=0, max_new_tokens=8, seed=1)
    two = policy.sample(encoded, temperature=0, max_new_tokens=8, seed=2)
    assert all(np.array_equal(a.token_ids, b.token_ids) for a, b in zip(one, two, strict=True))


def test_output_lengths_count_the_end_token():
    ids = torch.tensor([[4, 2, 9, 9], [4, 5, 6, 7], [2, 9, 9, 9], [0, 0, 2, 9]])
    assert output_lengths(ids, [2]).tolist() == [2, 4, 1, 3]
    assert output_lengths(ids, [6, 2]).tolist() == [2, 3, 1, 3]


def test_text_round_trip(policy):
    text = '{\n"thoughts": "é ü 漢字 \U0001f600",\n"action": "+"\n}'
    ids = policy.tokenize_output(text)
    assert ids[-1] == policy.eos_id
    assert policy.decode(ids) == text


def test_every_digit_and_operator_is_a_token_of_its_own(policy):
    pieces = [policy.decode([i]) for i in policy.tokenize_output('"action": "+"12-3')[:-1]]
    assert {"+", "1", "2", "-", "3"} <= set(pieces)


def test_saved_policies_open_through_the_auto_classes(policy, tmp_path: Path):
    save_policy(policy, tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert type(processor).__name__ == "LlavaProcessor"
    loaded = load_policy(tmp_path)
    for one, two in zip(policy.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    encoded = states(policy)
    assert torch.equal(policy.values(encoded), loaded.values(states(loaded)))


def test_a_folder_that_is_no_checkpoint(tmp_path: Path):
    with pytest.raises(UsageError, match="does not exist"):
        load_policy(tmp_path / "missing")
    with pytest.raises(UsageError, match="is no checkpoint"):
        load_policy(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match="could not be opened"):
        load_policy(tmp_path)


def test_sft_lowers_the_loss(small_config: Config):
    from vlmagent.training.sft.sft import train_sft

    config = small_config.model_copy(update={"sft": small_config.sft.model_copy(update={"samples": 480})})
    task = task_from_config(config)
    fresh = build_policy(config.model, corpus(task), 0)
    stream = solver_samples(task, 99)
    batch = [next(stream) for _ in range(16)]
    with torch.no_grad():
        before = float(response_loss(fresh, batch))
    train_sft(fresh, config, task, lambda _: None)
    with torch.no_grad():
        after = float(response_loss(fresh, batch))
    assert after < before - 1.0


@pytest.mark.parametrize("padded", [False, True])
def test_rows_that_are_alike_are_scored_once(policy, padded, monkeypatch):
    """The same numbers and gradients as when every row goes through the network, also in training mode.

    Where dropout draws, each row is a sample of its own.
    """
    encoded = states(policy)
    outputs = [[5, 6, policy.eos_id], [7], [8, 9], [7, 7]]
    rows, said = [encoded[i] for i in (0, 1, 0, 0, 1)], [outputs[i] for i in (0, 1, 0, 3, 1)]
    sizes = []
    handle = policy.model.get_output_embeddings().register_forward_pre_hook(
        lambda _, inputs: sizes.append(inputs[0].shape[:-1].numel())
    )
    monkeypatch.setattr(policy, "passes", policy.padded_passes() if padded else policy.passes)
    policy.train()
    once = policy.score(rows, said, temperature=0.7, detach_value=False)
    gradient = _gradient(policy, once)
    # a module that would draw masks: each row is a sample of its own
    monkeypatch.setattr(policy.backbone, "mask", torch.nn.Dropout(0.5), raising=False)
    all_rows = policy.score(rows, said, temperature=0.7, detach_value=False)
    expected = _gradient(policy, all_rows)
    policy.eval()
    handle.remove()
    # padded: rows of four positions. Packed: the first two rows share a prompt, whose last token predicts for both
    assert sizes == ([3 * 4, 5 * 4] if padded else [2 + 2 + 0 + 1, 5 + 2 + 0 + 2 + 1 + 0])
    assert torch.equal(once.mask, all_rows.mask)
    for name in ("token_logprobs", "entropies", "values"):
        assert torch.allclose(getattr(once, name), getattr(all_rows, name), atol=1e-5)
    assert torch.allclose(gradient, expected, atol=1e-4)


def test_entropies_without_gradients_are_the_same(policy):
    """Same numbers and gradients of everything else; of the tables (B, L, V) that go back, fewer are kept."""
    encoded, said = states(policy), [[5, 6, policy.eos_id], [7], [8, 9], [7, 7]]
    held, found = {"learnt": 0, "measured": 0}, {}

    def watch(need: str):
        def keep(tensor: torch.Tensor) -> torch.Tensor:
            held[need] += tensor.dim() == 2 and tensor.shape[-1] > 200
            return tensor

        return torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)

    for need in held:
        with watch(need):
            found[need] = policy.score(encoded, said, temperature=0.7, entropy=need)
    assert torch.equal(found["learnt"].entropies, found["measured"].entropies)
    assert torch.equal(found["learnt"].token_logprobs, found["measured"].token_logprobs)
    assert [scores.entropies.requires_grad for scores in found.values()] == [True, False]
    assert held["measured"] < held["learnt"]
    assert torch.allclose(_gradient(policy, found["learnt"]), _gradient(policy, found["measured"]), atol=1e-6)


def test_recent_states_are_encoded_once(policy):
    before = policy.states.hits, policy.states.misses
    picture = np.random.default_rng(7).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    first, again = policy.encode("new", picture), policy.encode("new", picture.copy())
    other = policy.encode("newer", picture)
    assert first is again
    assert other is not first
    assert (policy.states.hits - before[0], policy.states.misses - before[1]) == (1, 2)


def _gradient(policy: Policy, scores) -> torch.Tensor:
    """Of a loss in which every row has a weight of its own, over all weights."""
    weights = torch.arange(1.0, len(scores.values) + 1)
    loss = (weights * (scores.token_logprobs.sum(1) + scores.values)).sum()
    used = [p for p in policy.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, used, allow_unused=True)
    return torch.cat([g.flatten() for g in grads if g is not None])
