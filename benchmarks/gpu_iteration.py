"""One PPO iteration of a full-size model with random weights: memory, speed, share of the GPU's peak.

    python benchmarks/gpu_iteration.py                       # LLaVA-1.6-mistral-7b's sizes, the paper's recipe
    python benchmarks/gpu_iteration.py --memory-gb 40        # the same inside 40 GB
    python benchmarks/gpu_iteration.py --no-recompute --micro-tokens 12288
    python benchmarks/gpu_iteration.py --size tiny           # seconds on a CPU: shows that the script works

Speed does not depend on what the weights are, so that nothing is downloaded: random weights write about
``--output-tokens`` tokens before they are cut off. The baseline is the paper's machine: 15,000 env steps in about
30 hours.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForImageTextToText, LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from vlmagent.agents.vlm import VlmAgent
from vlmagent.config import Config, find_config, load_config
from vlmagent.models import lora, tiny
from vlmagent.models import recompute as models_recompute
from vlmagent.models.architectures import shipped
from vlmagent.models.families import family_of
from vlmagent.models.hf import quiet
from vlmagent.models.policy import Policy
from vlmagent.seeding import train_episode_seed
from vlmagent.tasks.base import Task
from vlmagent.tasks.registry import task_from_config
from vlmagent.training.engines.local import LocalEngine
from vlmagent.training.plan.hardware import find_hardware
from vlmagent.training.plan.sizes import Sizes, Tokens
from vlmagent.training.plan.speed import Flops
from vlmagent.training.rl.buffer import RolloutBuffer, Sample
from vlmagent.training.rl.ppo import PpoUpdater
from vlmagent.training.rollout import Rollout, observation_of
from vlmagent.training.sft.samples import solver_samples

MODEL = "llava-hf/llava-v1.6-mistral-7b-hf"
PAPER_HOURS = 30.0
ENV_STEPS = 15_000
GB = 10**9
TINY = {
    "text_config": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
                    "num_key_value_heads": 2, "head_dim": 16},
    "vision_config": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
                      "image_size": 56},
}  # fmt: skip
"""What ``--size tiny`` replaces in the architecture; everything else is as at full size."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One phase: seconds, and the most memory it held (0 on a CPU)."""

    seconds: float
    peak_gb: float


@contextmanager
def measured(found: dict[str, Measured], name: str) -> Iterator[None]:
    """Time a phase on a quiet device."""
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    yield
    if gpu:
        torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() / GB if gpu else 0.0
    found[name] = Measured(time.perf_counter() - started, peak)


def recipe(options: argparse.Namespace) -> Config:
    """The paper's recipe on NumberLine with what the command line changes."""
    small = options.size == "tiny"
    model = {
        "lora": {"enabled": True, "r": 4 if small else 128},
        "activation_checkpointing": options.recompute,
        "value_head": [16] if small else [1024, 512],
    }
    ppo: dict[str, Any] = {"steps_per_update": options.transitions, "env_steps": options.transitions}
    ppo |= {"minibatch_size": min(128, options.transitions), "micro_batch_size": options.micro_rows}
    ppo |= {"max_tokens_per_micro_batch": options.micro_tokens, "epochs": options.epochs}
    rollout = {"num_envs": min(options.envs, options.transitions), "max_new_tokens": options.output_tokens}
    return load_config(find_config("paper/numberline"), {"model": model, "ppo": ppo, "rollout": rollout})


