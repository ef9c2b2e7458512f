"""Detections from predictions, against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from deeplab_mnv2.tasks.detection.anchors import anchors
from deeplab_mnv2.tasks.detection.box_coding import encode
from deeplab_mnv2.tasks.detection.decoding import detect

ANCHORS = anchors(96, 96)


def draw(seed: int, batch: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.normal(0, 1.5, (batch, len(ANCHORS), 4)).astype(np.float32)
    logits = rng.normal(-2, 2, (batch, len(ANCHORS), classes + 1)).astype(np.float32)
    return codes, logits


def plain_decode(codes: np.ndarray) -> np.ndarray:
    boxes = []
    for code, (ymin, xmin, ymax, xmax) in zip(codes.astype(float), ANCHORS, strict=True):
        height, width = ymax - ymin, xmax - xmin
        y = (ymin + ymax) / 2 + code[0] / 10 * height
        x = (xmin + xmax) / 2 + code[1] / 10 * width
        half = np.array([height * np.exp(code[2] / 5), width * np.exp(code[3] / 5)]) / 2
        boxes.append([y - half[0], x - half[1], y + half[0], x + half[1]])
    return np.clip(boxes, 0, 1)


def plain_overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    union = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - common
    return common / np.maximum(union, 1e-12)


def plain(codes, logits, threshold: float, nms_iou: float, number: int):
    """Return (box, score, class) of one image, class by class, as TensorFlow goes about it."""
    boxes = plain_decode(codes)
    scores = 1 / (1 + np.exp(-logits[:, 1:].astype(float)))
    there = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) > 0
    found = []
    for index in range(scores.shape[1]):
        left = [i for i in np.argsort(-scores[:, index], kind="stable") if there[i]]
        left = [i for i in left if scores[i, index] > threshold]
        kept: list[int] = []
        for i in left:
            if len(kept) < number and not (
                kept and (plain_overlaps(boxes[i], boxes[kept]) > nms_iou).any()
            ):
                kept.append(i)
        found += [(boxes[i], scores[i, index], index) for i in kept]
    return sorted(found, key=lambda item: -item[1])[:number]


@pytest.mark.parametrize(
    ("classes", "threshold", "nms_iou", "number"),
    [
        (1, 1e-8, 0.6, 100),
        (7, 1e-8, 0.6, 100),
        (7, 0.3, 0.3, 20),
        (3, 0.99, 0.6, 50),
        (2, 0.0, 0.1, 9),
    ],
)
def test_detections_equal_plain_loops(classes, threshold, nms_iou, number):
    codes, logits = draw(classes, 3, classes)
    settings = {"score_threshold": threshold, "nms_iou": nms_iou, "max_detections": number}
    found = detect(codes, logits, ANCHORS, **settings)
    suppressed = 0
    for image in range(3):
        wanted = plain(codes[image], logits[image], threshold, nms_iou, number)
        count = int(found.counts[image])
        assert count == len(wanted)
        boxes = np.array([box for box, _, _ in wanted]).reshape(-1, 4)
        scores, kinds = ([item[index] for item in wanted] for index in (1, 2))
        np.testing.assert_allclose(found.scores[image, :count], scores, rtol=1e-5)
        np.testing.assert_array_equal(found.classes[image, :count], kinds)
        np.testing.assert_allclose(found.boxes[image, :count], boxes, atol=1e-5)
        for part in found[:3]:
            assert not np.asarray(part[image, count:]).any()
        best = np.sort(1 / (1 + np.exp(-logits[image, :, 1:].astype(float))), axis=None)[::-1]
        suppressed += not np.allclose(best[:count], scores, rtol=1e-6)
    # The case would say little if nothing overlapped.
    assert suppressed or threshold == 0.99


def test_all_boxes_of_a_class_can_be_found():
    # Without suppression the best of all boxes are the best scores, none left out beforehand.
    codes, logits = draw(0, 1, 2)
    found = detect(codes, logits, ANCHORS, nms_iou=1.0, max_detections=2 * len(ANCHORS))
    assert int(found.counts[0]) == 2 * len(ANCHORS)
    scores = np.sort(np.asarray(jax.nn.sigmoid(logits[0, :, 1:])), axis=None)[::-1]
    np.testing.assert_allclose(found.scores[0], scores, rtol=1e-6)


def test_equal_boxes_are_suppressed_within_a_class_only():
    box = np.tile(np.array([[0.2, 0.3, 0.6, 0.8]], np.float32), (len(ANCHORS), 1))
    codes = np.asarray(encode(jnp.asarray(box), jnp.asarray(ANCHORS)))[None]
    logits = np.zeros((1, len(ANCHORS), 4), np.float32)
    logits[..., 2] = 1.0
    found = detect(codes, logits, ANCHORS)
    assert int(found.counts[0]) == 3
    assert found.classes[0, :3].tolist() == [1, 0, 2]
    np.testing.assert_allclose(found.boxes[0, :3], box[:3], atol=1e-5)


def test_boxes_beyond_the_image_are_clipped_or_dropped():
    boxes = np.tile(np.array([[1.1, 0.2, 1.4, 0.4]], np.float32), (len(ANCHORS), 1))
    boxes[0] = [-0.2, 0.4, 0.5, 1.3]
    codes = np.asarray(encode(jnp.asarray(boxes), jnp.asarray(ANCHORS)))[None]
    found = detect(codes, np.zeros((1, len(ANCHORS), 2), np.float32), ANCHORS)
    assert int(found.counts[0]) == 1
    np.testing.assert_allclose(found.boxes[0, 0], [0, 0.4, 0.5, 1], atol=1e-5)


def test_background_is_no_class():
    codes, logits = draw(5, 1, 2)
    changed = logits.copy()
    changed[..., 0] = 50
    for one, other in zip(
        detect(codes, logits, ANCHORS), detect(codes, changed, ANCHORS), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_eight_devices_find_what_one_finds():
    codes, logits = draw(6, 8, 3)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    place = NamedSharding(mesh, PartitionSpec("data"))
    spread = detect(jax.device_put(codes, place), jax.device_put(logits, place), ANCHORS)
    for one, other in zip(detect(codes, logits, ANCHORS), spread, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
