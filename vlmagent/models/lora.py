"""Which weights learn: low-rank adapters on linear layers (paper, C.1), or the weights themselves.

    y = W x + (alpha / r) B A x        with A (r, in), B (out, r) trained and W frozen

Knows nothing of tasks or training; adapters are PEFT's and are saved in its format. PEFT is imported when the first
adapter is needed: that takes two seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vlmagent.config import LoraConfig
from vlmagent.errors import UsageError
from vlmagent.models.families import family_of
from vlmagent.models.fitting import Fit, compare, read_tensors, shapes_of
from vlmagent.models.locate import ADAPTER_WEIGHTS

LANGUAGE = ("language_model", "text_model")
"""Names that the architectures give to their decoder; everything else beside the output layer is vision."""


def add_adapters(model: Any, config: LoraConfig, *, train_vision: bool, base: str) -> Any:
    """A PEFT model around ``model`` with fresh adapters; the output starts unchanged.

    Args:
        base: name of the model, which a saved adapter points to.
    """
    import peft

    excluded: list[str] = []
    if not train_vision:
        # `\b` and a dot: the part itself, not one whose name begins like it
        excluded += [rf".*\b{name}\..*" for name in vision_modules(model)]
    unused = family_of(model.config.model_type).unused_modules(model.config)
    if config.skip_unused and unused is not None:
        excluded.append(unused)
    settings = peft.LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules="all-linear",  # PEFT leaves the output layer out of these
        exclude_modules="|".join(excluded) or None,
    )
    model.name_or_path = base  # PEFT writes it into the adapter's config
    adapted = peft.get_peft_model(model, settings)
    _match_precision(adapted)
    return adapted


def load_adapters(model: Any, folder: Path, *, trainable: bool, base: str) -> tuple[Any, str | None]:
    """A PEFT model around ``model`` with the adapters in ``folder``, every tensor of them in its place.

    Args:
        base: name of the model, which adapters saved from here on point to.

    Returns:
        The model, and a sentence where the tensors had names of an earlier version of transformers, or None.

    Raises:
        UsageError: a tensor of the file finds no place, or one of the adapters would stay as it was made.
    """
    import peft

    settings = peft.PeftConfig.from_pretrained(folder)
    # inference_mode: PEFT then makes the adapters without gradients
    settings.inference_mode = not trainable
    # written into the configs of checkpoints from now on: the stored path may be out of date
    settings.base_model_name_or_path = base
    try:
        adapted = peft.PeftModel(model, settings)
    except ValueError as error:  # PEFT's sentence names the layers that it looked for
        raise UsageError(f"The adapter in {folder} does not fit the model {base}: {error}") from None
    note = fill_adapters(adapted, folder, base)
    _match_precision(adapted)
    return adapted, note


def fill_adapters(adapted: Any, folder: Path, base: str) -> str | None:
    """Put the tensors in ``folder`` into adapters that are there, all of them into all of them.

    Returns:
        A sentence where they had names of an earlier version of transformers, or None.

    Raises:
        UsageError: a tensor of the file finds no place, or one of the adapters would stay as it is.
    """
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    held = read_tensors(folder / ADAPTER_WEIGHTS)
    expected = shapes_of(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    # the file may also hold what else the model has (embeddings that were saved along)
    others = shapes_of(adapted.state_dict())
    fit, note = compare(shapes_of(held), expected, others), None
    if not fit.whole:
        renamed = _with_current_names(held, fit, network_of(adapted))
        if renamed is not None and compare(shapes_of(renamed), expected, others).whole:
            note = (
                f"{len(fit.unplaced)} tensors of the adapter in {folder} had names of an earlier transformers"
            )
            held, fit = renamed, Fit()
    fit.check(
        f"The adapter in {folder}, on the model {base},",
        "It was made for another model, or by versions of peft and transformers that name layers differently: open it "
        "with those, merge it into its model (merge_and_unload) and give that as --model.",
    )
    set_peft_model_state_dict(adapted, held)
    return note


PEFT_PREFIX = "base_model.model."
"""What PEFT puts before a layer's own name in an adapter's file."""


def _with_current_names(held: Mapping[str, Tensor], fit: Fit, model: Any) -> dict[str, Tensor] | None:
    """An adapter's tensors by the names that transformers gives their layers today, as it renames whole checkpoints.

    Only tensors without a place are renamed. None where two would get one name, or transformers offers no rules.
    """
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming, rename_source_key
    except (
        ImportError
    ):  # made for PEFT rather than for everybody: it may move, and the adapter is refused then
        return None
    rules = [rule for rule in get_model_conversion_mapping(model) if isinstance(rule, WeightRenaming)]
    renamed: dict[str, Tensor] = {}
    for name, tensor in held.items():
        if name in fit.unplaced:
            name = PEFT_PREFIX + rename_source_key(name.removeprefix(PEFT_PREFIX), rules, [])[0]
        # two tensors for one place: a guess would lose one of them
        if name in renamed:
            return None
        renamed[name] = tensor
    return renamed


def network_of(backbone: Any) -> Any:
    """The network itself, with any adapters inside it, of a plain model or a PEFT model around one."""
    return backbone.get_base_model() if has_adapters(backbone) else backbone


def has_adapters(backbone: Any) -> bool:
    """Whether a backbone is a PEFT model. Asked by what PEFT adds, since importing PEFT to ask takes two seconds."""
    return hasattr(backbone, "peft_config")


def merge_adapters(adapted: Any) -> Any:
    """The plain network with the adapters added to its weights, all of which can learn."""
    return adapted.merge_and_unload().requires_grad_(True)


def adapter_parameters(adapted: Any) -> dict[str, nn.Parameter]:
    """The adapters' own parameters by name, whether they learn at the moment or not."""
    named: Iterable[tuple[str, nn.Parameter]] = adapted.named_parameters()
    return {name: parameter for name, parameter in named if _is_adapter_parameter(name)}


