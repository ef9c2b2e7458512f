"""Scores from integer confusion matrices, in numpy on the host."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplab_mnv2.evaluation.ratios import json_number, mean_present, ratio


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Return intersection over union (..., C) of (..., C, C), rows label, columns prediction.

    NaN for a class that is in neither label nor prediction.
    """
    confusion = np.asarray(confusion, np.float64)
    intersection = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(-1) + confusion.sum(-2) - intersection
    return ratio(intersection, union)


def miou(confusion: np.ndarray) -> np.ndarray:
    """Return the mean IoU (...) of (..., C, C) over classes present in label or prediction.

    NaN where nothing was labelled.
    """
    return mean_present(iou_per_class(confusion))


def scores(confusion: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the scores of a confusion matrix (C, C), as fractions, ready for JSON.

    `miou`, `iou` by class name (None where absent), `absent` names, `pixel_accuracy`,
    `mean_accuracy` over classes present in the label, and `frequency_weighted_iou`. By class name
    also `precision`, of the pixels predicted so, `recall`, of those labelled so, and their harmonic
    mean `dice`, the F1 score.
    """
    counts = np.asarray(confusion, np.float64)
    iou = iou_per_class(counts)
    correct, labelled = np.diagonal(counts), counts.sum(axis=1)
    total = labelled.sum()
    predicted = counts.sum(axis=0)
    accuracy = ratio(correct, labelled)

    def by_class(values: np.ndarray) -> dict[str, float | None]:
        return {name: json_number(v) for name, v in zip(class_names, values, strict=True)}

    return {
        "miou": json_number(miou(counts)),
        "iou": by_class(iou),
        "precision": by_class(ratio(correct, predicted)),
        "recall": by_class(accuracy),
        "dice": by_class(ratio(2 * correct, predicted + labelled)),
        "absent": [n for n, value in zip(class_names, iou, strict=True) if np.isnan(value)],
        "pixel_accuracy": json_number(ratio(correct.sum(), total)),
        "mean_accuracy": json_number(mean_present(accuracy)),
        "frequency_weighted_iou": json_number(ratio(np.nansum(labelled * iou), total)),
    }
