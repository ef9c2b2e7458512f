"""PASCAL VOC's average precision at IoU 0.5, of 2007 and of 2010 onwards (the devkit's `VOCap.m`).

Of what `matches.match_voc` found. Detections of equal score count in the order of images.
"""

import numpy as np

from deeplab_mnv2.evaluation.ratios import ratio
from deeplab_mnv2.tasks.detection.average_precision import (
    by_class,
    hits_among_counted,
    monotone,
    object_totals,
)
from deeplab_mnv2.tasks.detection.matches import Matches

# Exact tenths: steps of 0.1 that are added up pass 0.3, and a recall of 3 in 10 misses them.
_ELEVEN = np.arange(11) / 10


def voc_precisions(
    matches: Matches, num_classes: int, *, times: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the AP of each class as of 2007, and as of 2010 onwards, (R, C) both.

    The first is the mean over eleven recalls of the highest precision at that recall or more, the
    second the area under that curve. `times` (R, N) is how often each image counts, by default
    once, R = 1. NaN for a class without objects, difficult ones aside.
    """
    times = np.ones((1, matches.images)) if times is None else np.asarray(times, np.float64)
    totals = object_totals(matches, num_classes, 0, times)
    eleven, area = np.full((2, len(times), num_classes), np.nan)
    for label, rows in by_class(matches, num_classes):
        weights = times[:, matches.image[rows]]
        shown = np.cumsum(weights, axis=1)
        hits, counted = hits_among_counted(matches, rows, weights, shown, 0, 0)
        # Precision is constant from one true detection to the next, so the area is a sum.
        curve = np.pad(monotone(ratio(hits, counted)), ((0, 0), (0, 1)))
        recall = ratio(hits, totals[:, label, None])
        for resample in np.flatnonzero(totals[:, label]):
            places = np.searchsorted(recall[resample], _ELEVEN, side="left")
            eleven[resample, label] = curve[resample, places].mean()
            gained = np.diff(recall[resample], prepend=0.0)
            area[resample, label] = gained @ curve[resample, :-1]
    return eleven, area
