import numpy as np
import pytest

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.tasks.segmentation.pasting import paste


def target(height=60, width=80, channels=3):
    return np.zeros((height, width, channels), np.uint8), np.full((height, width), 1, np.uint8)


def donor(channels=3):
    """Return grey 100 with a bright square of class 2, its outline unlabelled."""
    image, label = np.full((50, 40, channels), 100, np.uint8), np.zeros((50, 40), np.uint8)
    label[10:30, 8:28] = IGNORE_LABEL
    label[12:28, 10:26] = 2
    image[12:28, 10:26] = 200
    # Unlabelled, but no outline of it.
    label[45:, 35:] = IGNORE_LABEL
    return image, label


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("seed", range(20))
def test_the_object_its_outline_and_nothing_else_come_along(channels, seed):
    image, label = target(channels=channels)
    pasted, pasted_label = paste(
        image, label, *donor(channels), np.random.default_rng(seed), flip=True
    )
    assert pasted.shape == image.shape
    assert pasted.dtype == pasted_label.dtype == np.uint8
    new = pasted_label != 1
    assert set(np.unique(pasted_label)) == {1, 2, IGNORE_LABEL}
    # What is not pasted stays; where it is, the picture is the donor's.
    assert (pasted[~new] == 0).all()
    assert (pasted[new] >= 100).all()
    assert np.median(pasted[pasted_label == 2]) == 200
    # A square stays one: the object is whole, whatever its scale and place.
    rows, columns = np.nonzero(pasted_label == 2)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert abs(height - width) <= 1
    assert len(rows) == height * width
    assert 0.5 * 16 - 2 <= height <= 2 * 16 + 2


def test_the_inputs_are_left_alone():
    inputs = (*target(), *donor())
    before = [array.copy() for array in inputs]
    paste(*inputs, np.random.default_rng(0), flip=True)
    for array, old in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_scales_flips_and_places_differ():
    image, label = donor()
    image[:, :18] //= 2  # the object's left half is darker
    found = [
        paste(*target(), image, label, np.random.default_rng(seed), flip=True)[0][..., 0]
        for seed in range(40)
    ]
    sizes = {int((picture > 0).sum()) for picture in found}
    darker_left = {
        bool(picture[:, columns[0]].max() < picture[:, columns[-1]].max())
        for picture in found
        for columns in [np.nonzero(picture.max(axis=0) > 60)[0]]
    }
    assert len(sizes) > 20
    assert darker_left == {True, False}
    assert len({int(np.nonzero(picture.any(axis=1))[0][0]) for picture in found}) > 10


def test_nothing_is_flipped_where_flip_is_off():
    image, label = donor()
    image[:, :18] //= 2  # the object's left half is darker
    turned = []
    for flip in (False, True):
        for seed in range(40):
            rng = np.random.default_rng(seed)
            picture = paste(*target(), image, label, rng, flip=flip)[0][..., 0]
            columns = np.nonzero(picture.max(axis=0) > 40)[0]
            turned.append(int(picture[:, columns[0]].max()) > int(picture[:, columns[-1]].max()))
    assert not any(turned[:40])
    assert any(turned[40:])


def test_an_object_larger_than_the_image_is_made_to_fit():
    image, label = np.full((300, 500, 3), 9, np.uint8), np.full((300, 500), 2, np.uint8)
    for seed in range(10):
        pasted, pasted_label = paste(
            *target(), image, label, np.random.default_rng(seed), flip=True
        )
        rows, columns = np.nonzero(pasted_label == 2)
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (48, 80)
        assert (pasted[pasted_label == 2] == 9).all()


def test_each_class_is_drawn_and_comes_alone():
    image, label = donor()
    label[35:40, :30] = 3
    drawn = [
        set(np.unique(paste(*target(), image, label, np.random.default_rng(seed), flip=True)[1]))
        & {2, 3}
        for seed in range(30)
    ]
    assert {2} in drawn
    assert {3} in drawn
    assert {2, 3} not in drawn


@pytest.mark.parametrize("empty", [0, IGNORE_LABEL])
def test_background_and_unlabelled_are_never_pasted(empty):
    image, label = target()
    nothing = np.full((20, 20), empty, np.uint8)
    pasted, pasted_label = paste(
        image,
        label,
        np.full((20, 20, 3), 9, np.uint8),
        nothing,
        np.random.default_rng(0),
        flip=True,
    )
    np.testing.assert_array_equal(pasted, image)
    np.testing.assert_array_equal(pasted_label, label)
