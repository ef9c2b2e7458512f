"""Labels that lie beside their images are told from those that lie on them."""

import cv2
import numpy as np
import pytest

from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.inspection.alignment import edges_under_label, misplaced
from deeplab_mnv2.inspection.split import quick_check

COUNT = 16


def _scenes():
    source = Shapes(split="val", length=COUNT).open()
    return [(source[index]["image"], source[index]["label"]) for index in range(COUNT)]


def _edges(change) -> list[np.ndarray]:
    found = [edges_under_label(image, change(label)) for image, label in _scenes()]
    return [edges for edges in found if edges is not None]


@pytest.mark.parametrize(
    ("change", "way"),
    [
        (lambda label: label, ""),
        (lambda label: label[:, ::-1], "mirrored left to right"),
        (lambda label: label[::-1], "upside down"),
        (lambda label: label[::-1, ::-1], "turned by half"),
        (lambda label: np.roll(label, 4, 0), "shifted down"),
        (lambda label: np.roll(label, -4, 0), "shifted up"),
        (lambda label: np.roll(label, 4, 1), "shifted to the right"),
        (lambda label: np.roll(label, -4, 1), "shifted to the left"),
    ],
)
def test_the_way_in_which_labels_lie_wrong_is_told(change, way):
    assert misplaced(_edges(change)) == way


def test_labels_of_other_images_have_no_way():
    scenes = _scenes()
    pairs = zip(scenes, [*scenes[1:], scenes[0]], strict=True)
    found = [edges_under_label(cv2.resize(i, j.shape[::-1]), j) for (i, _), (_, j) in pairs]
    assert misplaced([edges for edges in found if edges is not None]) == ""


def test_a_few_examples_prove_nothing():
    assert misplaced(_edges(lambda label: label[:, ::-1])[:7]) == ""


def test_what_has_no_edges_says_nothing():
    image, label = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8)
    assert edges_under_label(image, label) is None
    label[4:] = 1
    assert edges_under_label(image, label) is None


class _Mirrored(Shapes):
    def open(self):
        source = super().open()
        examples = (source[index] for index in range(len(source)))
        return [{**example, "label": example["label"][:, ::-1]} for example in examples]


def test_a_run_is_warned():
    (warning,) = quick_check(_Mirrored(length=COUNT))
    assert warning.startswith("The labels of train seem to be mirrored left to right")
    assert quick_check(Shapes(length=COUNT)) == []
