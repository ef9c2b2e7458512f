"""Scores from integer confusion matrices, in numpy on the host."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Return intersection over union (..., C) of (..., C, C), rows label, columns prediction.

    NaN for a class that is in neither label nor prediction.
    """
    confusion = np.asarray(confusion, np.float64)
    intersection = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(-1) + confusion.sum(-2) - intersection
    return _ratio(intersection, union)


def miou(confusion: np.ndarray) -> np.ndarray | float:
    """Return the mean IoU (...) of (..., C, C) over classes present in label or prediction.

    NaN where nothing was labelled.
    """
    iou = iou_per_class(confusion)
    present = ~np.isnan(iou)
    total = np.where(present, iou, 0).sum(-1)
    return _ratio(total, present.sum(-1))


def scores(confusion: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the scores of a confusion matrix (C, C), as fractions, ready for JSON.

    `miou`, `iou` by class name (None where absent), `absent` names, `pixel_accuracy`,
    `mean_accuracy` over classes present in the label, and `frequency_weighted_iou`.
    """
    counts = np.asarray(confusion, np.float64)
    iou = iou_per_class(counts)
    correct, labelled = np.diagonal(counts), counts.sum(axis=1)
    total = labelled.sum()
    accuracy = _ratio(correct, labelled)
    return {
        "miou": _number(miou(counts)),
        "iou": {name: _number(value) for name, value in zip(class_names, iou, strict=True)},
        "absent": [n for n, value in zip(class_names, iou, strict=True) if np.isnan(value)],
        "pixel_accuracy": _number(_ratio(correct.sum(), total)),
        "mean_accuracy": _number(_ratio(np.nansum(accuracy), np.sum(labelled > 0))),
        "frequency_weighted_iou": _number(_ratio(np.nansum(labelled * iou), total)),
    }


def _ratio(numerator: Any, denominator: Any) -> np.ndarray:
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    )
    out = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def _number(value: Any) -> float | None:
    """Return a float, or None for NaN, which JSON does not have."""
    return None if np.isnan(value) else float(value)
