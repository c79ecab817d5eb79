"""The layout of packed rows, token by token."""

from __future__ import annotations

import numpy as np
import torch

from vlmagent.models.packing import pack


def test_a_shared_prompt_stands_once() -> None:
    """Three rows, two prompts; last tokens of outputs predict nothing and are not read."""
    first, second = np.array([11, 12]), np.array([21, 22, 23])
    packed = pack([first, second], [0, 1, 0], [np.array([1, 2, 3]), np.array([4]), np.array([5, 6])])
    assert packed.ids.tolist() == [11, 12, 1, 2, 21, 22, 23, 5]
    assert packed.positions.tolist() == [0, 1, 2, 3, 0, 1, 2, 2]
    # the longest row first, then the others in their order; a group of few rows is padded to its longest
    assert packed.shapes == ((3, 4),)
    assert packed.cells[:4].tolist() == [0, 1, 2, 3]
    assert packed.cells[4:7].tolist() == [4, 5, 6]
    assert packed.cells[8:11].tolist() == [0, 1, 7]
    # where each token's result stands among the cells
    assert packed.places.tolist() == [0, 1, 2, 3, 4, 5, 6, 10]
    assert packed.ids[packed.kept].tolist() == [12, 1, 2, 23, 5]
    assert packed.ends.tolist() == [0, 3, 0]
    # 1, 2, 3 from 12, 1, 2; 4 from 23; 5, 6 from 12, 5
    assert packed.predictors.tolist() == [0, 1, 2, 3, 0, 4]
    assert not packed.dense


def test_rows_of_one_length_need_no_gathering() -> None:
    packed = pack([np.array([1, 2]), np.array([3, 4])], [0, 1], [np.array([5, 6]), np.array([7, 8])])
    assert packed.dense
    assert packed.cells.tolist() == packed.places.tolist() == list(range(6))


def test_many_rows_are_grouped_by_their_length() -> None:
    """Every cell within a row names its token, whatever group the row is in."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 99, length) for length in rng.integers(2, 40, 30)]
    outputs = [rng.integers(0, 99, length) for length in rng.integers(1, 9, 30)]
    packed = pack(prompts, range(30), outputs)
    assert sum(rows for rows, _ in packed.shapes) == 30
    assert len(packed.shapes) == 4
    assert [width for _, width in packed.shapes] == sorted((w for _, w in packed.shapes), reverse=True)
    # each token is found where it says it is
    assert torch.equal(packed.cells[packed.places], torch.arange(len(packed.ids)))
    padded = sum(rows * width for rows, width in packed.shapes)
    assert len(packed.ids) < padded < 30 * packed.shapes[0][1]


def test_prompts_alone() -> None:
    packed = pack([np.array([1, 2, 3]), np.array([4])], [0, 1], [])
    assert packed.ids.tolist() == [1, 2, 3, 4]
    assert packed.ids[packed.kept].tolist() == [3, 4]
    assert packed.ends.tolist() == [0, 1]
