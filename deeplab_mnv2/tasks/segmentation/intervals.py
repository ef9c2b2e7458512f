"""Intervals of mIoU and IoU over images, of one evaluation or of the difference of two."""

import math

import numpy as np

from deeplab_mnv2.evaluation.bootstrap import Interval, intervals
from deeplab_mnv2.evaluation.ratios import mean_present
from deeplab_mnv2.tasks.segmentation.metrics import iou_per_class


def score_intervals(confusions: np.ndarray, *, samples: int) -> list[Interval | None]:
    """Return the 95 % intervals of mIoU and of each class's IoU, over images.

    `confusions` (N, C, C) holds one integer matrix an image. None where `bootstrap.intervals`
    has none, and for a class that fewer than two images are labelled with.
    """
    return _known(_intervals(confusions[:, None], samples), confusions)


def difference_intervals(
    first: np.ndarray, second: np.ndarray, *, samples: int
) -> list[Interval | None]:
    """Return the intervals of score(second) - score(first) over the same drawn images.

    Both (N, C, C), image by image in the same order; mIoU first, then each class's IoU.
    """
    return _known(_intervals(np.stack([first, second], axis=1), samples), first)


def _intervals(confusions: np.ndarray, samples: int) -> list[Interval | None]:
    """Return the intervals of one system (N, 1, C, C), or of a difference (N, 2, C, C)."""
    flat = confusions.reshape(len(confusions), math.prod(confusions.shape[1:])).astype(np.float64)

    def scores(times: np.ndarray) -> np.ndarray:
        # The product with the images' matrices is the sum over the images drawn.
        iou = iou_per_class((times @ flat).reshape(len(times), *confusions.shape[1:]))
        values = np.concatenate([mean_present(iou)[..., None], iou], axis=-1)  # (R, 1 or 2, 1 + C)
        return values[:, -1] - values[:, 0] if values.shape[1] == 2 else values[:, 0]

    return intervals(scores, len(confusions), samples=samples)


def _known(found: list[Interval | None], confusions: np.ndarray) -> list[Interval | None]:
    labelled_images = (confusions.sum(axis=-1) > 0).sum(axis=0)
    of_classes = zip(found[1:], labelled_images, strict=True)
    return [found[0], *(interval if n >= 2 else None for interval, n in of_classes)]
