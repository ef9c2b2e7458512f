"""Objects by size against SciPy's labelling and counts by hand."""

import numpy as np
import pytest
from scipy import ndimage

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.tasks.segmentation.metrics import miou
from deeplab_mnv2.tasks.segmentation.object_sizes import object_size_scores, object_sizes
from tests.support.evaluations import confusion_of


def square(label: np.ndarray, top: int, left: int, side: int, class_id: int) -> None:
    label[top : top + side, left : left + side] = class_id


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scipy(seed):
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, 2, IGNORE_LABEL], size=(12, 15), p=[0.4, 0.3, 0.1, 0.2])
    label = np.kron(label, np.ones((9, 9))).astype(np.uint8)
    sizes, objects = object_sizes(label, 3)
    expected, found = np.zeros_like(label), np.zeros((3, 3), np.int64)
    for class_id in range(3):
        regions, count = ndimage.label(label == class_id, structure=np.ones((3, 3)))
        for region in range(1, count + 1):
            area = (regions == region).sum()
            size = 0 if area < 32**2 else 1 if area < 96**2 else 2
            expected[regions == region] = size
            found[size, class_id] += 1
    np.testing.assert_array_equal(sizes, expected)
    np.testing.assert_array_equal(objects, found)
    assert found[:2].sum(axis=1).all()


@pytest.mark.parametrize(
    ("height", "width", "size"), [(31, 33, 0), (32, 32, 1), (95, 97, 1), (96, 96, 2)]
)
def test_limits_are_coco_s(height, width, size):
    label = np.full((100, 100), IGNORE_LABEL, np.uint8)
    label[:height, :width] = 1
    sizes, objects = object_sizes(label, 2)
    assert objects[:, 1].tolist() == [int(row == size) for row in range(3)]
    assert (sizes[label == 1] == size).all()
    assert not sizes[label != 1].any()


def test_void_parts_objects_and_corners_join_them():
    label = np.zeros((9, 9), np.uint8)
    square(label, 0, 0, 3, 1)
    square(label, 3, 3, 3, 1)
    assert object_sizes(label, 2)[1][0].tolist() == [1, 1]
    label[3, 3] = IGNORE_LABEL
    assert object_sizes(label, 2)[1][0].tolist() == [1, 2]


def counted(label: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return confusions, sizes and objects of one image, as `object_size_scores` takes them."""
    of_pixel, objects = object_sizes(label, 3)
    sizes = np.zeros((3, 3, 2), np.int64)
    np.add.at(sizes, (of_pixel, label, (label == prediction).astype(int)), 1)
    return confusion_of(label, prediction, 3)[None], sizes[None], objects


def test_by_hand():
    label = np.zeros((100, 100), np.uint8)
    square(label, 0, 0, 10, 1)
    square(label, 40, 40, 50, 1)
    prediction = np.zeros_like(label)
    square(prediction, 40, 40, 50, 1)
    square(prediction, 0, 50, 26, 1)  # 676 false positives
    found = object_size_scores(*counted(label, prediction), ("background", "cat", "dog"))
    assert found["small"]["objects"] == found["medium"]["objects"] == 1
    assert found["small"]["pixels"] == 100
    assert found["small"]["miou"] == found["small"]["mean_accuracy"] == 0
    # 2500 of the 2600 pixels of cats are the large one's: so are 650 false positives.
    assert found["medium"]["miou"] == pytest.approx(2500 / (2500 + 650))
    assert found["medium"]["mean_accuracy"] == 1
    assert found["medium"]["classes"] == 1
    assert found["large"] == {
        "max_area": None,
        "objects": 0,
        "pixels": 0,
        "classes": 0,
        "miou": None,
        "mean_accuracy": None,
    }


def test_with_one_size_it_is_the_plain_iou():
    rng = np.random.default_rng(0)
    label = np.zeros((64, 64), np.uint8)
    square(label, 0, 0, 20, 1)
    square(label, 30, 30, 20, 2)
    prediction = np.where(rng.random(label.shape) < 0.8, label, rng.integers(0, 3, label.shape))
    confusions, sizes, objects = counted(label, prediction)
    sizes[:, 0] += sizes[:, 1] + sizes[:, 2]  # the background's size apart
    sizes[:, 1:] = 0
    found = object_size_scores(confusions, sizes, objects, ("a", "b", "c"))
    assert found["small"]["miou"] == pytest.approx(float(miou(confusions[0])))