def tokenizer_for(task: Task) -> PreTrainedTokenizerFast:
    """A tokenizer that splits English about as finely as a large model's does."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = [tiny.PAD, tiny.BOS, tiny.EOS, tiny.IMAGE]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    stream = solver_samples(task, 0)
    samples = [next(stream) for _ in range(200)]
    bpe.train_from_iterator([text for s in samples for text in (s.prompt, s.response)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=tiny.PAD,
        bos_token=tiny.BOS,
        eos_token=tiny.EOS,
        extra_special_tokens={"image_token": tiny.IMAGE},
    )


def build(config: Config, task: Task, size: str, device: torch.device) -> Policy:
    """The policy with random weights, in the precision it would be trained in there."""
    from transformers import CONFIG_MAPPING

    tokens = tokenizer_for(task)
    fields = json.loads(json.dumps(dict(shipped()[MODEL].config)))
    for part, values in TINY.items() if size == "tiny" else ():
        fields[part] |= values
    fields["image_token_index"] = tokens.convert_tokens_to_ids(tiny.IMAGE)
    saved = CONFIG_MAPPING[fields.pop("model_type")].from_dict(fields)
    architecture = family_of("llava_next").model_config(saved, tiles=False)
    half = torch.bfloat16 if device.type == "cuda" else torch.float32
    with torch.device(device):
        network = AutoModelForImageTextToText.from_config(architecture, dtype=half)
    network.requires_grad_(False)
    backbone = lora.add_adapters(network, config.model.lora, train_vision=True, base=MODEL)
    if config.model.activation_checkpointing:
        models_recompute.enable(network)
    side = {"height": saved.vision_config.image_size, "width": saved.vision_config.image_size}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size=side, crop_size=side),
        tokenizer=tokens,
        patch_size=saved.vision_config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tiny.CHAT_TEMPLATE,
    )
    recompute = config.model.activation_checkpointing
    policy = Policy(backbone, processor, config.model.value_head, recompute=recompute)
    return policy.to(device).eval()


def run(config: Config, task: Task, policy: Policy) -> tuple[dict[str, Measured], list[Sample], PpoUpdater]:
    """Collect one update's transitions, then learn from them."""
    agent = VlmAgent(
        policy,
        task,
        temperature=config.rollout.temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        thought_weight=config.ppo.thought_weight,
        detach_value=config.ppo.detach_value,
        rescore=not policy.exact,
    )
    groups = [
        {"params": policy.trained_parameters(), "lr": config.ppo.lr},
        {"params": list(policy.value_head.parameters()), "lr": config.ppo.value_lr},
    ]
    updater = PpoUpdater(agent, LocalEngine(groups, config.ppo.max_grad_norm), config.ppo)
    envs = config.rollout.num_envs
    rollout = Rollout(
        task,
        agent,
        num_envs=envs,
        split="train",
        seed=0,
        episode_seeds=lambda env_index, count: train_episode_seed(0, env_index, count),
    )
    found: dict[str, Measured] = {}
    try:
        rollout.start()
        agent.calibrate([observation_of(slot) for slot in rollout.slots])
        with measured(found, "warm up"):  # kernels are chosen and loaded at first use
            rollout.step()
        buffer = RolloutBuffer(envs, config.ppo.steps_per_update // envs)
        with measured(found, "generate"):
            while not buffer.full:
                buffer.add(rollout.step())
        last = rollout.values()
    finally:
        rollout.close()
    samples = buffer.finish(last, gamma=config.ppo.gamma, gae_lambda=config.ppo.gae_lambda)
    with measured(found, "update"):
        updater.update(samples, seed=0)
    return found, samples, updater


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Run it and work out the numbers."""
    quiet()
    hardware = find_hardware()
    device = torch.device("cuda" if hardware.kind == "cuda" else "cpu")
    if options.memory_gb and device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(min(1.0, options.memory_gb * GB / hardware.memory))
    config = recipe(options)
    task = task_from_config(config)
    policy = build(config, task, options.size, device)
    held = torch.cuda.memory_allocated() / GB if device.type == "cuda" else 0.0
    found, samples, updater = run(config, task, policy)
    count = len(samples)
    outputs = [
        len(s.transition.decision.generation.token_ids) for s in samples if s.transition.decision.generation
    ]
    state = policy.encode(samples[0].transition.decision.prompt, samples[0].transition.image)
    picture = int((state.input_ids == policy.model.config.image_token_id).sum())
    tokens = Tokens(picture, len(state.input_ids) - picture, round(sum(outputs) / count), picture)
    head = sum(parameter.numel() for parameter in policy.value_head.parameters())
    flops = Flops.of(config, Sizes.of(policy.model, head), tokens)
    done = config.ppo.epochs * count * flops.training
    iteration = found["generate"].seconds + found["update"].seconds
    hours = ENV_STEPS / count * iteration / 3600
    return {
        "device": hardware.name,
        "model": f"{MODEL}, random weights, {options.size}",
        "trained_parameters": sum(parameter.numel() for parameter in policy.trained_parameters()),
        "transitions": count,
        "tokens": asdict(tokens),
        "activation_checkpointing": config.model.activation_checkpointing,
        "micro_batch": updater.batcher.describe(),
        "times_out_of_memory": updater.batcher.shrunk,
        "static_gb": round(held, 2),
        "peak_gb": {name: round(phase.peak_gb, 2) for name, phase in found.items()},
        "seconds": {name: round(phase.seconds, 2) for name, phase in found.items()},
        "generate_transitions_per_second": round(count / found["generate"].seconds, 3),
        "update_transitions_per_second": round(count / found["update"].seconds, 3),
        "update_share_of_peak": round(done / found["update"].seconds / hardware.flops, 4),
        "hours_for_15000_env_steps": round(hours, 3),
        "times_the_papers_speed": round(PAPER_HOURS / hours, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("7b", "tiny"), default="7b")
    parser.add_argument("--transitions", type=int, default=512)
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--output-tokens", type=int, default=100)
    parser.add_argument("--micro-tokens", type=int, default=12288, help="tokens per micro-batch at most")
    parser.add_argument("--micro-rows", type=int, default=128, help="samples per micro-batch at most")
    parser.add_argument("--memory-gb", type=float, default=0.0, help="use no more of the GPU than this")
    parser.add_argument("--no-recompute", dest="recompute", action="store_false")
    options = parser.parse_args()
    if options.transitions % min(options.envs, options.transitions):
        parser.error(f"--transitions {options.transitions} must be a multiple of --envs {options.envs}")
    print(json.dumps(report(options), indent=2))


if __name__ == "__main__":
    main()
