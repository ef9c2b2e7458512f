import dataclasses

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from deeplab_mnv2.config import IGNORE_LABEL, DataConfig
from deeplab_mnv2.data.colours import distort_colours
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.tasks.segmentation.transforms import (
    augment,
    boundary_band,
    pad,
    random_scale,
    scale_pad_crop,
)

MEAN = (128, 128, 128)


@pytest.fixture
def config() -> DataConfig:
    return DataConfig(train=Shapes(), val=Shapes(split="val"), crop_size=65)


@pytest.fixture
def blocks() -> np.ndarray:
    """A label of 12 x 12 blocks with distinct ids."""
    return np.kron(np.arange(48, dtype=np.uint8).reshape(6, 8), np.ones((12, 12), np.uint8))


@pytest.mark.parametrize("scale_step", [0.25, 0.0])
def test_label_stays_aligned_with_image(config, blocks, scale_step):
    # An image that is its own label: wherever it is not blended between two blocks, the
    # transformed image must still equal the transformed label.
    config = dataclasses.replace(config, scale_step=scale_step)
    image = np.repeat(blocks[..., None], 3, axis=-1)
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(200):
        new_image, new_label = augment(image, blocks, rng, config, MEAN)
        assert new_image.shape == (65, 65, 3)
        assert new_label.shape == (65, 65)
        padding = new_label == IGNORE_LABEL
        np.testing.assert_array_equal(padding, (new_image == 128).all(axis=-1))
        band = boundary_band(new_label, (2,))
        inside = (band == 1) & ~padding
        # A block boundary just outside the crop blends pixels inside of it.
        inside[[0, 1, -2, -1]] = inside[:, [0, 1, -2, -1]] = False
        np.testing.assert_array_equal(new_image[..., 0][inside], new_label[inside])
        compared += inside.sum()
    assert compared > 100_000


def test_scale_one_is_an_exact_crop(blocks):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (*blocks.shape, 3), dtype=np.uint8)
    crop, label = scale_pad_crop(image, blocks, rng, 1.0, 33, MEAN)
    found = [
        (top, left)
        for top in range(blocks.shape[0] - 32)
        for left in range(blocks.shape[1] - 32)
        if np.array_equal(image[top : top + 33, left : left + 33], crop)
    ]
    assert len(found) == 1
    top, left = found[0]
    np.testing.assert_array_equal(blocks[top : top + 33, left : left + 33], label)


def test_crops_reach_every_corner(blocks):
    image = np.repeat(blocks[..., None], 3, axis=-1)
    corners = set()
    for seed in range(400):
        _, label = scale_pad_crop(image, blocks, np.random.default_rng(seed), 1.0, 65, MEAN)
        corners.add((int(label[0, 0]), int(label[-1, -1])))
    assert any(first == 0 for first, _ in corners)
    assert any(last == 47 for _, last in corners)


def test_small_images_are_padded_at_the_bottom_and_right(blocks):
    image = np.repeat(blocks[..., None], 3, axis=-1)
    crop, label = scale_pad_crop(image, blocks, np.random.default_rng(0), 0.5, 65, MEAN)
    height, width = blocks.shape[0] // 2, blocks.shape[1] // 2
    assert (label[height:] == IGNORE_LABEL).all()
    assert (label[:, width:] == IGNORE_LABEL).all()
    assert (label[:height, :width] != IGNORE_LABEL).all()
    assert (crop[height:] == 128).all()


def test_scales_are_the_discrete_steps():
    rng = np.random.default_rng(0)
    drawn = {random_scale(rng, (0.5, 2.0), 0.25) for _ in range(500)}
    assert drawn == {0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0}
    # A step that does not divide the range stays inside it.
    assert {random_scale(rng, (0.5, 2.0), 1.0) for _ in range(100)} == {0.5, 1.5}
    assert len({random_scale(rng, (0.1, 0.7), 0.2) for _ in range(100)}) == 4
    continuous = [random_scale(rng, (0.5, 2.0), 0.0) for _ in range(4000)]
    assert min(continuous) >= 0.5
    assert max(continuous) <= 2.0
    # Uniform in the logarithm: as many scaled up as down.
    assert np.mean(np.array(continuous) > 1) == pytest.approx(0.5, abs=0.03)


