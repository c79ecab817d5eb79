"""Data sets for supervised fine-tuning: pictures and a JSON file in LLaVA's conversation format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from vlmagent.errors import UsageError
from vlmagent.files import whole_folder
from vlmagent.tasks.base import Task
from vlmagent.training.sft.samples import solver_samples
from vlmagent.types import SftSample

DATA = "data.json"


def write_dataset(
    task: Task, samples: int, out: Path, seed: int, on_sample: Callable[[int], None] = lambda _: None
) -> Path:
    """Write ``samples`` solver samples; see ``write_samples``."""
    return write_samples(islice(solver_samples(task, seed), samples), task.name, out, on_sample)


def write_samples(
    samples: Iterable[SftSample], name: str, out: Path, on_sample: Callable[[int], None] = lambda _: None
) -> Path:
    """Write samples as ``out/images/<name>-*.png`` and ``out/data.json``; returns the latter.

    Each record has ``id``, ``image`` and ``conversations``: a turn of "human", which is the prompt after ``<image>``,
    and one of "gpt". LLaVA's training script reads the file as it is.

    Raises:
        UsageError: the folder is not empty or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"--out '{out}' is not an empty folder. Choose a new one, so that nothing is overwritten."
        )
    records = []
    try:
        with whole_folder(out) as folder:
            (folder / "images").mkdir()
            for index, sample in enumerate(samples):
                records.append(_record(f"{name}-{index:06d}", sample, folder))
                on_sample(index + 1)
            document = json.dumps(records, indent=1, ensure_ascii=False)
            (folder / DATA).write_text(document, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out '{out}' cannot be written: {error.strerror or error}.") from None
    return out / DATA


def _record(id_: str, sample: SftSample, out: Path) -> dict[str, Any]:
    """One sample in LLaVA's form; its picture, if it has one, is written."""
    record: dict[str, Any] = {"id": id_}
    prompt = sample.prompt
    if sample.image is not None:
        record["image"] = f"images/{id_}.png"
        # 1: quick, a little larger: there may be tens of thousands of pictures
        Image.fromarray(sample.image).save(out / record["image"], compress_level=1)
        # LLaVA's placeholder, on a line of its own
        prompt = f"<image>\n{prompt}"
    turns = [{"from": "human", "value": prompt}, {"from": "gpt", "value": sample.response}]
    return record | {"conversations": turns}
