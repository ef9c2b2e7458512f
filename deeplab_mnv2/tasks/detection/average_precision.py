"""COCO's average precision and recall, accumulated over any choice of images, in numpy.

The numbers are those of pycocotools' `COCOeval`: precision at 101 recalls, made monotone from the
right, its mean over recalls, thresholds of IoU and the classes that have objects.

Detections of equal score count in the order of images, and within an image in the order in which
they were given; pycocotools has its images in the order of their ids. Where no two detections of
a class share a score, the numbers depend on no order at all, and counting an image n times equals
n copies of it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from deeplab_mnv2.evaluation.ratios import json_number, mean_present, ratio
from deeplab_mnv2.tasks.detection.matches import AREA_RANGES, MOST_DETECTIONS, Matches

RECALLS = np.linspace(0, 1, 101)
_AREAS = tuple(AREA_RANGES)


def coco_scores(matches: Matches, class_names: Sequence[str]) -> dict[str, Any]:
    """Return COCO's twelve numbers and what is behind them, as fractions, ready for JSON.

    `ap`, `ap50`, `ap75`, `ap_small`, `ap_medium`, `ap_large`; `ar1`, `ar10`, `ar100`, of at most
    so many detections an image and class, `ar_small`, `ar_medium`, `ar_large`; and by class name
    `ap_per_class` and `ap50_per_class`. None where there are no objects, which pycocotools shows
    as -1.
    """
    count = len(class_names)
    precision = precisions(matches, count)[0].mean(axis=-1)  # (C, T)
    found = {"ap": precision, "ap50": precision[:, 0], "ap75": precision[:, 5]}
    by_class = {"ap_per_class": precision.mean(axis=-1), "ap50_per_class": precision[:, 0]}
    for area in _AREAS[1:]:
        found[f"ap_{area}"] = precisions(matches, count, area=area)[0].mean(axis=-1)
    for most in (1, 10, MOST_DETECTIONS):
        found[f"ar{most}"] = recalls(matches, count, most=most)[0]
    for area in _AREAS[1:]:
        found[f"ar_{area}"] = recalls(matches, count, area=area)[0]
    scores = {name: json_number(mean_present(values.ravel())) for name, values in found.items()}
    named = {
        name: {of: json_number(value) for of, value in zip(class_names, values, strict=True)}
        for name, values in by_class.items()
    }
    return scores | named


def ap_samples(matches: Matches, num_classes: int, times: np.ndarray) -> np.ndarray:
    """Return AP, AP50, AP75 and the AP of each class, (R, 3 + C), for `evaluation.bootstrap`.

    `times` (R, N) is how often each image is drawn. NaN where no object is drawn.
    """
    by_threshold = precisions(matches, num_classes, times=times).mean(axis=-1)  # (R, C, T)
    overall = [by_threshold.mean(axis=-1), by_threshold[..., 0], by_threshold[..., 5]]
    means = [mean_present(values) for values in overall]
    return np.concatenate([np.stack(means, axis=-1), overall[0]], axis=-1)


def precisions(
    matches: Matches, num_classes: int, *, area: str = "all", times: np.ndarray | None = None
) -> np.ndarray:
    """Return the monotone precision at `RECALLS`, (R, C, T, 101), of objects in a range of area.

    `times` (R, N) is how often each image counts, by default once, R = 1. NaN for a class of
    which no object counts, 0 at recalls that are not reached. [0, c, 0] is the curve of class c
    at IoU 0.5.
    """
    place, times = _AREAS.index(area), _times(matches, times)
    out = np.full((len(times), num_classes, matches.true.shape[-1], len(RECALLS)), np.nan)
    totals = object_totals(matches, num_classes, place, times)
    for label, rows in by_class(matches, num_classes):
        weights = times[:, matches.image[rows]]
        shown = np.cumsum(weights, axis=1)
        for index in range(out.shape[2]):
            hits, counted = hits_among_counted(matches, rows, weights, shown, place, index)
            curve = monotone(ratio(hits, counted))
            recall = ratio(hits, totals[:, label, None])
            for resample in np.flatnonzero(totals[:, label]):
                out[resample, label, index] = _at_recalls(recall[resample], curve[resample])
    return out


def recalls(
    matches: Matches,
    num_classes: int,
    *,
    area: str = "all",
    most: int = MOST_DETECTIONS,
    times: np.ndarray | None = None,
) -> np.ndarray:
    """Return the share of objects that the first `most` detections of each image find, (R, C, T).

    NaN for a class of which no object counts.
    """
    place, times = _AREAS.index(area), _times(matches, times)
    true = matches.true[:, place] & (matches.rank < most)[:, None]
    found = np.zeros((len(times), num_classes, true.shape[-1]))
    for label, rows in by_class(matches, num_classes):
        found[:, label] = times[:, matches.image[rows]] @ true[rows]
    return ratio(found, object_totals(matches, num_classes, place, times)[..., None])


def by_class(matches: Matches, num_classes: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each class and its detections by falling score, equal ones in their order."""
    # Stable both times, as pycocotools' merge sort is.
    order = np.lexsort((-matches.score, matches.label))
    ends = np.searchsorted(matches.label[order], np.arange(num_classes + 1))
    for label in range(num_classes):
        yield label, order[ends[label] : ends[label + 1]]


def hits_among_counted(
    matches: Matches,
    rows: np.ndarray,
    weights: np.ndarray,
    shown: np.ndarray,
    area: int,
    threshold: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return, at each true detection, how many were true and how many counted so far, (R, J) both.

    `rows` are the detections of a class by falling score, `weights` (R, D) how often each counts,
    and `shown` the sums of these so far. The points between true detections add nothing to a
    precision made monotone.
    """
    true = np.flatnonzero(matches.true[rows, area, threshold])
    ignored = np.flatnonzero(matches.ignored[rows, area, threshold])
    # Few are ignored in most cases, and sums of whole numbers are exact.
    passed = np.pad(np.cumsum(weights[:, ignored], axis=1), ((0, 0), (1, 0)))
    counted = shown[:, true] - passed[:, np.searchsorted(ignored, true)]
    return np.cumsum(weights[:, true], axis=1), counted


def object_totals(matches: Matches, num_classes: int, area: int, times: np.ndarray) -> np.ndarray:
    """Return how many objects of each class count, (R, C)."""
    chosen = matches.object_counts[:, area]
    cell = matches.object_label[chosen] * np.int64(matches.images) + matches.object_image[chosen]
    by_image = np.bincount(cell, minlength=num_classes * matches.images)
    return times @ by_image.reshape(num_classes, matches.images).T.astype(np.float64)


def monotone(precision: np.ndarray) -> np.ndarray:
    """Return the highest precision (R, J) at this place or a later one; 0 for NaN."""
    precision = np.nan_to_num(precision, nan=0.0)
    return np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]


def _at_recalls(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    places = np.searchsorted(recall, RECALLS, side="left")
    return np.append(precision, 0.0)[places]


def _times(matches: Matches, times: np.ndarray | None) -> np.ndarray:
    return np.ones((1, matches.images)) if times is None else np.asarray(times, np.float64)
