"""The baseline without language: frozen features of a picture (and a text), an MLP to actions, an MLP to a value.

    pi(a | o) = softmax(W mlp(z))_a,    z = standardised [vision(o), text(o)],    V(o) = mlp'(z)     (paper, C.2)

The encoders never change, so that a state's features are computed once and kept. Knows nothing of tasks, rewards or
optimisers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from vlmagent.config import CnnConfig
from vlmagent.errors import UsageError
from vlmagent.models.caching import SizedCache
from vlmagent.models.cnn_encoders import TextFeatures, VisionFeatures, encoder_folder
from vlmagent.models.fitting import compare, read_tensors, shapes_of
from vlmagent.models.hf import quiet
from vlmagent.models.locate import read_json
from vlmagent.models.logprob import Scores
from vlmagent.models.value_head import ValueHead
from vlmagent.store.codec import picture_key
from vlmagent.types import ImageArray

CONFIG = "cnn.json"
WEIGHTS = "cnn.safetensors"
FORMAT = 1
FEATURE_CACHE_BYTES = 2**30
"""In host memory: 20,000 states of CLIP ViT-L/14's pooled vector with RoBERTa's take 140 MB; its patches side by side
take 1 MB a state, so that counting states alone would fill any machine."""
MIN_STD_SHARE = 0.1
"""Features that hardly vary in the first states are scaled by this share of the typical deviation at least."""


class CnnPolicy(nn.Module):
    """Frozen features, a policy head and a critic. Only the heads are parameters of this module.

    Args:
        vision, text: the encoders; no text encoder for tasks whose states have no text.
        width: size of the features of a state.
        actions: how many actions can be told apart.
        names: the actions, where every state has the same ones.
        hidden: widths of both heads.
        seed: of the heads' weights.

    Attributes:
        known: features of the states seen last, by picture and text.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        vision: VisionFeatures,
        text: TextFeatures | None,
        *,
        width: int,
        actions: int,
        names: Sequence[str],
        hidden: Sequence[int],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.vision = vision
        self.text = text
        self.width = width
        self.actions = actions
        self.names = tuple(names)
        self.hidden = tuple(hidden)
        # devices=[]: fresh weights are made on the CPU, whose generator alone is put back
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            for before, after in pairwise([width, *hidden]):
                layers += [nn.Linear(before, after), nn.ReLU()]
            last = nn.Linear(hidden[-1], actions)
            nn.init.normal_(last.weight, std=0.01)  # all actions about equally likely at the start
            nn.init.zeros_(last.bias)
            self.head = nn.Sequential(*layers, last)
            self.value_head = ValueHead(width, hidden)
        # standardising is off until `calibrate`: mean 0, deviation 1
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.known: SizedCache[tuple[bytes, str], Tensor] = SizedCache(
            FEATURE_CACHE_BYTES, lambda features: features.nbytes
        )

    exact = True
    """Sampling and scoring agree to rounding."""

    def trained_parameters(self) -> list[nn.Parameter]:
        """The policy head's parameters; the value head's are not among them."""
        return list(self.head.parameters())

    def describe(self) -> str:
        """What is trained, with counts, in one line."""
        heads = sum(parameter.numel() for parameter in self.parameters())
        encoders = [self.vision.model, *([self.text.model] if self.text else [])]
        frozen = sum(parameter.numel() for model in encoders for parameter in model.parameters())
        kinds = f"{self.actions} actions" if self.names else f"actions hashed into {self.actions} outputs"
        return f"cnn: {self.width:,} features of frozen encoders ({frozen:,} parameters), {kinds}; {heads:,} trained"

    @property
    def device(self) -> torch.device:
        """Where the heads are."""
        return self.mean.device

    def to(self, *args: Any, **kwargs: Any) -> CnnPolicy:
        """Move heads and encoders."""
        super().to(*args, **kwargs)
        # they are no parameters of this module, so that no engine, checkpoint or count takes them for learning
        self.vision.model.to(*args, **kwargs)
        if self.text is not None:
            self.text.model.to(*args, **kwargs)
        return self

    def features(self, image: ImageArray, text: str) -> Tensor:
        """What is known of a state, float32 (F,), on the CPU; computed once for equal states.

        Raises:
            UsageError: the encoders give vectors of another size than the network was trained on.
        """
        return self.known.find_or_make((picture_key(image), text), lambda: self._compute(image, text))

    def _compute(self, image: ImageArray, text: str) -> Tensor:
        features = torch.cat([self.vision(image), *([self.text(text)] if self.text else [])])
        if len(features) != self.width:
            raise UsageError(
                f"The encoders give {len(features):,} features of a state, and the network was trained on "
                f"{self.width:,}: cnn.vision or cnn.text names another encoder than then, or pictures changed in size."
            )
        return features

    def _standardised(self, states: Sequence[Tensor]) -> Tensor:
        standard: Tensor = (torch.stack(list(states)).to(self.device) - self.mean) / self.std
        return standard

    @torch.no_grad()
    def calibrate(self, states: Sequence[Tensor]) -> None:
        """Standardise the features as they are spread over ``states``, from now on."""
        table = torch.stack(list(states))
        deviation = table.std(0, correction=0)
        # 1e-6: all features may be constant
        floor = MIN_STD_SHARE * deviation.pow(2).mean().sqrt() + 1e-6
        self.mean.copy_(table.mean(0))
        self.std.copy_(deviation.clamp(min=float(floor)))

    @torch.no_grad()
    def choose(
        self, states: Sequence[Tensor], seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """One sampled action per state: its index, its log-prob and the state's value, each (B,)."""
        features = self._standardised(states)
        logprobs = torch.log_softmax(self.head(features), -1)  # (B, A)
        # a generator of its own on the CPU: the choice does not depend on the device or on what was drawn before
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(logprobs.exp().cpu(), 1, generator=generator)
        picked = logprobs.gather(1, chosen.to(self.device))[:, 0]
        return chosen[:, 0].numpy(), picked.cpu().numpy(), self.value_head(features).cpu().numpy()

    @torch.no_grad()
    def probabilities(self, state: Tensor) -> list[float]:
        """Of every action in one state, by index."""
        found: list[float] = torch.softmax(self.head(self._standardised([state]))[0], -1).tolist()
        return found

    def score(self, states: Sequence[Tensor], chosen: Sequence[int]) -> Scores:
        """Log-probs of given actions as outputs of one token, with gradients."""
        features = self._standardised(states)
        logprobs = torch.log_softmax(self.head(features), -1)
        index = torch.tensor(list(chosen), device=self.device)[:, None]
        entropies = -(logprobs.exp() * logprobs).sum(-1, keepdim=True)
        # one token, never padded
        mask = torch.ones_like(index, dtype=torch.bool)
        return Scores(logprobs.gather(1, index), entropies, mask, self.value_head(features))

    @torch.no_grad()
    def values(self, states: Sequence[Tensor]) -> Tensor:
        """V(s), float32 (B,)."""
        values: Tensor = self.value_head(self._standardised(states))
        return values


def save_cnn(policy: CnnPolicy, folder: Path) -> None:
    """Write heads and, unless they stand in a folder of the user's, encoders into an existing folder."""
    text = policy.text
    document = {
        "format": FORMAT,
        "width": policy.width,
        "actions": policy.actions,
        "names": policy.names,
        "hidden": policy.hidden,
        "pooling": policy.vision.pooling,
        "vision": str(policy.vision.source.resolve()) if policy.vision.source else None,
        "text": str(text.source.resolve()) if text and text.source else None,
        "has_text": text is not None,
        "vision_fingerprint": policy.vision.fingerprint,
        "text_fingerprint": text.fingerprint if text else None,
    }
    (folder / CONFIG).write_text(json.dumps(document), encoding="utf-8")
    # safetensors refuses views with gaps
    save_file({name: tensor.contiguous() for name, tensor in policy.state_dict().items()}, folder / WEIGHTS)
    # an encoder of the user's stays where it is, which may be gigabytes; its fingerprint tells whether it is still
    # the same
    if policy.vision.source is None:
        policy.vision.model.save_pretrained(folder / "vision")
        policy.vision.processor.save_pretrained(folder / "vision")
    if text is not None and text.source is None:
        text.model.save_pretrained(folder / "text")
        text.tokenizer.save_pretrained(folder / "text")


def is_cnn(folder: Path) -> bool:
    """Whether a checkpoint holds this baseline."""
    return (folder / CONFIG).is_file()


def load_cnn(folder: Path, config: CnnConfig | None = None) -> CnnPolicy:
    """The network that ``save_cnn`` wrote.

    Args:
        config: where the encoders are now, if they stood in folders of the user's; None looks where they were.

    Raises:
        UsageError: it is of another version, or an encoder is gone or is another one.
    """
    quiet()
    saved = read_json(folder / CONFIG)
    if saved.get("format") != FORMAT:
        raise UsageError(
            f"{folder} has cnn format {saved.get('format')}; this version of vlmagent reads {FORMAT}."
        )
    place = encoder_folder(folder, saved, "vision", config.vision if config else None)
    vision = VisionFeatures.open(place, saved["pooling"])
    # None again for one that lies beside the heads: it is saved with them the next time
    vision.source = place if saved["vision"] else None
    text = None
    if saved["has_text"]:
        place = encoder_folder(folder, saved, "text", config.text if config else None)
        text = TextFeatures.open(place)
        text.source = place if saved["text"] else None
    policy = CnnPolicy(
        vision,
        text,
        width=saved["width"],
        actions=saved["actions"],
        names=saved["names"],
        hidden=saved["hidden"],
    )
    weights = read_tensors(folder / WEIGHTS)
    compare(shapes_of(weights), shapes_of(policy.state_dict())).check(
        f"{WEIGHTS} in {folder}", f"It and {CONFIG} do not belong together: copy the checkpoint again, whole."
    )
    policy.load_state_dict(weights)
    return policy.eval()
