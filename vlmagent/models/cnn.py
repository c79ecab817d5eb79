"""The baseline without language: frozen features of a picture (and a text), an MLP to actions, an MLP to a value.

    pi(a | o) = softmax(W mlp(z))_a,    z = standardised [vision(o), text(o)],    V(o) = mlp'(z)     (paper, C.2)

The encoders never change, so that a state's features are computed once and kept. Knows nothing of tasks, rewards or
optimisers.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from vlmagent.errors import UsageError
from vlmagent.models.hf import quiet
from vlmagent.models.logprob import Scores
from vlmagent.models.value_head import ValueHead
from vlmagent.types import ImageArray

CONFIG = "cnn.json"
WEIGHTS = "cnn.safetensors"
FORMAT = 1
CACHED_STATES = 20_000
MIN_STD_SHARE = 0.1
"""Features that hardly vary in the first states are scaled by this share of the typical deviation at least."""

Pooling = Literal["pooled", "patches"]


class VisionFeatures:
    """A frozen vision encoder.

    Args:
        model: takes ``pixel_values``; gives hidden states (B, tokens, width) and perhaps a pooled vector (B, width).
        processor: prepares pictures for it.
        pooling: which of the two is read.
        source: the folder it came from; None when it is to be saved with the network.
    """

    def __init__(self, model: Any, processor: Any, pooling: Pooling, source: Path | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.pooling = pooling
        self.source = source

    @classmethod
    def open(cls, folder: Path, pooling: Pooling) -> VisionFeatures:
        """The vision part of a folder in Hugging Face format: CLIP, SigLIP, ViT, DINO, or a whole LLaVA.

        Raises:
            UsageError: it holds none.
        """
        try:
            model: Any = AutoModel.from_pretrained(folder, local_files_only=True)
            processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers raises many kinds; each means the same to the user
            raise _unusable("cnn.vision", folder, error) from error
        for name in ("vision_tower", "vision_model"):
            model = getattr(model, name, model)
        return cls(model.float(), processor, pooling, folder)

    @torch.no_grad()
    def __call__(self, image: ImageArray) -> Tensor:
        """Features of one picture, float32 (F,), on the CPU."""
        pixels = self.processor(images=[Image.fromarray(image)], return_tensors="pt")["pixel_values"]
        device = next(self.model.parameters()).device
        out = self.model(pixel_values=pixels.to(device))
        features: Tensor
        pooled = getattr(out, "pooler_output", None)
        if self.pooling == "patches":
            features = out.last_hidden_state.flatten()
        else:
            features = out.last_hidden_state.mean(1)[0] if pooled is None else pooled[0]
        return features.to("cpu", torch.float32)


class TextFeatures:
    """A frozen text encoder: the mean of its last hidden states.

    Args:
        model: takes ``input_ids`` and ``attention_mask``.
        source: the folder it came from; None when it is to be saved with the network.
    """

    def __init__(self, model: Any, tokenizer: Any, source: Path | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.source = source

    @classmethod
    def open(cls, folder: Path) -> TextFeatures:
        """The text encoder in a folder in Hugging Face format.

        Raises:
            UsageError: it holds none.
        """
        try:
            model: Any = AutoModel.from_pretrained(folder, local_files_only=True)
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers raises many kinds; each means the same to the user
            raise _unusable("cnn.text", folder, error) from error
        for name in ("language_model", "text_model"):
            model = getattr(model, name, model)
        return cls(model.float(), tokenizer, folder)

    @torch.no_grad()
    def __call__(self, text: str) -> Tensor:
        """Features of one text, float32 (F,), on the CPU."""
        ids = self.tokenizer(text, truncation=True)["input_ids"] or [self.tokenizer.eos_token_id or 0]
        device = next(self.model.parameters()).device
        hidden = self.model(input_ids=torch.tensor([ids], device=device)).last_hidden_state
        mean: Tensor = hidden[0].mean(0).to("cpu", torch.float32)
        return mean


def _unusable(key: str, folder: Path, error: Exception) -> UsageError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UsageError(f"{key} = '{folder}' could not be opened: {first}")


class CnnPolicy(nn.Module):
    """Frozen features, a policy head and a critic. Only the heads are parameters of this module.

    Args:
        vision, text: the encoders; no text encoder for tasks whose states have no text.
        width: size of the features of a state.
        actions: how many actions can be told apart.
        names: the actions, where every state has the same ones.
        hidden: widths of both heads.
        seed: of the heads' weights.
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
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self._cache: OrderedDict[tuple[bytes, str], Tensor] = OrderedDict()

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
        self.vision.model.to(*args, **kwargs)
        if self.text is not None:
            self.text.model.to(*args, **kwargs)
        return self

    def features(self, image: ImageArray, text: str) -> Tensor:
        """What is known of a state, float32 (F,), on the CPU; computed once for equal states."""
        key = (hashlib.sha256(np.ascontiguousarray(image).data).digest(), text)
        found = self._cache.get(key)
        if found is None:
            parts = [self.vision(image), *([self.text(text)] if self.text else [])]
            found = torch.cat(parts)
            self._cache[key] = found
            if len(self._cache) > CACHED_STATES:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(key)
        return found

    def _standardised(self, states: Sequence[Tensor]) -> Tensor:
        standard: Tensor = (torch.stack(list(states)).to(self.device) - self.mean) / self.std
        return standard

    @torch.no_grad()
    def calibrate(self, states: Sequence[Tensor]) -> None:
        """Standardise the features as they are spread over ``states``, from now on."""
        table = torch.stack(list(states))
        deviation = table.std(0, correction=0)
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
    }
    (folder / CONFIG).write_text(json.dumps(document))
    save_file({name: tensor.contiguous() for name, tensor in policy.state_dict().items()}, folder / WEIGHTS)
    if policy.vision.source is None:
        policy.vision.model.save_pretrained(folder / "vision")
        policy.vision.processor.save_pretrained(folder / "vision")
    if text is not None and text.source is None:
        text.model.save_pretrained(folder / "text")
        text.tokenizer.save_pretrained(folder / "text")


def is_cnn(folder: Path) -> bool:
    """Whether a checkpoint holds this baseline."""
    return (folder / CONFIG).is_file()


def load_cnn(folder: Path) -> CnnPolicy:
    """The network that ``save_cnn`` wrote.

    Raises:
        UsageError: it is of another version, or an encoder's folder is gone.
    """
    quiet()
    saved = json.loads((folder / CONFIG).read_text())
    if saved.get("format") != FORMAT:
        raise UsageError(
            f"{folder} has cnn format {saved.get('format')}; this version of vlmagent reads {FORMAT}."
        )
    vision = VisionFeatures.open(Path(saved["vision"] or folder / "vision"), saved["pooling"])
    vision.source = vision.source if saved["vision"] else None
    text = None
    if saved["has_text"]:
        text = TextFeatures.open(Path(saved["text"] or folder / "text"))
        text.source = text.source if saved["text"] else None
    policy = CnnPolicy(
        vision,
        text,
        width=saved["width"],
        actions=saved["actions"],
        names=saved["names"],
        hidden=saved["hidden"],
    )
    policy.load_state_dict(load_file(folder / WEIGHTS))
    return policy.eval()
