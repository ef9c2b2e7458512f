"""COCO's and VOC's average precision, against pycocotools and cases worked out by hand."""

import json

import numpy as np
import pytest

from deeplab_mnv2.data.boxes import Objects
from deeplab_mnv2.data.coco import Coco
from deeplab_mnv2.tasks.detection.average_precision import (
    ap_samples,
    coco_scores,
    precisions,
    recalls,
)
from deeplab_mnv2.tasks.detection.matches import (
    Detections,
    Matches,
    box_iou,
    join,
    match_coco,
    match_voc,
)
from deeplab_mnv2.tasks.detection.voc_precision import voc_precisions
from tests.support.made_detections import (
    CLASSES,
    Image,
    as_coco,
    made_images,
    pycocotools_scores,
)

NAMES = tuple(map(str, range(CLASSES)))
TWELVE = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)


def matched(images: list[Image]) -> Matches:
    return join([match_coco(detections, objects) for detections, objects in images])


def twelve(images: list[Image]) -> list[float]:
    scores = coco_scores(matched(images), NAMES)
    return [-1.0 if scores[name] is None else scores[name] for name in TWELVE]


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, 4)


def objects(*rows: tuple[float, ...], ignore=(), label=()) -> Objects:
    found = boxes(*rows)
    return Objects(
        found,
        np.array(label or [0] * len(found), np.int64),
        np.array(ignore or [False] * len(found), bool),
        (found[:, 2:] - found[:, :2]).prod(axis=1),
    )


def detections(*rows: tuple[float, ...], scores, label=()) -> Detections:
    found = boxes(*rows)
    return Detections(found, np.array(scores, float), np.array(label or [0] * len(found), np.int64))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools(seed, ties):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (extra: parity)")
    images = made_images(seed, ties=ties)
    expected, precision = pycocotools_scores(images)
    np.testing.assert_allclose(twelve(images), expected, rtol=0, atol=1e-9)
    assert 0.05 < expected[0] < 0.95
    for place, area in enumerate(("all", "small", "medium", "large")):
        ours = precisions(matched(images), CLASSES, area=area)[0]  # (C, T, 101)
        theirs = precision[..., place, 2].transpose(2, 0, 1)
        np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), theirs, rtol=0, atol=1e-9)


def test_equals_what_pycocotools_recorded():
    # By pycocotools 2.0.11 and by faster-coco-eval 1.8.0.
    recorded = [0.14774957, 0.27549347, 0.12314109, 0.14792943, 0.19182925, 0.64444444]
    recorded += [0.16253754, 0.54409409, 0.59722222, 0.5216985, 0.76823232, 0.96666667]
    np.testing.assert_allclose(twelve(made_images(0)), recorded, rtol=0, atol=1e-6)


def test_equals_faster_coco_eval():
    faster = pytest.importorskip(
        "faster_coco_eval", reason="faster-coco-eval is not installed (extra: parity)"
    )
    images = made_images(7)
    truth, results = as_coco(images)
    coco = faster.COCO(truth)
    evaluation = faster.COCOeval_faster(coco, coco.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    np.testing.assert_allclose(twelve(images), evaluation.stats[:12], rtol=0, atol=1e-9)


@pytest.mark.parametrize("zero", [False, True], ids=["ids from 1", "ids from 0"])
def test_the_same_file_read_by_pycocotools_and_by_us(tmp_path, zero):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (extra: parity)")
    shift = np.array([0.13, 0.29, 0.13, 0.29])
    images = [
        (Detections(d.boxes + shift, d.scores, d.label), Objects(o.boxes + shift, *rest))
        for d, o in made_images(9, ties=False)
        for rest in [(o.label, o.ignore, o.area)]
    ]
    truth, _ = as_coco(images)
    for entry in truth["images"]:
        entry["file_name"] = f"{entry['id']}.jpg"
    for entry in truth["annotations"]:
        # An object with the id 0 counts as not found in pycocotools.
        entry["id"] -= zero
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(truth))
    source = Coco(root=str(tmp_path)).open()
    read = [(found, source.annotation(index)) for index, (found, _) in enumerate(images)]
    expected, _ = pycocotools_scores(images)
    np.testing.assert_allclose(twelve(read), expected, rtol=0, atol=1e-9)


