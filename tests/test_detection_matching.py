"""Box codes and matching, against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeplab_mnv2.tasks.detection.anchors import anchors
from deeplab_mnv2.tasks.detection.box_coding import areas, decode, encode, overlaps
from deeplab_mnv2.tasks.detection.matching import targets

ANCHORS = anchors(300, 300)
_targets = jax.jit(targets)


def random_boxes(rng: np.random.Generator, number: int, least: float = 0.02) -> np.ndarray:
    size = rng.uniform(least, 0.6, (number, 2))
    low = rng.uniform(0, 1 - size)
    return np.concatenate([low, low + size], axis=-1).astype(np.float32)


def plain_overlap(a: np.ndarray, b: np.ndarray) -> float:
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    if height <= 0 or width <= 0:
        return 0.0
    common = height * width
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def match(boxes, classes=None, valid=None, ignore=None):
    number = len(boxes)
    classes = np.arange(number, dtype=np.int32) if classes is None else classes
    valid = np.ones(number, bool) if valid is None else valid
    ignore = np.zeros(number, bool) if ignore is None else ignore
    found = _targets(boxes[None], classes[None], ignore[None], valid[None], ANCHORS)
    return type(found)(*(np.asarray(part)[0] for part in found))


def test_decode_undoes_encode():
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, len(ANCHORS))
    codes = encode(jnp.asarray(boxes), jnp.asarray(ANCHORS))
    np.testing.assert_allclose(decode(codes, jnp.asarray(ANCHORS)), boxes, atol=2e-6)
    drawn = jnp.asarray(rng.normal(0, 3, (len(ANCHORS), 4)), jnp.float32)
    again = encode(decode(drawn, jnp.asarray(ANCHORS)), jnp.asarray(ANCHORS))
    np.testing.assert_allclose(again, drawn, atol=1e-3)


def test_codes_are_tensorflows():
    # Half an anchor down, a quarter to the left, twice as high, half as wide.
    anchor = jnp.asarray([[0.2, 0.2, 0.4, 0.6]])
    box = jnp.asarray([[0.2, 0.2, 0.6, 0.4]])
    wanted = [[10 * 0.5, -10 * 0.25, 5 * np.log(2), -5 * np.log(2)]]
    np.testing.assert_allclose(encode(box, anchor), wanted, rtol=1e-5)


def test_overlaps_are_intersection_over_union():
    rng = np.random.default_rng(1)
    one, other = random_boxes(rng, 40), random_boxes(rng, 50)
    other[:5] = one[:5]
    other[5, 2:] = other[5, :2]  # without area
    wanted = [[plain_overlap(a, b) for b in other] for a in one.astype(float)]
    np.testing.assert_allclose(overlaps(one, other), wanted, atol=1e-5)
    assert areas(jnp.asarray([[0.5, 0.5, 0.2, 0.9]]))[0] == 0
    assert np.asarray(overlaps(jnp.zeros((1, 4)), jnp.zeros((1, 4)))).item() == 0


@pytest.mark.parametrize("seed", range(5))
def test_matching_equals_plain_loops(seed):
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, 12)
    boxes[7] = boxes[6]  # two that claim one anchor
    classes = rng.integers(0, 80, 12).astype(np.int32)
    iou = np.array([[plain_overlap(box, anchor) for anchor in ANCHORS] for box in boxes])
    owner = np.where(iou.max(axis=0) >= 0.5, iou.argmax(axis=0), -1)
    for index in reversed(range(12)):  # the first claims last, so it has it
        owner[iou[index].argmax()] = index
    found = match(boxes, classes)
    np.testing.assert_array_equal(found.matched, owner >= 0)
    np.testing.assert_array_equal(found.classes, np.where(owner >= 0, classes[owner], -1))
    assert not found.ignored.any()
    there = found.matched
    decoded = decode(jnp.asarray(found.codes[there]), jnp.asarray(ANCHORS[there]))
    np.testing.assert_allclose(decoded, boxes[owner[there]], atol=1e-5)
    assert not found.codes[~there].any()


@pytest.mark.parametrize("least", [0.002, 0.3])
def test_every_object_is_matched(least):
    rng = np.random.default_rng(3)
    boxes = random_boxes(rng, 8, least)
    boxes[:4, 2:] = boxes[:4, :2] + least
    claims = {int(np.asarray(overlaps(box[None], ANCHORS)).argmax()) for box in boxes}
    assert len(claims) == 8, "the seed is to give objects that do not contend"
    assert set(match(boxes).classes) == {-1, *range(8)}


def test_padding_claims_nothing():
    rng = np.random.default_rng(4)
    boxes = random_boxes(rng, 3)
    padded = np.concatenate([boxes, np.zeros((5, 4), np.float32), random_boxes(rng, 2)])
    valid = np.arange(10) < 3
    alone, found = match(boxes), match(padded, valid=valid)
    for one, other in zip(alone, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_image_without_objects_is_all_background():
    found = match(np.zeros((4, 4), np.float32), valid=np.zeros(4, bool))
    assert not found.matched.any()
    assert not found.ignored.any()
    assert (found.classes == -1).all()


def test_a_box_without_area_claims_nothing():
    boxes = np.array([[0.3, 0.3, 0.3, 0.6]], np.float32)
    assert not match(boxes).matched.any()


def test_ignored_boxes_neither_match_nor_are_background():
    boxes = np.array([[0.1, 0.1, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]], np.float32)
    found = match(boxes, ignore=np.array([False, True]))
    assert set(found.classes) == {-1, 0}
    inside = np.array(
        [plain_overlap(boxes[1], a) > 0 and share(boxes[1], a) >= 0.5 for a in ANCHORS]
    )
    np.testing.assert_array_equal(found.ignored, inside & ~found.matched)
    assert found.ignored.sum() > 50
    # An ignored box that is not there ignores nothing.
    absent = match(boxes, ignore=np.array([False, True]), valid=np.array([True, False]))
    assert not absent.ignored.any()


def test_objects_within_ignored_regions_are_matched():
    boxes = np.array([[0.4, 0.4, 0.6, 0.6], [0.2, 0.2, 0.9, 0.9]], np.float32)
    found = match(boxes, ignore=np.array([False, True]))
    assert found.matched.any()
    assert not (found.matched & found.ignored).any()


def share(region: np.ndarray, anchor: np.ndarray) -> float:
    """Return how much of an anchor is in a region."""
    height = min(region[2], anchor[2]) - max(region[0], anchor[0])
    width = min(region[3], anchor[3]) - max(region[1], anchor[1])
    return height * width / ((anchor[2] - anchor[0]) * (anchor[3] - anchor[1]))
