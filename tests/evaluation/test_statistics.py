"""Intervals and tests against values that can be looked up or counted by hand."""

import math

import numpy as np
import pytest

from vlmagent.evaluation.mcnemar import mcnemar
from vlmagent.evaluation.statistics import bootstrap_mean, bootstrap_runs, paired, spread, wilson


def test_wilson_interval_against_a_textbook_value():
    assert wilson(198, 200) == pytest.approx((0.9643, 0.9973), abs=1e-4)
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0


def test_bootstrap_interval():
    assert bootstrap_mean([1.0, 1.0], 0) == (1.0, 1.0)
    assert bootstrap_mean([3.0], 0) == (3.0, 3.0)
    low, high = bootstrap_mean([0.0, 1.0] * 50, 0)
    assert 0.38 < low < 0.45 < 0.55 < high < 0.62
    assert bootstrap_mean([0.0, 1.0] * 50, 0) == (low, high)


def test_runs_that_differ_widen_the_interval():
    """Two runs at 0.2 and 0.8: half of all draws take the same run twice, whatever the number of episodes."""
    rng = np.random.default_rng(0)
    apart = [(rng.random(400) < rate).astype(float) for rate in (0.2, 0.8)]
    alike = [(rng.random(400) < 0.5).astype(float) for _ in range(2)]
    low, high = bootstrap_runs(apart, 0)
    assert 0.15 < low < 0.25
    assert 0.75 < high < 0.85
    narrow = bootstrap_runs(alike, 0)
    assert narrow[1] - narrow[0] < 0.12
    assert bootstrap_runs(alike, 0) == narrow
    assert bootstrap_runs([[1.0, 1.0], [1.0]], 0) == (1.0, 1.0)


def test_spread_is_the_sample_standard_deviation():
    assert spread([1.0, 3.0]) == pytest.approx(math.sqrt(2))
    assert math.isnan(spread([1.0]))


@pytest.mark.parametrize(
    ("first", "second", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 2 / 32), (1, 9, 22 / 1024)]
)
def test_mcnemar_is_a_fair_coin_over_the_discordant_episodes(first, second, p):
    assert mcnemar(first, second) == pytest.approx(p)
    assert mcnemar(second, first) == pytest.approx(p)


def test_pairing():
    mine = [(True, 1.0), (False, -2.0), (False, 0.0), (True, 1.0)]
    theirs = [(True, 1.0), (True, 1.0), (True, 1.0), (False, 0.0)]
    found = paired(mine, theirs, 0)
    assert found is not None
    assert (found.episodes, found.only_first, found.only_second) == (4, 1, 2)
    assert found.success_difference == 0.25
    assert found.return_difference == pytest.approx(0.75)
    assert found.return_difference_ci[0] <= 0.75 <= found.return_difference_ci[1]
    assert paired([], [], 0) is None
    with pytest.raises(ValueError, match="cannot be paired"):
        paired(mine, theirs[:2], 0)
