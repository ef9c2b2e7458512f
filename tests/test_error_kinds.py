"""Kinds of errors of detections, worked out by hand."""

import dataclasses

import numpy as np
import pytest

from deeplab_mnv2.data.boxes import Objects
from deeplab_mnv2.tasks.detection.error_kinds import ErrorKinds, best_point, error_kinds
from deeplab_mnv2.tasks.detection.matches import Detections, join, match_coco
from tests.support.made_detections import made_images


def scene(*rows: tuple[tuple[float, ...], int, bool]) -> Objects:
    boxes, label, ignore = (np.array(column) for column in zip(*rows, strict=True))
    boxes = boxes.astype(float)
    return Objects(boxes, label, ignore, (boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def shown(*rows: tuple[tuple[float, ...], int, float]) -> Detections:
    boxes, label, scores = (np.array(column) for column in zip(*rows, strict=True))
    return Detections(boxes.astype(float), scores, label)


def test_each_kind():
    objects = scene(
        ((0, 0, 10, 10), 0, False),
        ((100, 0, 110, 10), 0, False),
        ((200, 0, 210, 10), 1, False),
        ((300, 0, 310, 10), 1, False),
        ((400, 0, 440, 40), 2, True),
        ((500, 0, 510, 10), 2, False),
    )
    detections = shown(
        ((0, 0, 10, 10), 0, 0.9),  # correct
        ((0, 0, 10, 9), 0, 0.8),  # duplicate
        ((100, 0, 110, 30), 0, 0.8),  # localisation: IoU 1/3
        ((200, 0, 210, 10), 0, 0.8),  # confusion
        ((300, 0, 310, 30), 0, 0.8),  # both
        ((400, 0, 410, 10), 2, 0.8),  # in a crowd: no error
        ((600, 0, 610, 10), 2, 0.8),  # background
        ((500, 0, 510, 10), 2, 0.1),  # not shown, so its object is missed
    )
    kinds = error_kinds(detections, objects, 0.5)
    expected = ErrorKinds(
        correct=1, duplicate=1, localisation=1, confusion=1, both=1, background=1, missed=2
    )
    assert kinds == expected
    # In any order of the detections.
    order = np.random.default_rng(0).permutation(8)
    mixed = Detections(detections.boxes[order], detections.scores[order], detections.label[order])
    assert error_kinds(mixed, objects, 0.5) == expected
    assert dataclasses.astuple(expected + expected) == tuple(
        2 * n for n in dataclasses.astuple(expected)
    )


def test_nothing_there():
    none = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    empty = Objects(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool), np.zeros(0))
    assert error_kinds(none, empty, 0.5) == ErrorKinds()
    one = scene(((0, 0, 10, 10), 0, False))
    assert error_kinds(none, one, 0.5) == ErrorKinds(missed=1)
    stray = shown(((0, 0, 10, 10), 0, 0.9))
    assert error_kinds(stray, empty, 0.5) == ErrorKinds(background=1)
    assert best_point(match_coco(stray, empty)) is None
    assert best_point(match_coco(none, one)) is None


def test_counts_agree_with_the_matches():
    images = made_images(6)
    matches = join([match_coco(*image) for image in images])
    point = best_point(matches)
    assert point is not None
    chosen = matches.score >= point.score
    total = sum((error_kinds(*image, point.score) for image in images), ErrorKinds())
    false = ~matches.true[chosen, 0, 0] & ~matches.ignored[chosen, 0, 0]
    assert total.correct == matches.true[chosen, 0, 0].sum()
    counts = dataclasses.asdict(total)
    wrong = sum(n for kind, n in counts.items() if kind not in ("correct", "missed"))
    assert wrong == false.sum()
    objects = matches.object_counts[:, 0].sum()
    assert 0 < total.missed <= objects - total.correct
    assert point.precision == pytest.approx(total.correct / (total.correct + wrong))
    assert point.recall == pytest.approx(total.correct / objects)


def test_no_other_score_has_a_higher_f1():
    matches = join([match_coco(*image) for image in made_images(8)])
    point = best_point(matches)
    assert point is not None
    found = []
    for score in np.unique(matches.score):
        chosen = (matches.score >= score) & ~matches.ignored[:, 0, 0]
        true = matches.true[chosen, 0, 0].sum()
        found.append(2 * true / (chosen.sum() + matches.object_counts[:, 0].sum()))
    assert point.f1 == pytest.approx(max(found))
    assert np.unique(matches.score)[int(np.argmax(found))] == point.score
