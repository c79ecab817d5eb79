import math

import numpy as np
import pytest

from vlmagent.tui.data.raster import Span, curve, log_ticks, short, smooth, span_of, ticks

NAN = float("nan")


def dots(
    x: list[float], y: list[float], columns: int = 3, rows: int = 1, high: float = 3.0
) -> list[list[int]]:
    cells = curve(np.array(x), np.array(y), Span(0, 5), Span(0, high), columns, rows)
    assert cells.shape == (rows, columns)
    return cells.tolist()


def test_a_level_line_at_the_bottom_and_the_top() -> None:
    assert dots([0, 5], [0, 0]) == [[0xC0, 0xC0, 0xC0]]
    assert dots([0, 5], [3, 3]) == [[0x09, 0x09, 0x09]]


def test_a_slope_is_connected() -> None:
    # six columns of dots, levels 0 0.6 1.2 1.8 2.4 3 of 3: rows (from the top) 3 2 2 1 1 0, each joined to the last
    assert dots([0, 5], [0, 3]) == [[0x40 | 0x80 | 0x20, 0x04 | 0x20 | 0x10, 0x02 | 0x10 | 0x08]]


def test_a_step_is_a_vertical_line() -> None:
    left, _, right = dots([0, 2, 2.001, 5], [0, 0, 3, 3])[0]
    assert left == 0xC0
    assert right == 0x09


def test_no_spike_is_lost_among_many_points() -> None:
    x = np.linspace(0, 5, 1000)
    y = np.zeros(1000)
    y[501] = 3.0
    assert dots(x.tolist(), y.tolist())[0][1] & 0x09


def test_one_point_gaps_and_nothing() -> None:
    assert sum(map(bool, dots([2.5], [1.0])[0])) == 1
    assert dots([0, 1, 5], [0, NAN, 0]) == [[0xC0, 0xC0, 0xC0]]
    assert dots([], []) == [[0, 0, 0]]
    assert dots([0, 5], [NAN, NAN]) == [[0, 0, 0]]
    assert dots([7, 9], [1, 1]) == [[0, 0, 0]]


def test_values_outside_stay_at_the_edge() -> None:
    assert dots([0, 5], [99, 99]) == [[0x09, 0x09, 0x09]]


def test_points_outside_the_range_lead_in() -> None:
    assert dots([-5, 5], [0, 0]) == [[0xC0, 0xC0, 0xC0]]


@pytest.mark.parametrize(
    ("span", "most", "found"),
    [
        (Span(0, 1), 3, [0, 0.5, 1]),
        (Span(0, 1), 6, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Span(-1.3, 1.1), 3, [-1, 0, 1]),
        (Span(0, 999_936), 5, [0, 200_000, 400_000, 600_000, 800_000]),
        (Span(0.00012, 0.00019), 4, [0.00012, 0.00014, 0.00016, 0.00018]),
        (Span(-18.3, -10.7), 3, [-18, -16, -14, -12]),
        (Span(5, 6), 0, []),
    ],
)
def test_ticks_are_round(span: Span, most: int, found: list[float]) -> None:
    assert ticks(span, most) == pytest.approx(found)


def test_log_ticks() -> None:
    assert log_ticks(Span(-2, 1), 4) == [-2, -1, 0]
    assert [round(10**t, 2) for t in log_ticks(Span(math.log10(0.9), math.log10(12)), 6)] == [1, 2, 5, 10]
    assert [round(10**t, 6) for t in log_ticks(Span(math.log10(0.0121), math.log10(0.0129)), 5)] == [
        0.0122, 0.0124, 0.0126, 0.0128,
    ]  # fmt: skip
    assert max(log_ticks(Span(-323, 330), 6)) <= 308


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.5, "0.5"),
        (12_000, "12k"),
        (1e-4, "1e-4"),
        (1.5e-5, "1.5e-5"),
        (-2.5e6, "-2.5M"),
        (5000, "5000"),
        (1e-12, "1e-12"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


def test_spans_have_air_and_fixed_ends() -> None:
    assert span_of(np.array([0.0, 1.0])) == Span(-0.05, 1.05)
    assert span_of(np.array([0.2, NAN]), 0.0, 1.0) == Span(0.0, 1.0)
    level = span_of(np.array([3.0, 3.0]))
    assert level.low < 3 < level.high
    assert span_of(np.zeros(2), low=0.0).high > 0
    assert span_of(np.array([NAN])) == Span(-0.05, 1.05)


def test_smoothing_has_no_bias_and_passes_over_gaps() -> None:
    assert smooth(np.array([2.0, 2.0, 2.0]), 0.9) == pytest.approx([2, 2, 2])
    # weights 0.5: (0.5*0 + 0.5*1)/0.75 with the first at half weight
    out = smooth(np.array([0.0, 1.0, NAN, 1.0]), 0.5)
    assert out[:2] == pytest.approx([0.0, 0.5 / 0.75])
    assert math.isnan(out[2])
    assert out[3] == pytest.approx((0.25 + 0.5) / 0.875)
    assert smooth(np.array([1.0, 2.0]), 0.0).tolist() == [1.0, 2.0]
