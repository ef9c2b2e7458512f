"""Which detections find which objects, image by image, after COCO's rule or PASCAL VOC's.

Matching is the slow part and knows no other images, so it is done once an image. What is kept of
it is enough to score any choice of images, as `average_precision` and `voc_precision` do.

Boxes here are (ymin, xmin, ymax, xmax) in pixels of the original image, as edges and not as pixel
numbers: a box of VOC's from pixel 1 to pixel 10 reaches from 0 to 10. All is in float64.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from deeplab_mnv2.data.boxes import Objects

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# Square pixels; both ends belong to a range, and so to two (pycocotools `Params.setDetParams`).
AREA_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
# Detections of a class in an image that count, those of the highest scores.
MOST_DETECTIONS = 100
VOC_IOU = 0.5


@dataclasses.dataclass(frozen=True)
class Detections:
    """What was found in an image: `boxes` (D, 4) in pixels, `scores` (D,), classes `label` (D,)."""

    boxes: np.ndarray
    scores: np.ndarray
    label: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.scores)
        shapes = [array.shape for array in (self.boxes, self.scores, self.label)]
        if shapes != [(count, 4), (count,), (count,)]:
            raise ValueError(f"Boxes (D, 4), scores and classes (D,) have the shapes {shapes}.")


@dataclasses.dataclass(frozen=True)
class Matches:
    """The outcome of matching the detections of `images` images.

    A detection has its `image` and `label`, its `score`, its `rank` by score among those of its
    class in its image from 0, and for each of A ranges of area and T thresholds of IoU whether it
    is `true` (D, A, T) or is `ignored` (D, A, T), else it is false. An object has its image and
    class, and in which ranges it counts, `object_counts` (G, A). Detections are in the order of
    images, in an image in that of classes, and of a class in that of ranks.
    """

    images: int
    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    true: np.ndarray
    ignored: np.ndarray
    object_image: np.ndarray
    object_label: np.ndarray
    object_counts: np.ndarray


def match_coco(detections: Detections, objects: Objects) -> Matches:
    """Return the outcome for one image by COCO's rule (pycocotools `COCOeval.evaluateImg`).

    In the order of their scores, equal ones as they come, detections take the object of their
    class of the highest IoU, at least the threshold, that is not yet taken; of equal IoUs, the
    object that comes last. Objects that are ignored, or outside the range of area, are taken only
    where no other is left, and make the detection ignored. So does an area of its own outside the
    range where nothing is taken. The IoU with a crowd is the share of the detection that lies in
    it, and a crowd is never used up.
    """
    order, rank = ranked(detections, MOST_DETECTIONS)
    boxes, label = detections.boxes[order].astype(np.float64), detections.label[order]
    low, high = np.array(list(AREA_RANGES.values())).T
    outside = _outside(_areas(boxes), low, high)  # (D, A)
    shape = (len(order), len(low), len(IOU_THRESHOLDS))
    true = np.zeros(shape, bool)
    ignored = np.repeat(outside[..., None], shape[-1], axis=-1)
    unwanted = objects.ignore[:, None] | _outside(objects.area.astype(np.float64), low, high)
    for one in np.intersect1d(label, objects.label):
        mine, theirs = np.flatnonzero(label == one), np.flatnonzero(objects.label == one)
        crowd = objects.ignore[theirs]
        iou = box_iou(boxes[mine], objects.boxes[theirs], crowd)
        # Most detections are near no object at all.
        near = np.flatnonzero((iou >= IOU_THRESHOLDS[0]).any(axis=1))
        rows = mine[near]
        wanted = ~unwanted[theirs].T  # (A, G)
        taken = take(iou[near], crowd, wanted, IOU_THRESHOLDS)
        found, real = taken >= 0, wanted[np.arange(len(wanted))[:, None], taken]
        true[rows] = found & real
        ignored[rows] = np.where(found, ~real, ignored[rows])
    return _of_image(detections, order, rank, true, ignored, objects, ~unwanted)


def match_voc(detections: Detections, objects: Objects) -> Matches:
    """Return the outcome for one image by VOC's rule (the devkit's `VOCevaldet.m`); A = T = 1.

    In the order of their scores, equal ones as they come, detections are compared with the object
    of their class of the highest IoU, of equal ones the first. Where that is at least 0.5, as the
    devkit has it (the challenge's text says "exceed"), they find it; where they are not the first
    to do so, they are false: another object nearby is not tried. Those that find a difficult
    object are ignored.
    """
    order, rank = ranked(detections, None)
    boxes, label = detections.boxes[order].astype(np.float64), detections.label[order]
    true, ignored = np.zeros((2, len(order), 1, 1), bool)
    for one in np.intersect1d(label, objects.label):
        mine, theirs = np.flatnonzero(label == one), np.flatnonzero(objects.label == one)
        iou = box_iou(boxes[mine], objects.boxes[theirs])
        best = theirs[iou.argmax(axis=1)]
        finds = iou.max(axis=1) >= VOC_IOU
        difficult = objects.ignore[best]
        ignored[mine[finds & difficult]] = True
        wanted = np.flatnonzero(finds & ~difficult)
        # The first of each object's is the one of the highest score.
        first = np.unique(best[wanted], return_index=True)[1]
        true[mine[wanted[first]]] = True
    return _of_image(detections, order, rank, true, ignored, objects, ~objects.ignore[:, None])


def join(parts: Sequence[Matches]) -> Matches:
    """Return the outcome for all images of some parts, one or more, in that order."""
    counts = [part.images for part in parts]
    firsts = np.cumsum([0, *counts[:-1]])
    joined = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in dataclasses.fields(Matches)
        if field.name not in ("images", "image", "object_image")
    }
    for name in ("image", "object_image"):
        shifted = [getattr(part, name) + first for part, first in zip(parts, firsts, strict=True)]
        joined[name] = np.concatenate(shifted)
    return Matches(images=sum(counts), **joined)


def box_iou(first: np.ndarray, second: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """Return the intersection over union (A, B) float64 of boxes (A, 4) and (B, 4).

    Where `crowd` (B,) is true, it is over the area of the first box instead.
    """
    first, second = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    size = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    intersection = np.clip(size, 0, None).prod(axis=-1)
    area = _areas(first)
    union = area + _areas(second) - intersection
    if crowd is not None:
        union = np.where(crowd, area, union)
    out = np.zeros(intersection.shape)
    return np.divide(intersection, union, out=out, where=intersection > 0)


def ranked(detections: Detections, most: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the detections by class and falling score, and each one's rank in its class.

    Beyond the first `most` of each class, they are left out.
    """
    # Stable, so that equal scores stay in order.
    order = np.lexsort((-detections.scores.astype(np.float64), detections.label))
    label = detections.label[order]
    first = np.searchsorted(label, label, side="left")
    rank = np.arange(len(order)) - first
    kept = slice(None) if most is None else rank < most
    return order[kept], rank[kept]


def take(
    iou: np.ndarray, crowd: np.ndarray, wanted: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    """Let detections take objects of their class in turn; return which, (D, A, T), else -1.

    `iou` (D, G) is that of `box_iou`, `crowd` (G,) what is never used up, and `wanted` (A, G) the
    objects that are not ignored, in each range of area. `match_coco` has the rule.
    """
    detections, objects = iou.shape
    shape = (len(wanted), len(thresholds))
    used = np.zeros((*shape, objects), bool)
    taken = np.full((detections, *shape), -1)
    # Places in the order of IoU, of equal ones the last highest; sums of IoUs would be rounded.
    places = np.argsort(np.argsort(iou, axis=1, kind="stable"), axis=1, kind="stable")
    row, column = np.ogrid[: shape[0], : shape[1]]
    for index in range(detections):
        free = (iou[index] >= thresholds[:, None]) & ~used
        preference = np.where(free, places[index] + objects * wanted[:, None], -1)
        best = preference.argmax(axis=-1)
        found = preference[row, column, best] >= 0
        taken[index] = np.where(found, best, -1)
        used[row, column, best] |= found & ~crowd[best]
    return taken


def _of_image(
    detections: Detections,
    order: np.ndarray,
    rank: np.ndarray,
    true: np.ndarray,
    ignored: np.ndarray,
    objects: Objects,
    object_counts: np.ndarray,
) -> Matches:
    return Matches(
        images=1,
        image=np.zeros(len(order), np.int32),
        label=detections.label[order].astype(np.int32),
        score=detections.scores[order].astype(np.float64),
        rank=rank.astype(np.int32),
        true=true,
        ignored=ignored,
        object_image=np.zeros(len(objects.label), np.int32),
        object_label=objects.label.astype(np.int32),
        object_counts=object_counts,
    )


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _outside(area: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return (area[:, None] < low) | (area[:, None] > high)
