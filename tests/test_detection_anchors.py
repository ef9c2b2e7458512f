"""Anchors: TensorFlow's numbers, shapes and order."""

import numpy as np
import pytest

from deeplab_mnv2.models.ssdlite import BOXES_PER_CELL
from deeplab_mnv2.tasks.detection.anchors import anchors, box_sizes, grids
from deeplab_mnv2.weights.frozen_graph.file import read_operations


@pytest.mark.parametrize(("size", "number"), [(300, 1917), (320, 2034)])
def test_numbers_are_the_published_ones(size, number):
    found = anchors(size, size)
    assert (found.shape, found.dtype) == ((number, 4), np.float32)
    assert [len(box_sizes(level)) for level in range(6)] == list(BOXES_PER_CELL)


def test_grids_halve_and_round_up():
    assert grids(300, 300) == [(n, n) for n in (19, 10, 5, 3, 2, 1)]
    assert grids(320, 640) == [(20, 40), (10, 20), (5, 10), (3, 5), (2, 3), (1, 2)]


def test_sizes_are_tensorflows():
    first = [(0.1, 0.1), (0.141421, 0.282843), (0.282843, 0.141421)]
    np.testing.assert_allclose(box_sizes(0), first, atol=1e-6)
    second = [
        (0.35, 0.35),
        (0.247487, 0.494975),
        (0.494975, 0.247487),
        (0.202073, 0.606218),
        # By 0.3333, not a third.
        (0.606248, 0.202062),
        (0.418330, 0.418330),
    ]
    np.testing.assert_allclose(box_sizes(1), second, atol=1e-6)
    extra = [box_sizes(level)[-1][0] for level in range(1, 6)]
    np.testing.assert_allclose(extra, [0.41833, 0.57009, 0.72111, 0.87178, 0.97468], atol=5e-6)


def test_order_is_level_row_column_box():
    found = anchors(300, 300)
    centres, sizes = (found[:, :2] + found[:, 2:]) / 2, found[:, 2:] - found[:, :2]
    start = 0
    for level, (rows, columns) in enumerate(grids(300, 300)):
        for row in range(rows):
            for column in range(columns):
                for size in box_sizes(level):
                    centre = ((row + 0.5) / rows, (column + 0.5) / columns)
                    np.testing.assert_allclose(centres[start], centre, atol=1e-6)
                    np.testing.assert_allclose(sizes[start], size, atol=1e-6)
                    start += 1
    assert start == len(found)


def test_boxes_are_not_clipped():
    found = anchors(300, 300)
    assert found.min() < 0
    assert found.max() > 1


@pytest.mark.parametrize(("height", "width"), [(200, 400), (400, 200)])
def test_square_boxes_are_square_in_pixels(height, width):
    found = anchors(height, width) * [height, width, height, width]
    np.testing.assert_allclose(found[0, 2] - found[0, 0], 20, rtol=1e-5)
    np.testing.assert_allclose(found[0, 3] - found[0, 1], 20, rtol=1e-5)


def test_sizes_and_grids_are_those_in_a_published_graph(shared):
    path = shared / "weights/ssdlite_mobilenet_v2_person_frozen.pb"
    generator = "MultipleGridAnchorGenerator"
    operations = {
        name.removeprefix(f"{generator}/"): operation
        for name, operation in read_operations(str(path)).items()
        if name.startswith(f"{generator}/")
    }
    for level, (rows, columns) in enumerate(grids(300, 300)):
        root = "Sqrt/x" if level == 0 else f"Sqrt_{level}/x"
        ratios, scales = operations[root].tensor, operations[f"truediv_{14 + level}/x"].tensor
        sizes = np.stack([scales / np.sqrt(ratios), scales * np.sqrt(ratios)], axis=-1)
        np.testing.assert_allclose(box_sizes(level), sizes, rtol=1e-6)
        grid = operations[f"Meshgrid_{1 + 3 * level}/Shape_1"].tensor
        np.testing.assert_array_equal(grid, [rows, columns])