def _is_adapter_parameter(name: str) -> bool:
    """PEFT keeps every tensor of an adapter under the adapter's name: ``...lora_A.default.weight``."""
    return "default" in name.split(".")


@contextmanager
def exchanged(adapted: Any, others: dict[str, Tensor]) -> Iterator[None]:
    """While open, the adapters are ``others``, by name; only pointers move.

    PEFT's own second adapter is not used: switching between two of them sets ``requires_grad`` of both, which undoes
    what an engine has frozen, and adds parameters that engines and checkpoints have to be told to leave alone.
    """
    parameters = adapter_parameters(adapted)
    own = {name: parameter.data for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        # only `.data` is exchanged: the parameter stays the same object for engines and hooks
        parameter.data = others[name].to(parameter.device)
    try:
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = own[name]


def read_beside(adapted: Any, folder: Path) -> dict[str, Tensor]:
    """Copies of the adapters as they are in ``folder``; the model keeps its own.

    Raises:
        UsageError: they do not fit.
    """
    # copies of what is there, which the next lines overwrite: `fill_adapters` knows only the model's own places
    copies = {name: p.detach().clone() for name, p in adapter_parameters(adapted).items()}
    with torch.no_grad(), exchanged(adapted, copies):
        fill_adapters(adapted, folder, str(adapted.peft_config["default"].base_model_name_or_path))
    return copies


def _match_precision(adapted: Any) -> None:
    """Let bfloat16 activations reach float32 adapters as they are: autocast then multiplies in bfloat16.

    PEFT would turn them to float32 first, which doubles their memory.
    """
    if any(p.dtype == torch.bfloat16 for p in adapted.parameters()):
        for module in adapted.modules():
            # an attribute of PEFT's layers; other modules have none
            if hasattr(module, "cast_input_dtype_enabled"):
                module.cast_input_dtype_enabled = False


def vision_modules(model: Any) -> list[str]:
    """Names of the parts that turn a picture into tokens."""
    core = getattr(model, "model", model)
    # `model` is what most conditional-generation classes call the network under their output layer
    return [name for name, _ in core.named_children() if name not in LANGUAGE]


def vision_parameters(model: Any) -> list[nn.Parameter]:
    """Parameters that only a picture's tokens go through, adapters among them."""
    core = getattr(model, "model", model)
    return [p for name, p in core.named_parameters() if name.partition(".")[0] not in LANGUAGE]


def freeze_vision(model: Any) -> None:
    """Keep vision encoder and projector as they are."""
    core = getattr(model, "model", model)
    for name in vision_modules(model):
        core.get_submodule(name).requires_grad_(False)


@dataclass(frozen=True, slots=True)
class Part:
    """Parameters of one part of a network; of ``total``, which leaves adapters out, ``trained`` or beside it."""

    name: str
    trained: int
    total: int


def count_parts(model: nn.Module, others: Iterable[tuple[str, nn.Module]] = ()) -> list[Part]:
    """Trained and all parameters by part: the network's own parts in order, then ``others``.

    Args:
        model: the network, with any adapters inside it.
    """
    sizes: dict[str, list[int]] = {}
    named = [(_part_of(name), name, p) for name, p in model.named_parameters()]
    named += [(part, name, p) for part, module in others for name, p in module.named_parameters()]
    for part, name, parameter in named:
        counts = sizes.setdefault(part, [0, 0])
        size = _size(parameter)
        # counts[0] trained, counts[1] the model's own, which adapters are not
        counts[0] += size if parameter.requires_grad else 0
        counts[1] += 0 if "lora_" in name else size
    return [Part(name, trained, total) for name, (trained, total) in sizes.items()]


def _part_of(name: str) -> str:
    """``model.vision_tower.encoder...`` belongs to ``vision_tower``."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "model" else first


def _size(parameter: nn.Parameter) -> int:
    """Numbers in a parameter; quantised ones hold several in a byte and remember their shape."""
    shape = getattr(getattr(parameter, "quant_state", None), "shape", None)
    return parameter.numel() if shape is None else int(torch.Size(shape).numel())


def describe_parts(parts: Iterable[Part]) -> str:
    """One line for the log: what is trained, with counts."""
    rows = list(parts)
    trained, total = sum(row.trained for row in rows), sum(row.total for row in rows)
    named = ", ".join(f"{row.name} {row.trained:,}" for row in rows if row.trained)
    return f"{trained:,} parameters are trained ({named}) beside {total:,} of the model"
