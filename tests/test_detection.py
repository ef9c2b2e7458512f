"""Detection: a run from end to end, the Detector, commands, comparisons."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from deeplab_mnv2 import Detector, weights
from deeplab_mnv2.config import (
    FocalBox,
    MultiBox,
)
from deeplab_mnv2.data.boxes import as_objects, objects_of
from deeplab_mnv2.data.chosen_classes import ChosenClasses
from deeplab_mnv2.data.shapes_boxes import ShapesBoxes
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.evaluate import evaluate
from deeplab_mnv2.report.comparison import compare, load_runs, verdict
from deeplab_mnv2.tasks.detection.drawing import draw_boxes
from deeplab_mnv2.tasks.detection.evaluator import choose
from deeplab_mnv2.tasks.detection.matches import Detections
from deeplab_mnv2.tasks.detection.scores import (
    ap_difference_intervals,
    detection_scores,
    matches_of,
)
from deeplab_mnv2.train import train
from tests.support.tiny_runs import detection as tiny_detection

SIZE = 96


def settings(**train):
    return tiny_detection(Path(), **train)


@pytest.fixture(scope="module")
def finished(one_block_a_stage, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("detection") / "run"
    return workdir, train(settings(), workdir)


def test_a_run_leaves_what_it_promises(finished):
    workdir, result = finished
    assert result == json.loads((workdir / "eval.json").read_text())
    assert result["images"] == 10
    assert {"ap", "ap50", "ap75", "ap_small", "ar100", "ap_per_class", "ci95"} <= result.keys()
    assert result["protocol"]["metric"] == "coco"
    page = (workdir / "report.html").read_text()
    assert page.count('class="card"') == 6
    stored = np.load(workdir / "detections.npz")
    assert len(stored["names"]) == 10
    assert stored["detection_boxes"].shape == (len(stored["detection_image"]), 4)
    objects = sum(len(e["label"]) for e in map(settings().data.val.open().__getitem__, range(10)))
    assert len(stored["object_label"]) == objects


def test_losses_fall_with_either_loss(one_block_a_stage, tmp_path):
    for loss in (MultiBox(), FocalBox()):
        config = settings(total_steps=16, eval_every=16, checkpoint_every=16)
        config.loss, config.optimizer.learning_rate = loss, 5e-3
        workdir = tmp_path / type(loss).__name__
        train(config, workdir)
        lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        losses = [line["loss"] for line in lines if "loss" in line]
        assert np.isfinite(losses).all()
        assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])


def test_runs_are_compared(finished, tmp_path):
    workdir, result = finished
    shutil.copytree(workdir, tmp_path / "again")
    runs = load_runs([workdir, tmp_path / "again"])
    found = compare([[run] for run in runs], samples=20)
    (difference,) = found["differences"]
    assert difference["difference"] == 0
    assert difference["score"] == pytest.approx(result["ap"])
    assert verdict(difference) in ("includes zero", "too few images")
    assert difference["ap_per_class"].keys() == result["ap_per_class"].keys()
    (tmp_path / "again" / "detections.npz").unlink()
    with pytest.raises(UserError, match=r"holds no detections.npz"):
        load_runs([workdir, tmp_path / "again"])


def test_a_photograph_is_searched_as_it_was_scored(finished):
    workdir, _ = finished
    detector = Detector.load(workdir, least_score=0.0)
    assert detector.class_names == ShapesBoxes().class_names
    photos = [settings().data.val.open()[index]["image"] for index in range(3)]
    for photo, found in zip(photos, detector.batch(photos), strict=True):
        alone = detector(photo)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-2)
        assert (np.diff(found.scores) <= 0).all()
        height, width = photo.shape[:2]
        assert (found.boxes >= 0).all()
        assert (found.boxes <= np.array([height, width, height, width]) + 1e-3).all()
        assert found.overlay().size == (width, height)
    assert "Detection(" in repr(alone)


def test_objects_that_are_all_found_have_an_ap_of_one():
    objects = as_objects([[0, 0, 20, 30], [5, 40, 60, 80]], [0, 1])
    found = Detections(objects.boxes, np.array([0.9, 0.4]), objects.label)
    for metric, score in (("coco", "ap"), ("voc", "ap50")):
        result = detection_scores([found] * 3, [objects] * 3, ["a", "b"], metric, samples=20)
        assert result[score] == 1
        assert result["ci95"] == [1, 1]
        assert result["errors"]["missed"] == 0
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    result = detection_scores([nothing], [objects], ["a", "b"], "coco", samples=20)
    assert (result["ap"], result["operating_point"]) == (0, None)


@pytest.mark.parametrize("metric", ["coco", "voc"])
def test_a_class_whose_objects_lie_in_one_image_has_no_interval(metric):
    both = as_objects([[0, 0, 20, 30], [5, 40, 60, 80], [70, 40, 90, 80]], [0, 1, 1])
    common = as_objects([[0, 0, 20, 30]], [0])
    objects = [both, *[common] * 9]
    found = [Detections(o.boxes, np.full(len(o.label), 0.5), o.label) for o in objects]
    found[3] = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    result = detection_scores(found, objects, ["common", "rare"], metric, samples=50)
    assert result["ap_per_class"]["rare"] == 1
    low, high = result["ap_per_class_ci95"]["common"]
    assert low < high
    assert result["ap_per_class_ci95"]["rare"] is None
    matches = [matches_of(each, objects, metric) for each in (found, [found[0]] * 10)]
    _, known, unknown = ap_difference_intervals(*([m] for m in matches), 2, metric, samples=50)
    assert known is not None
    assert unknown is None


def test_classes_that_a_network_does_not_know_are_left_out():
    data_set = ShapesBoxes(split="val", length=5)
    names = (data_set.class_names[3], "a class of its own", data_set.class_names[0])
    chosen = ChosenClasses(data_set, names)
    assert (chosen.split, chosen.class_names) == ("val", names)
    assert chosen.digest() != data_set.digest()
    for index in range(5):
        whole, part = data_set.open()[index], chosen.open()[index]
        kept = np.isin(whole["label"], [0, 3])
        np.testing.assert_array_equal(part["boxes"], whole["boxes"][kept])
        assert [names[i] for i in part["label"]] == [
            data_set.class_names[i] for i in whole["label"][kept]
        ]
        assert len(objects_of(part).label) == kept.sum()


def test_a_detector_is_scored_whatever_its_task_page_trains(finished):
    workdir, result = finished
    found = evaluate(weights.load_detector(str(workdir)), settings()).result
    assert found["ap"] == pytest.approx(result["ap"])


def test_pictures_are_the_worst_the_best_and_random_ones():
    ap50 = np.array([0.5, np.nan, 0.1, 1.0, 0.3, np.nan])
    groups = choose(ap50, 3)
    assert groups[2][0] == "worst"
    assert groups[3][0] == "best"
    assert len(groups) == 3
    assert len(choose(ap50, 12)) == 6


def test_boxes_are_drawn_where_they_are():
    image = np.zeros((100, 120, 3), np.uint8)
    found = Detections(np.array([[20.0, 30.0, 80.0, 90.0]]), np.array([0.8]), np.array([4]))
    drawn = draw_boxes(image, found, ["x"] * 5, 0.5)
    changed = drawn.any(axis=-1)
    assert changed[79, 30:90].all()
    assert changed[20:80, 89].all()
    assert not changed[50, 40:80].any()
    assert not draw_boxes(image, found, ["x"] * 5, 0.9).any()


def test_settings_that_do_not_fit_are_refused(config):
    detection = settings()
    with pytest.raises(UserError, match=r"data.crop_size=.* must be model.image_size=96"):
        dataclasses.replace(
            detection, data=dataclasses.replace(detection.data, crop_size=128)
        ).check()
    with pytest.raises(UserError, match=r"config.loss=.*MultiBox"):
        dataclasses.replace(detection, loss=config.loss).check()
    with pytest.raises(UserError, match=r"a loss of segmentation"):
        dataclasses.replace(config, loss=MultiBox()).check()