def test_without_any_detection_or_object():
    nothing = detections(scores=[])
    assert twelve([(nothing, objects((0, 0, 50, 50)))])[0] == 0
    scores = coco_scores(matched([(nothing, objects())]), NAMES)
    assert scores["ap"] is None
    assert scores["ar100"] is None
    found = coco_scores(matched([(detections((0, 0, 9, 9), scores=[1]), objects())]), NAMES)
    assert found["ap_per_class"] == dict.fromkeys(NAMES)


def test_one_object_found_twice_and_one_missed():
    present = objects((0, 0, 40, 40), (100, 100, 140, 140))
    found = detections((0, 0, 40, 40), (0, 0, 40, 38), (200, 200, 240, 240), scores=[0.9, 0.8, 0.7])
    matches = matched([(found, present)])
    assert matches.true[:, 0, 0].tolist() == [True, False, False]
    # Half the recall at full precision: 51 of 101 recalls.
    assert coco_scores(matches, NAMES)["ap50"] == pytest.approx(51 / 101)
    assert recalls(matches, CLASSES)[0, 0, 0] == 0.5


def test_a_crowd_takes_many_and_a_real_object_is_preferred():
    present = objects((0, 0, 100, 100), (0, 0, 40, 40), ignore=[True, False])
    found = detections((0, 0, 40, 36), (50, 50, 90, 90), (10, 50, 50, 90), scores=[0.9, 0.8, 0.7])
    matches = matched([(found, present)])
    # All lie wholly in the crowd; the first finds the object at IoU 0.9, and the crowd at 0.95.
    assert matches.true[0, 0].tolist() == [True] * 9 + [False]
    assert matches.ignored[1:, 0].all()
    assert coco_scores(matches, NAMES)["ap50"] == pytest.approx(1)


def test_both_ends_belong_to_a_range_of_area():
    present = objects((0, 0, 32, 32))
    matches = matched([(detections((0, 0, 32, 32), scores=[1]), present)])
    scores = coco_scores(matches, NAMES)
    assert [scores[name] for name in TWELVE[3:6]] == [pytest.approx(1), pytest.approx(1), None]


@pytest.mark.parametrize("match", [match_coco, match_voc])
def test_multiplicities_equal_copies_of_images(match):
    images = made_images(3, ties=False)
    times = np.random.default_rng(0).integers(0, 4, (3, len(images)))
    parts = [match(found, present) for found, present in images]
    for row in times:
        copied = join([part for part, n in zip(parts, row, strict=True) for _ in range(n)])
        if match is match_voc:
            ours = voc_precisions(join(parts), CLASSES, times=row[None])
            np.testing.assert_allclose(ours, voc_precisions(copied, CLASSES), atol=1e-12)
            continue
        for area in ("all", "small"):
            ours = precisions(join(parts), CLASSES, area=area, times=row[None])
            expected = precisions(copied, CLASSES, area=area)
            np.testing.assert_allclose(ours, expected, atol=1e-12)
        ours = recalls(join(parts), CLASSES, most=2, times=row[None])
        np.testing.assert_allclose(ours, recalls(copied, CLASSES, most=2), atol=1e-12)


def test_samples_hold_the_scores():
    matches = matched(made_images(5))
    scores = coco_scores(matches, NAMES)
    (sample,) = ap_samples(matches, CLASSES, np.ones((1, matches.images)))
    expected = [scores["ap"], scores["ap50"], scores["ap75"], *scores["ap_per_class"].values()]
    np.testing.assert_allclose(sample, np.array(expected, float), atol=1e-12)
    times = np.random.default_rng(0).integers(0, 4, (3, matches.images))
    samples = ap_samples(matches, CLASSES, times)
    assert samples.shape == (3, 3 + CLASSES)
    assert len(set(samples[:, 0])) == 3


