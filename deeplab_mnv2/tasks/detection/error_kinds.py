"""What is wrong with the detections that one would show, by kind.

A simple relative of TIDE (Bolya et al. 2020, arXiv:2008.08115): kinds are counted, where TIDE
measures what mending each would add to the AP. Everything is at IoU 0.5 by COCO's rule.
"""

import dataclasses

import numpy as np

from deeplab_mnv2.data.boxes import Objects
from deeplab_mnv2.tasks.detection.matches import (
    IOU_THRESHOLDS,
    MOST_DETECTIONS,
    Detections,
    Matches,
    box_iou,
    ranked,
    take,
)

# An IoU below which a box has nothing to do with an object, TIDE's.
_NEAR = 0.1
_FOUND = float(IOU_THRESHOLDS[0])


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """The score above which detections are shown, and their precision and recall there."""

    score: float
    precision: float
    recall: float
    f1: float


@dataclasses.dataclass(frozen=True)
class ErrorKinds:
    """Counts of the detections above a score, and of objects.

    correct: found an object. localisation: of the right class, but at an IoU of 0.1 to 0.5.
    confusion: over an object of another class at 0.5 or more. both: near one of another class
    only, at 0.1 to 0.5. duplicate: over an object that another detection found. background: near
    none. Each detection has the first that fits of correct, duplicate, localisation, confusion,
    both and background. missed: objects that no detection found, and that none of those with
    errors of localisation or confusion was meant for.
    """

    correct: int = 0
    localisation: int = 0
    confusion: int = 0
    both: int = 0
    duplicate: int = 0
    background: int = 0
    missed: int = 0

    def __add__(self, other: "ErrorKinds") -> "ErrorKinds":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return ErrorKinds(*(first + second for first, second in pairs))


def best_point(matches: Matches) -> OperatingPoint | None:
    """Return the point of the highest F1 at IoU 0.5 over all classes together.

    Detections of the same score are shown together. None where there are no objects or no
    detection is true.
    """
    total = int(matches.object_counts[:, 0].sum())
    counts = ~matches.ignored[:, 0, 0]
    score, true = matches.score[counts], matches.true[counts, 0, 0]
    if not total or not true.any():
        return None
    order = np.argsort(-score, kind="stable")
    score, hits = score[order], np.cumsum(true[order])
    shown = np.arange(1, len(score) + 1)
    f1 = 2 * hits / (shown + total)
    # Within equal scores there is no point.
    f1[:-1][score[:-1] == score[1:]] = -1
    best = int(f1.argmax())
    return OperatingPoint(
        score=float(score[best]),
        precision=float(hits[best] / shown[best]),
        recall=float(hits[best] / total),
        f1=float(f1[best]),
    )


def error_kinds(detections: Detections, objects: Objects, score: float) -> ErrorKinds:
    """Return the kinds of errors in one image among detections of `score` or more.

    Those that find a crowd or a difficult object are left out, and so are such objects.
    """
    shown = detections.scores.astype(np.float64) >= score
    kept = Detections(detections.boxes[shown], detections.scores[shown], detections.label[shown])
    order, _ = ranked(kept, MOST_DETECTIONS)
    label = kept.label[order]
    taken = _taken(kept.boxes[order], label, objects)
    real = ~objects.ignore
    iou = box_iou(kept.boxes[order], objects.boxes[real])
    of_class = label[:, None] == objects.label[real]
    same, other = np.where(of_class, iou, 0), np.where(of_class, 0, iou)
    right, wrong = same.max(axis=1, initial=0), other.max(axis=1, initial=0)
    free = taken < 0
    ignored = ~free & np.append(objects.ignore, False)[taken]
    conditions = {
        "ignored": ignored,
        "correct": ~free,
        "duplicate": right >= _FOUND,
        "localisation": right >= _NEAR,
        "confusion": wrong >= _FOUND,
        "both": wrong >= _NEAR,
    }
    kinds = np.select(list(conditions.values()), list(conditions), "background")
    accounted = np.isin(np.flatnonzero(real), taken)
    for kind, overlap in (("localisation", same), ("confusion", other)):
        if (chosen := kinds == kind).any():
            accounted[overlap[chosen].argmax(axis=1)] = True
    names = [field.name for field in dataclasses.fields(ErrorKinds) if field.name != "missed"]
    counts = {name: int((kinds == name).sum()) for name in names}
    return ErrorKinds(**counts, missed=int((~accounted).sum()))


def _taken(boxes: np.ndarray, label: np.ndarray, objects: Objects) -> np.ndarray:
    """Return which object each detection (D,) takes at IoU 0.5, else -1."""
    taken = np.full(len(label), -1)
    for one in np.intersect1d(label, objects.label):
        mine, theirs = np.flatnonzero(label == one), np.flatnonzero(objects.label == one)
        crowd = objects.ignore[theirs]
        iou = box_iou(boxes[mine], objects.boxes[theirs], crowd)
        found = take(iou, crowd, ~crowd[None], np.array([_FOUND]))[:, 0, 0]
        taken[mine] = np.where(found >= 0, theirs[found], -1)
    return taken
