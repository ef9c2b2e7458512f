"""Calibration: of the predictions made with probability p, is a share p right?"""

from typing import Any

import numpy as np

from deeplab_mnv2.evaluation.ratios import json_number, ratio

# Predictions are counted at LEVELS + 1 levels of confidence, k / LEVELS, and the levels are summed
# into the 15 bins of Guo et al. (arXiv:1706.04599), 100 levels each.
LEVELS = 1500
BINS = 15


def calibration(confidences: np.ndarray, counted_as: str = "pixels") -> dict[str, Any]:
    """Return the counts of each bin and the calibration error, ready for JSON.

    `confidences` (LEVELS + 1, 2) counts predictions, of labelled pixels or of images, by their
    winning probability, rounded to k / LEVELS, and by whether they are wrong or right. For bin b of
    15, those with a probability in (b / 15, (b + 1) / 15], the result has their number `pixels` (or
    what they are `counted_as`), the number `correct`, and `confidence`, the sum of their winning
    probabilities. `ece` is the expected calibration error (arXiv:1706.04599, Equation 3).
    """
    level = np.arange(LEVELS + 1)
    bins = np.maximum(-(-level * BINS // LEVELS) - 1, 0)
    number = np.zeros(BINS, np.int64)
    correct, confidence = number.copy(), number.copy()
    counted = confidences.sum(axis=1)
    np.add.at(number, bins, counted)
    np.add.at(correct, bins, confidences[:, 1])
    np.add.at(confidence, bins, counted * level)  # in units of 1 / LEVELS, so exact
    gap = np.abs(correct * LEVELS - confidence).sum()
    return {
        "ece": json_number(ratio(gap, number.sum() * LEVELS)),
        counted_as: number.tolist(),
        "correct": correct.tolist(),
        "confidence": (confidence / LEVELS).tolist(),
    }
