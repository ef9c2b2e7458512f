"""Calibration: of the pixels predicted with probability p, is a share p right?"""

from typing import Any

import numpy as np

from deeplab_mnv2.evaluation.ratios import json_number, ratio

# Pixels are counted at LEVELS + 1 levels of confidence, k / LEVELS, and the levels are summed into
# the 15 bins of Guo et al. (arXiv:1706.04599), 100 levels each.
LEVELS = 1500
BINS = 15


def calibration(confidences: np.ndarray) -> dict[str, Any]:
    """Return the counts of each bin and the calibration error, ready for JSON.

    `confidences` (LEVELS + 1, 2) counts labelled pixels by their winning probability, rounded
    to k / LEVELS, and by whether they are wrong or right. For bin b of 15, the pixels with a
    probability in (b / 15, (b + 1) / 15], the result has their number `pixels`, the number
    `correct`, and `confidence`, the sum of their winning probabilities. `ece` is the expected
    calibration error (arXiv:1706.04599, Equation 3).
    """
    level = np.arange(LEVELS + 1)
    bins = np.maximum(-(-level * BINS // LEVELS) - 1, 0)
    pixels = np.zeros(BINS, np.int64)
    correct, confidence = pixels.copy(), pixels.copy()
    counted = confidences.sum(axis=1)
    np.add.at(pixels, bins, counted)
    np.add.at(correct, bins, confidences[:, 1])
    np.add.at(confidence, bins, counted * level)  # in units of 1 / LEVELS, so exact
    gap = np.abs(correct * LEVELS - confidence).sum()
    return {
        "ece": json_number(ratio(gap, pixels.sum() * LEVELS)),
        "pixels": pixels.tolist(),
        "correct": correct.tolist(),
        "confidence": (confidence / LEVELS).tolist(),
    }
