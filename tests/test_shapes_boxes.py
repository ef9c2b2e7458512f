"""Boxes of drawn scenes agree with the scenes' labels."""

import hashlib
import pickle

import numpy as np
import pytest

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.data.shapes_boxes import ShapesBoxes
from deeplab_mnv2.errors import UserError


def test_scenes_are_those_of_shapes():
    scenes, boxes = Shapes(length=5, size=49).open(), ShapesBoxes(length=5, size=49).open()
    assert len(boxes) == 5
    for index in (0, -1):
        np.testing.assert_array_equal(scenes[index]["image"], boxes[index]["image"])
        assert scenes[index]["name"] == boxes[index]["name"]
    with pytest.raises(IndexError):
        boxes[5]
    assert pickle.loads(pickle.dumps(boxes))[0]["label"].tolist() == boxes[0]["label"].tolist()
    assert ShapesBoxes().class_names == Shapes().class_names[1:]


def test_scenes_are_as_they_were_drawn_before_there_were_boxes():
    digest = hashlib.sha256()
    for split in ("train", "val"):
        for size in (33, 97):
            for example in Shapes(split=split, length=100, size=size).open():
                digest.update(example["image"].tobytes())
                digest.update(example["label"].tobytes())
    recorded = "f31e5ec1b7bde0f02969432ee80074f738b854bc9e7cb4a73fd49be05a04c9f4"
    assert digest.hexdigest() == recorded


def test_boxes_hold_each_class_of_the_label_and_no_more():
    scenes, boxes = Shapes(length=60).open(), ShapesBoxes(length=60).open()
    several = 0
    for index in range(60):
        label, example = scenes[index]["label"], boxes[index]
        covered = np.zeros(label.shape, bool)
        for (top, left, bottom, right), one in zip(
            example["pixel_boxes"].astype(int), example["label"], strict=True
        ):
            inside = label[top:bottom, left:right] == one + 1
            # Every side of the box touches the object.
            assert all(inside[place].any() for place in (0, -1, np.s_[:, 0], np.s_[:, -1]))
            covered[top:bottom, left:right] |= inside
        assert covered.sum() == ((label > 0) & (label != IGNORE_LABEL)).sum()
        several += len(set(example["label"])) < len(example["label"])
    # Two objects of a class in a scene have a box each.
    assert several > 0


def test_two_objects_that_touch_have_their_own_boxes():
    source = Shapes(length=200).open()
    for index in range(200):
        example, objects = source.draw(index)
        known = (example["label"] > 0) & (example["label"] != IGNORE_LABEL)
        np.testing.assert_array_equal(objects > 0, known)
        for number in np.unique(objects[known]):
            assert len(np.unique(example["label"][objects == number])) == 1


def test_digest_and_settings():
    digests = {ShapesBoxes().digest(), ShapesBoxes(seed=1).digest(), Shapes().digest()}
    assert len(digests) == 3
    with pytest.raises(UserError, match=r"ShapesBoxes\.size=7 is out of range"):
        ShapesBoxes(size=7).open()
