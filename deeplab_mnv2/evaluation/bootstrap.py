"""Intervals for scores by resampling images (Efron 1979)."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from deeplab_mnv2.evaluation.metrics import iou_per_class, mean_present

Interval = tuple[float, float]

# Resamples summed at a time: bounds memory at a few tens of megabytes.
_CHUNK = 50


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Central 95 % intervals of mIoU and of each class's IoU, over images.

    None for fewer than two images, and for a class that fewer than two images are labelled
    with: resampling one image says nothing about another.
    """

    miou: Interval | None
    iou: list[Interval | None]


def score_intervals(confusions: np.ndarray, *, samples: int, seed: int = 0) -> Intervals:
    """Return the intervals of scores over images drawn with replacement.

    `confusions` (N, C, C) holds one integer matrix an image.
    """
    iou = [iou_per_class(total) for total in _resampled(confusions, samples, seed)]
    return _central(iou, confusions)


def difference_intervals(
    first: np.ndarray, second: np.ndarray, *, samples: int, seed: int = 0
) -> Intervals:
    """Return the intervals of score(second) - score(first) over the same drawn images.

    Both (N, C, C), image by image in the same order. Far narrower than the difference of two
    intervals, because hard images are hard for both.
    """
    both = np.stack([first, second], axis=1)  # (N, 2, C, C)
    iou = [iou_per_class(total) for total in _resampled(both, samples, seed)]
    return _central(iou, first)


def _central(chunks: list[np.ndarray], confusions: np.ndarray) -> Intervals:
    """Return the intervals of IoUs (samples, C), or of differences of pairs (samples, 2, C)."""
    classes = confusions.shape[-1]
    if len(confusions) < 2 or not chunks:
        return Intervals(None, [None] * classes)
    iou = np.concatenate(chunks)
    values = np.concatenate([mean_present(iou)[..., None], iou], axis=-1)
    if values.ndim == 3:
        values = values[:, 1] - values[:, 0]
    labelled_images = (confusions.sum(axis=-1) > 0).sum(axis=0)
    bounds = [_percentiles(column) for column in values.T]
    return Intervals(
        bounds[0],
        [b if n >= 2 else None for b, n in zip(bounds[1:], labelled_images, strict=True)],
    )


def _percentiles(values: np.ndarray) -> Interval | None:
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _resampled(confusions: np.ndarray, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield sums over resampled images, (chunk, ...) of (N, ...)."""
    images = len(confusions)
    if not images:
        return
    rng = np.random.default_rng(seed)
    flat = confusions.reshape(images, -1).astype(np.float64)
    for start in range(0, samples, _CHUNK):
        count = min(_CHUNK, samples - start)
        # How often each image is drawn; a product with the matrices is then their sum.
        times = rng.multinomial(images, np.full(images, 1 / images), size=count)
        yield (times.astype(np.float64) @ flat).reshape(count, *confusions.shape[1:])
