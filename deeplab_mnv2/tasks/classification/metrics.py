"""Top-1 and top-5, overall and by class, with intervals, and the classes mistaken most often."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplab_mnv2.evaluation import bootstrap
from deeplab_mnv2.evaluation.bootstrap import Interval, intervals, known
from deeplab_mnv2.evaluation.calibration import LEVELS, calibration
from deeplab_mnv2.evaluation.ratios import json_number, mean_present, ratio

# Pairs of label and prediction in `eval.json`.
_PAIRS = 20


def scores(
    labels: np.ndarray,
    predictions: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    *,
    samples: int,
) -> dict[str, Any]:
    """Return the scores of N images, ready for JSON.

    `labels` (N,), `predictions` (N, 5) the likeliest classes first and their `probabilities`. The
    result has `top1` and `top5` with `ci95` and `top5_ci95`, the bootstrap's over images,
    `mean_class_accuracy`, by class `accuracy`, its `accuracy_ci95` and `images_per_class`,
    `mistaken`, the pairs of classes most often taken for each other, and `calibration`.
    """
    right = predictions == labels[:, None]
    hits = np.stack([right[:, 0], right.any(axis=1)], axis=1).astype(np.float64)
    top1, top5 = hits.mean(axis=0)
    ci_top1, ci_top5 = intervals(
        lambda times: times @ hits / times.sum(axis=1, keepdims=True), len(labels), samples=samples
    )
    images = np.bincount(labels, minlength=len(class_names))
    accuracy = ratio(np.bincount(labels, hits[:, 0], len(class_names)), images)
    _, *of_classes = accuracy_intervals(labels, [right[:, 0]], len(class_names), samples=samples)
    return {
        "top1": float(top1),
        "ci95": ci_top1 and list(ci_top1),
        "top5": float(top5),
        "top5_ci95": ci_top5 and list(ci_top5),
        "mean_class_accuracy": json_number(mean_present(accuracy)),
        "accuracy": {
            name: json_number(value) for name, value in zip(class_names, accuracy, strict=True)
        },
        "accuracy_ci95": {
            name: interval and list(interval)
            for name, interval in zip(class_names, of_classes, strict=True)
        },
        "images_per_class": dict(zip(class_names, images.tolist(), strict=True)),
        "mistaken": _mistaken(labels, predictions[:, 0], class_names),
        "calibration": calibration(_confidences(right[:, 0], probabilities[:, 0]), "images"),
    }


def accuracy_intervals(
    labels: np.ndarray, right: Sequence[np.ndarray], classes: int, *, samples: int
) -> list[Interval | None]:
    """Return the intervals of one run's top-1 and of each class's accuracy, over images.

    None for a class of fewer than two images.
    """
    score = _run_scores(labels, right, classes)
    found = intervals(lambda times: score(times)[:, 0], len(labels), samples=samples)
    return known(found, np.bincount(labels, minlength=classes))


def difference_intervals(
    labels: np.ndarray,
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    classes: int,
    *,
    samples: int,
) -> list[Interval | None]:
    """Return the intervals of the difference in top-1 and in each class's accuracy.

    Each side holds for every run (N,) bool, which images it has right; see
    `bootstrap.difference_intervals`.
    """
    found = bootstrap.difference_intervals(
        _run_scores(labels, [*first, *second], classes),
        (len(first), len(second)),
        len(labels),
        samples=samples,
    )
    return known(found, np.bincount(labels, minlength=classes))


def _run_scores(
    labels: np.ndarray, right: Sequence[np.ndarray], classes: int
) -> bootstrap.RunScores:
    """Return what scores each run's top-1 and accuracy by class, (R, runs, 1 + classes)."""
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    hits = np.stack(right)[:, order].astype(np.float64)  # (runs, N)

    def by_class(values: np.ndarray) -> np.ndarray:
        sums = np.zeros((*values.shape[:-1], classes))
        sums[..., present] = np.add.reduceat(values, starts, axis=-1)
        return sums

    def score(times: np.ndarray) -> np.ndarray:
        times = times[:, order]
        images = by_class(times)[:, None]  # (R, 1, classes)
        found = by_class(times[:, None] * hits)  # (R, runs, classes)
        top1 = found.sum(axis=-1) / images.sum(axis=-1)
        return np.concatenate([top1[..., None], ratio(found, images)], axis=-1)

    return score


def _mistaken(
    labels: np.ndarray, predictions: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the most frequent pairs of a label and another class that was predicted."""
    wrong = labels != predictions
    pairs, counts = np.unique(
        np.stack([labels[wrong], predictions[wrong]], axis=1), axis=0, return_counts=True
    )
    images = np.bincount(labels, minlength=len(class_names))
    order = np.argsort(-counts, kind="stable")[:_PAIRS]
    return [
        {
            "label": class_names[pairs[index, 0]],
            "prediction": class_names[pairs[index, 1]],
            "images": int(counts[index]),
            "share": float(counts[index] / images[pairs[index, 0]]),
        }
        for index in order
    ]


def _confidences(right: np.ndarray, probability: np.ndarray) -> np.ndarray:
    counts = np.zeros((LEVELS + 1, 2), np.int64)
    np.add.at(counts, (np.round(probability * LEVELS).astype(int), right.astype(int)), 1)
    return counts
