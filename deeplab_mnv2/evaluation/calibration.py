"""How far the winning probability tells the share of right pixels."""

from typing import Any

import numpy as np

from deeplab_mnv2.evaluation.ratios import json_number, ratio

# Confidences are counted at LEVELS + 1 levels, k / LEVELS, and summed up in bins of 100 levels:
# the 15 bins of Guo et al. (arXiv:1706.04599).
LEVELS = 1500
BINS = 15


def calibration(confidences: np.ndarray) -> dict[str, Any]:
    """Return pixels, right ones and confidence by bin and the calibration error, ready for JSON.

    `confidences` (LEVELS + 1, 2) counts labelled pixels by their winning probability, rounded
    to k / LEVELS, and by whether they are wrong or right. Bin b of 15 holds those in
    (b / 15, (b + 1) / 15]: `pixels`, `correct`, and `confidence`, their sum of winning
    probabilities. `ece` is the expected calibration error (arXiv:1706.04599, Equation 3).
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
