"""Intervals of mIoU and IoU over images, and of the difference of two systems over runs too."""

import math
from collections.abc import Sequence

import numpy as np

from deeplab_mnv2.evaluation import bootstrap
from deeplab_mnv2.evaluation.bootstrap import Interval, RunScores, intervals, known
from deeplab_mnv2.evaluation.ratios import mean_present
from deeplab_mnv2.tasks.segmentation.metrics import iou_per_class


def score_intervals(confusions: np.ndarray, *, samples: int) -> list[Interval | None]:
    """Return the 95 % intervals of mIoU and of each class's IoU, over images.

    `confusions` (N, C, C) holds one integer matrix an image. None where `bootstrap.intervals`
    has none, and for a class that fewer than two images are labelled with.
    """
    scores = _scores([confusions])
    found = intervals(lambda times: scores(times)[:, 0], len(confusions), samples=samples)
    return known(found, _labelled_images(confusions))


def difference_intervals(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], *, samples: int
) -> list[Interval | None]:
    """Return the intervals of mean score(second) - mean score(first); mIoU, then each class's IoU.

    Each side holds one (N, C, C) a run, image by image in the same order; see
    `bootstrap.difference_intervals`.
    """
    found = bootstrap.difference_intervals(
        _scores([*first, *second]), (len(first), len(second)), len(first[0]), samples=samples
    )
    return known(found, _labelled_images(first[0]))


def _scores(runs: Sequence[np.ndarray]) -> RunScores:
    """Return what scores each run's mIoU and IoU by class, (R, runs, 1 + C)."""
    confusions = np.stack(runs, axis=1)  # (N, runs, C, C)
    flat = confusions.reshape(len(confusions), math.prod(confusions.shape[1:])).astype(np.float64)

    def scores(times: np.ndarray) -> np.ndarray:
        # The product with the images' matrices is the sum over the images drawn.
        iou = iou_per_class((times @ flat).reshape(len(times), *confusions.shape[1:]))
        return np.concatenate([mean_present(iou)[..., None], iou], axis=-1)

    return scores


def _labelled_images(confusions: np.ndarray) -> np.ndarray:
    """Return how many images are labelled with each class, (C,)."""
    return (confusions.sum(axis=-1) > 0).sum(axis=0)