def test_the_order_of_images_and_detections_does_not_matter_without_ties():
    images = made_images(2, ties=False)
    rng = np.random.default_rng(1)
    shuffled = []
    for index in rng.permutation(len(images)):
        found, present = images[index]
        order = rng.permutation(len(found.scores))
        shuffled.append(
            (Detections(found.boxes[order], found.scores[order], found.label[order]), present)
        )
    np.testing.assert_allclose(twelve(shuffled), twelve(images), rtol=0, atol=1e-12)


def test_joined_in_any_grouping():
    parts = [match_coco(*image) for image in made_images(1)]
    at_once, in_two = join(parts), join([join(parts[:7]), join(parts[7:])])
    for name, value in vars(at_once).items():
        np.testing.assert_array_equal(value, getattr(in_two, name))


def test_half_precision_scores_are_compared_as_they_are():
    images = made_images(4, ties=False)
    halved = [
        (Detections(d.boxes, d.scores.astype(np.float16), d.label), present)
        for d, present in images
    ]
    doubled = [(Detections(d.boxes, d.scores.astype(float), d.label), p) for d, p in halved]
    assert twelve(halved) == twelve(doubled)


def test_voc_by_hand():
    # Image 0: two objects and a difficult one; image 1: one object.
    first = objects((0, 0, 10, 10), (20, 20, 30, 30), (50, 50, 60, 60), ignore=[False, False, True])
    second = objects((0, 0, 10, 10))
    found = [
        (
            detections(
                (0, 0, 10, 10),  # true
                (0, 0, 10, 9),  # the same object again: false
                (50, 50, 60, 60),  # difficult: ignored
                (20, 20, 30, 25),  # IoU exactly 0.5: true
                scores=[0.9, 0.8, 0.7, 0.5],
            ),
            first,
        ),
        (detections((40, 40, 50, 50), scores=[0.6]), second),  # false
    ]
    matches = join([match_voc(*image) for image in found])
    eleven, area = voc_precisions(matches, 2)
    # In order: true, false, false, true, of 3 objects. Recall 1/3 at precision 1, 2/3 at 2/4.
    assert eleven[0, 0] == pytest.approx((4 * 1 + 3 * 0.5) / 11)
    assert area[0, 0] == pytest.approx(1 / 3 + 0.5 / 3)
    assert np.isnan([eleven[0, 1], area[0, 1]]).all()


def test_voc_does_not_try_another_object():
    # Both detections are nearest to the first object; COCO's rule gives the second the other one.
    present = objects((0, 0, 10, 10), (0, 3, 10, 13))
    found = detections((0, 0, 10, 10), (0, 1, 10, 11), scores=[0.9, 0.8])
    assert match_voc(found, present).true.ravel().tolist() == [True, False]
    assert match_coco(found, present).true[:, 0, 0].tolist() == [True, True]


def test_voc_counts_a_recall_of_exactly_three_tenths():
    present = objects(*((0, 20 * i, 10, 20 * i + 10) for i in range(10)))
    found = detections(*((0, 20 * i, 10, 20 * i + 10) for i in range(3)), scores=[0.9, 0.8, 0.7])
    eleven, area = voc_precisions(match_voc(found, present), 1)
    assert eleven[0, 0] == pytest.approx(4 / 11)
    assert area[0, 0] == pytest.approx(0.3)


def test_boxes_and_scores_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        Detections(np.zeros((2, 4)), np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="shapes"):
        Objects(np.zeros((2, 5)), *np.zeros((3, 2)))


def test_iou_of_boxes_that_touch_or_are_empty_is_nothing():
    first = boxes((0, 0, 10, 10), (5, 5, 5, 5))
    second = boxes((10, 0, 20, 10), (0, 0, 10, 10), (5, 5, 5, 5))
    np.testing.assert_array_equal(box_iou(first, second), [[0, 1, 0], [0, 0, 0]])