def test_augmentation_is_a_function_of_the_generator(config):
    example = Shapes().open()[0]
    config = dataclasses.replace(config, photometric=True)
    first, second = (
        augment(example["image"], example["label"], np.random.default_rng(5), config, MEAN)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_colour_distortion_changes_colours_only():
    image = Shapes().open()[0]["image"]
    distorted = distort_colours(image, np.random.default_rng(0))
    assert distorted.shape == image.shape
    assert distorted.dtype == np.uint8
    assert not np.array_equal(distorted, image)
    grey = np.full((4, 4, 3), 100, np.uint8)
    spread = np.ptp(distort_colours(grey, np.random.default_rng(0)), axis=-1)
    assert spread.max() == 0  # grey has no hue or saturation to change


def test_colour_distortion_keeps_the_order_of_greys_and_the_padding(config):
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=-1)
    for seed in range(50):
        levels = distort_colours(ramp, np.random.default_rng(seed))[0, :, 0].astype(int)
        assert (np.diff(levels) >= 0).all()
    config = dataclasses.replace(config, photometric=True, scale_range=(0.5, 0.5))
    example = Shapes().open()[0]
    image, label = augment(
        example["image"], example["label"], np.random.default_rng(0), config, MEAN
    )
    assert (image[-1, -1] == MEAN).all()
    assert label[-1, -1] == IGNORE_LABEL


def test_pad_keeps_the_picture_and_labels_the_rest_ignored():
    example = Shapes().open()[0]
    image, label = pad(example["image"], example["label"], (129, 193), (104, 117, 123))
    assert image.shape == (129, 193, 3)
    assert label.shape == (129, 193)
    height, width = example["label"].shape
    np.testing.assert_array_equal(image[:height, :width], example["image"])
    np.testing.assert_array_equal(label[:height, :width], example["label"])
    assert (image[height:] == (104, 117, 123)).all()
    assert (label[:, width:] == IGNORE_LABEL).all()


@pytest.mark.parametrize("seed", range(4))
def test_bands_are_euclidean(seed):
    """Far from a boundary, OpenCV's quicker distances put one pixel in 85 in another band."""
    widths = (1, 2, 4, 8, 16, 32)
    rng = np.random.default_rng(seed)
    label = np.zeros((150, 200), np.uint8)
    for class_id, (row, column) in enumerate(rng.integers(0, (150, 200), (5, 2)), 1):
        label[row : row + 3, column : column + 3] = class_id
    label[:2, rng.integers(200)] = IGNORE_LABEL
    boundary = label == IGNORE_LABEL
    for row, column in np.ndindex(label.shape):
        for other in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if 0 <= other[0] < 150 and 0 <= other[1] < 200 and label[other] != label[row, column]:
                boundary[row, column] = True
    distance = distance_transform_edt(~boundary)
    # Widths are compared with whole pixels.
    expected = np.sum([distance >= width + 0.5 for width in widths], axis=0)
    np.testing.assert_array_equal(boundary_band(label, widths), expected)
    assert len(np.unique(expected)) == 7


def test_bands_by_hand():
    label = np.zeros((9, 30), np.uint8)
    label[:, 10:] = 1
    band = boundary_band(label, (1, 4))
    # Pixels 9 and 10 touch the boundary; 8 is one pixel from it, 5 four.
    assert band[4].tolist() == [2] * 5 + [1] * 3 + [0] * 4 + [1] * 3 + [2] * 15
    assert (boundary_band(np.zeros((5, 5), np.uint8), (1, 4)) == 2).all()
