"""Made objects and detections with crowds, ties, empty images and classes without objects."""

import contextlib
import io
from typing import Any

import numpy as np

from deeplab_mnv2.data.boxes import Objects
from deeplab_mnv2.tasks.detection.matches import Detections

CLASSES = 6
# The last class has detections and no objects, the one before neither.
_WITH_OBJECTS = CLASSES - 2

Image = tuple[Detections, Objects]


def made_images(seed: int, images: int = 30, *, ties: bool = True) -> list[Image]:
    """Return images with detections near objects and elsewhere.

    Boxes are in quarters of pixels, which are exact however they are written. With `ties`, scores
    have one decimal, and boxes and IoUs repeat; else no two scores are equal.
    """
    rng = np.random.default_rng(seed)
    made = [_made_image(rng, ties) for _ in range(images)]
    if not ties:
        count = sum(len(detections.scores) for detections, _ in made)
        scores = iter(rng.permutation(count) / count)
        made = [
            (Detections(d.boxes, np.array([next(scores) for _ in d.scores]), d.label), objects)
            for d, objects in made
        ]
    return made


def as_coco(images: list[Image]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the objects as a COCO file has them, ids from 1, and the detections as results."""
    annotations: list[dict[str, Any]] = []
    results = []
    for image, (detections, objects) in enumerate(images):
        for index, (box, label) in enumerate(zip(objects.boxes, objects.label, strict=True)):
            annotation = _entry(image, box, label) | {"id": len(annotations) + 1}
            annotation |= {"iscrowd": int(objects.ignore[index])}
            annotations.append(annotation | {"area": float(objects.area[index])})
        rows = zip(detections.boxes, detections.label, detections.scores, strict=True)
        for box, label, score in rows:
            results.append(_entry(image, box, label) | {"score": float(score)})
    truth = {
        "images": [{"id": i, "width": 640, "height": 640} for i in range(len(images))],
        "annotations": annotations,
        "categories": [{"id": label, "name": str(label)} for label in range(CLASSES)],
        "info": {},
    }
    return truth, results


def pycocotools_scores(images: list[Image]) -> tuple[np.ndarray, np.ndarray]:
    """Return pycocotools' twelve numbers, and its precision (T, 101, C, areas, 3)."""
    from pycocotools.coco import COCO  # noqa: PLC0415 - tests skip without it
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415

    truth, results = as_coco(images)
    coco = COCO()
    coco.dataset = truth
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats), evaluation.eval["precision"]


def _made_image(rng: np.random.Generator, ties: bool) -> Image:
    count = int(rng.integers(0, 9)) * int(rng.random() < 0.8)
    boxes = _made_boxes(rng, count)
    label = rng.integers(0, _WITH_OBJECTS, count)
    # Crowded scenes: a detection may find several objects of its class, some equally well.
    twins = np.flatnonzero(rng.random(count) < 0.4)
    shifts = 0.25 * rng.integers(-8, 9, (len(twins), 2)) * (rng.random((len(twins), 1)) < 0.7)
    boxes = np.concatenate([boxes, boxes[twins] + np.tile(shifts, 2)])
    label = np.concatenate([label, label[twins]])
    count = len(label)
    share = rng.uniform(0.4, 1, count)
    area = np.round((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * share)
    objects = Objects(boxes, label, rng.random(count) < 0.15, area)
    # Several detections an object, and some elsewhere.
    source = np.repeat(np.arange(count), rng.integers(0, 6, count))
    moved = boxes[source] + np.round(rng.normal(0, 3, (len(source), 4))) * (
        rng.random((len(source), 1)) < 0.8
    )
    # A moved box may have shrunk to nothing.
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 0.25)
    stray = _made_boxes(rng, int(rng.integers(0, 40)) * int(rng.random() < 0.9))
    label = np.where(rng.random(len(source)) < 0.85, label[source], CLASSES - 1)
    classes = rng.choice([0, 1, 2, 3, CLASSES - 1], len(stray))
    every = np.concatenate([moved, stray])
    scores = rng.random(len(every))
    return (
        Detections(
            every, np.round(scores, 1) if ties else scores, np.concatenate([label, classes])
        ),
        objects,
    )


def _made_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = np.round(rng.uniform(0, 300, (count, 2)) * 4) / 4
    size = np.round(np.exp(rng.uniform(np.log(6), np.log(180), (count, 2))) * 4) / 4
    return np.concatenate([corner, corner + size], axis=1)


def _entry(image: int, box: np.ndarray, label: int) -> dict[str, Any]:
    top, left, bottom, right = map(float, box)
    bbox = [left, top, right - left, bottom - top]
    return {"image_id": image, "category_id": int(label), "bbox": bbox}
