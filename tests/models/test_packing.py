"""The layout of packed rows, token by token."""

from __future__ import annotations

import numpy as np

from vlmagent.models.packing import pack


def test_a_shared_prompt_stands_once() -> None:
    """Three rows, two prompts; last tokens of outputs predict nothing and are not read."""
    first, second = np.array([11, 12]), np.array([21, 22, 23])
    packed = pack([first, second], [0, 1, 0], [np.array([1, 2, 3]), np.array([4]), np.array([5, 6])])
    assert packed.ids.tolist() == [11, 12, 1, 2, 21, 22, 23, 5]
    assert packed.positions.tolist() == [0, 1, 2, 3, 0, 1, 2, 2]
    assert packed.rows[0].tolist() == [0, 1, 2, 3]
    assert packed.rows[1, :3].tolist() == [4, 5, 6]
    assert packed.rows[2, :3].tolist() == [0, 1, 7]
    # where each token's result stands in the table of rows, of width 4
    assert packed.places.tolist() == [0, 1, 2, 3, 4, 5, 6, 10]
    assert packed.ids[packed.kept].tolist() == [12, 1, 2, 23, 5]
    assert packed.ends.tolist() == [0, 3, 0]
    # 1, 2, 3 from 12, 1, 2; 4 from 23; 5, 6 from 12, 5
    assert packed.predictors.tolist() == [0, 1, 2, 3, 0, 4]
    assert not packed.dense


def test_rows_of_one_length_need_no_gathering() -> None:
    packed = pack([np.array([1, 2]), np.array([3, 4])], [0, 1], [np.array([5, 6]), np.array([7, 8])])
    assert packed.dense
    assert packed.rows.flatten().tolist() == packed.places.tolist() == list(range(6))


def test_prompts_alone() -> None:
    packed = pack([np.array([1, 2, 3]), np.array([4])], [0, 1], [])
    assert packed.ids.tolist() == [1, 2, 3, 4]
    assert packed.ids[packed.kept].tolist() == [3, 4]
    assert packed.ends.tolist() == [0, 1]
