"""How long a run's parts take: operations counted on the network's sizes, over what the device does in a second."""

from __future__ import annotations

from dataclasses import dataclass

from vlmagent.config import Config
from vlmagent.training.plan.hardware import Hardware
from vlmagent.training.plan.memory import weight_bytes, weights_are_half
from vlmagent.training.plan.share import Share
from vlmagent.training.plan.sizes import Sizes, Tokens

UPDATE_EFFICIENCY = 0.4
"""Share of the peak that forward and backward passes of such models reach."""
DECODE_STEP_SECONDS = 0.03
"""Least time of one generated token on a GPU: launching the kernels of all layers, one after another."""


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of one sample: a forward pass; and with its backward pass."""

    forward: float
    training: float

    @classmethod
    def of(cls, config: Config, sizes: Sizes, tokens: Tokens) -> Flops:
        """Two operations per parameter and token; attention adds its own, over half of all pairs.

        Going back costs as much again for the activations, and for the weights as much as their trained share.
        """
        decoder = sizes.decoder
        # two products (scores, weighted values) of two operations over half of all pairs: 4 / 2 = 2
        attention = 2 * decoder.num_hidden_layers * tokens.total**2 * decoder.hidden_size
        # logits are computed at output positions only
        head = 2 * decoder.vocab_size * decoder.hidden_size * tokens.output
        forward = 2 * sizes.language * tokens.total + 2 * sizes.vision * tokens.vision + attention + head
        share = min(1.0, sizes.trained / max(sizes.language + sizes.vision, 1))
        again = 1.0 if config.model.activation_checkpointing else 0.0
        return cls(float(forward), float(forward) * (2 + share + again))


@dataclass(frozen=True, slots=True)
class Seconds:
    """One PPO update's two halves, and the supervised start."""

    collect: float
    update: float
    sft: float


def seconds(config: Config, sizes: Sizes, tokens: Tokens, share: Share, hardware: Hardware) -> Seconds:
    """How long one process takes.

    Args:
        hardware: what one process has of it.
    """
    half = weights_are_half(config, hardware)
    flops = Flops.of(config, sizes, tokens)
    speed = hardware.flops * UPDATE_EFFICIENCY
    ppo, count = config.ppo, config.ppo.steps_per_update / share.processes
    # every token of an output needs all weights once, however many outputs are written together
    reading = weight_bytes(config, sizes, half) / hardware.bandwidth
    decoding = max(reading, DECODE_STEP_SECONDS if hardware.kind == "cuda" else 0.0)
    # generations per update; the last one may be smaller
    batches = -(-ppo.steps_per_update // config.rollout.num_envs)
    # bfloat16: outputs are scored again after sampling (`VlmAgent`)
    again = flops.forward if half else 0.0
    return Seconds(
        # `flops.forward` is the prompts' reading; writing waits for memory, not for products
        collect=count * (flops.forward + again) / speed + batches * tokens.output * decoding,
        update=ppo.epochs * count * flops.training / speed,
        sft=config.sft.all_samples / share.processes * flops.training / speed,
    )
