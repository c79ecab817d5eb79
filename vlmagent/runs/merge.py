"""``vlmagent runs export --merge``: a run's newest checkpoint as a plain Hugging Face model, with a card.

The adapters are added to the weights they belong to; critic and optimiser are left out. What comes out opens with
transformers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vlmagent import __version__, paths
from vlmagent.config import Config, dump_config, load_config
from vlmagent.errors import StoreError, UsageError, VlmAgentError
from vlmagent.files import whole_folder
from vlmagent.models import lora
from vlmagent.models.hf import save_plain
from vlmagent.paths import Run
from vlmagent.store.reader import StoreReader
from vlmagent.store.rows import EvaluationRow
from vlmagent.training.checkpoint import load_checkpoint
from vlmagent.training.saved import find_checkpoint

CARD = "README.md"


def merge_run(run: Run, out: Path, checkpoint: str = paths.LATEST) -> Path:
    """Write a checkpoint of ``run`` to the new folder ``out`` as a plain model.

    Returns:
        The folder.

    Raises:
        UsageError: ``out`` exists and is not empty, or the run has no such checkpoint.
        VlmAgentError: something could not be read or written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} already exists. Choose a new folder for the model.")
    config = load_config(run.config_file)
    folder = find_checkpoint(run, checkpoint)
    # adapters are opened on the base that the config names by now: the folder of the base may have been moved
    policy, state = load_checkpoint(folder, base=config.model.name)
    # plain weights need no peft to open; whole weights are plain already
    if policy.has_adapters:
        policy.backbone = lora.merge_adapters(policy.backbone)
    try:
        with whole_folder(out) as partial:
            save_plain(policy, partial)
            card = model_card(config, folder.name, state.env_steps, _evaluations(run), policy.model.config)
            (partial / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise VlmAgentError(f"The model could not be written to {out}: {error}") from None
    return out.resolve()


def _evaluations(run: Run) -> list[EvaluationRow]:
    """The run's evaluations; none where the database cannot be read."""
    try:
        with StoreReader(run.database) as reader:
            return reader.evaluations()
    except StoreError:
        # a card without results is better than no model
        return []


def model_card(
    config: Config, checkpoint: str, env_steps: int, evaluations: Sequence[EvaluationRow], model: Any
) -> str:
    """A model card in the form of the Hugging Face hub: what it is, what it was trained on, how well it does."""
    front: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["vlmagent", "reinforcement-learning", config.task],
    }
    # a link on the hub; of a local folder only its name: the path says something of this machine and nothing to others
    if config.model.name != "tiny":
        front["base_model"] = (
            Path(config.model.name).name if Path(config.model.name).exists() else config.model.name
        )
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {Path(config.model.name).name} trained on {config.task}",
        _about(config, checkpoint, env_steps),
        "## Data\n\n" + _data(config, env_steps),
        "## Results\n\n" + _results(evaluations),
        "## Use\n\n" + _usage(type_name(model)),
        f"## Configuration\n\n```yaml\n{dump_config(config)}```",
    ]
    return "\n\n".join(parts) + "\n"


def type_name(model: Any) -> str:
    """The class that a config's weights belong to."""
    # a config that was made by hand may name no class; then the automatic one finds it
    names = getattr(model, "architectures", None) or ["AutoModelForImageTextToText"]
    return str(names[0])


def _about(config: Config, checkpoint: str, env_steps: int) -> str:
    how = "adapters (LoRA), merged into the weights" if config.model.lora.enabled else "all weights"
    return (
        f"A vision-language model that acts in the environment `{config.task}` (rules: {config.rule_set}): it reads a "
        f"picture and a prompt, writes {'its thoughts and ' if config.cot else ''}an action as JSON. Trained with "
        f"vlmagent {__version__} by supervised fine-tuning on a solver's answers and PPO on the environment's reward; "
        f"{how} were trained. This is `{checkpoint}`, after {env_steps:,} env steps, seed {config.seed}."
    )


def _data(config: Config, env_steps: int) -> str:
    lines = [
        f"- {config.sft.samples:,} answers of the task's solver, made by the program itself (seed {config.seed})"
    ]
    if env_steps:
        lines.append(f"- {env_steps:,} steps that the model took in the environment while it learnt")
    lines.append("- no data from anywhere else beside what the base model was made from")
    return "\n".join(lines)


def _results(evaluations: Sequence[EvaluationRow]) -> str:
    if not evaluations:
        return "Not evaluated yet."
    head = (
        "| system | checkpoint | episodes | success (95 %) | mean return | legal |\n|---|---|---|---|---|---|"
    )
    rows = [_result(row) for row in evaluations]
    note = "Episodes come from seeds that training never uses; outputs are sampled."
    return "\n".join([head, *rows, "", note])


def _result(row: EvaluationRow) -> str:
    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f} %"

    low, high = percent(row.success_low), percent(row.success_high)
    cells: Mapping[str, str] = {
        "system": row.system or "",
        "checkpoint": row.checkpoint or "",
        "episodes": "" if row.episodes is None else str(row.episodes),
        "success": f"{percent(row.success)} ({low} to {high})",
        "return": "" if row.mean_return is None else f"{row.mean_return:.2f}",
        "legal": percent(row.legal_rate),
    }
    # a bar inside a cell would begin another cell
    return "| " + " | ".join(text.replace("|", "/") for text in cells.values()) + " |"


def _usage(kind: str) -> str:
    return (
        "```python\nfrom transformers import AutoModelForImageTextToText, AutoProcessor\n\n"
        f'model = AutoModelForImageTextToText.from_pretrained("PATH")  # {kind}\n'
        'processor = AutoProcessor.from_pretrained("PATH")\n```\n\n'
        "The prompt is the task's own (`vlmagent data TASK --samples 1 --out DIR` writes one), inside the processor's "
        "chat template."
    )
