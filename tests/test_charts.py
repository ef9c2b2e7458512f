"""Numbers for the drawings: inside the frame, in order, at round ticks."""

import itertools
import math

import pytest

from deeplab_mnv2.report.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    calibration_chart,
    line_chart,
    ticks,
)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.2, 0.9), (3e-5, 0.0071), (0, 100), (-3, 30_000), (5, 5), (0, 0)]
)
def test_ticks_are_round_and_span_the_range(low, high):
    found = ticks(low, high)
    assert 3 <= len(found) <= 7
    assert found[0] <= low
    assert found[-1] >= high
    step = found[1] - found[0]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - nice) for nice in (1, 2, 5)) < 1e-6


def chart(series, **options):
    return line_chart("Loss", series, x_label="step", y_label="loss", **options)


def test_points_lie_in_the_frame_in_order():
    drawn = chart({"a": [(10, 3.0), (20, 1.0), (40, 2.0)]})
    (x0, y0, _), (x1, y1, text), (x2, y2, _) = drawn.lines[0].dots
    assert LEFT == x0 < x1 < x2 == RIGHT
    assert (x1 - x0) * 2 == pytest.approx(x2 - x1)
    assert TOP <= y0 < y2 < y1 <= BOTTOM
    assert text == "a: 1 at 20"
    assert drawn.lines[0].path.count("L") == 2


def test_doublings_are_evenly_spaced():
    drawn = chart({"a": [(1, 0.1), (2, 0.2), (4, 0.3), (8, 0.3)]}, log2_x=True)
    places = [place for place, _ in drawn.x_ticks]
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert gaps == pytest.approx([gaps[0]] * 3)
    assert [text for _, text in drawn.x_ticks] == ["1", "2", "4", "8"]


def test_what_is_not_finite_is_left_out():
    drawn = chart({"a": [(1, 1.0), (2, math.nan), (3, math.inf), (4, 2.0)], "b": [(1, math.nan)]})
    assert [len(line.dots) for line in drawn.lines] == [2, 0]
    assert drawn.lines[1].path == ""
    assert chart({"a": [(1, math.nan)]}) is None
    assert chart({}) is None


def test_many_points_have_no_dots():
    drawn = chart({"a": [(x, x) for x in range(500)]})
    assert drawn.lines[0].dots == []
    assert drawn.lines[0].path.count("L") == 499


def test_a_calibrated_network_lies_on_the_diagonal():
    found = {"pixels": [0, 10, 0, 30], "correct": [0, 4, 0, 27], "confidence": [0, 4.0, 0, 27.0]}
    drawn = calibration_chart({"accuracy": found}, "")
    for x, y, _ in drawn.lines[0].dots:
        assert (x - LEFT) / (RIGHT - LEFT) == pytest.approx((BOTTOM - y) / (BOTTOM - TOP))
    heights = [height for _, _, _, height, _ in drawn.bars]
    assert heights == pytest.approx([0, 0.25 * (BOTTOM - TOP) / 4, 0, 0.75 * (BOTTOM - TOP) / 4])
    empty = {key: [0, 0] for key in ("pixels", "correct", "confidence")}
    assert calibration_chart({"accuracy": empty}, "") is None


def test_small_rates_fit_beside_their_axis():
    points = [(0, 0.0), (100, 2.6e-4), (200, 1e-4)]
    drawn = line_chart("Rate", {"a": points}, x_label="step", y_label="learning rate")
    assert [text for _, text in drawn.y_ticks] == ["0", "1e-4", "2e-4", "3e-4"]
    large = line_chart("Loss", {"a": [(0, 0.25), (9, 1250)]}, x_label="step", y_label="loss")
    assert all(len(text) <= 5 for _, text in large.y_ticks)
