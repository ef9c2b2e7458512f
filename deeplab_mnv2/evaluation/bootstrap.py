"""Intervals for scores by resampling images (Efron 1979)."""

from collections.abc import Iterator

import numpy as np

from deeplab_mnv2.evaluation.metrics import miou

# Resamples summed at a time: bounds memory at a few tens of megabytes.
_CHUNK = 50


def miou_interval(
    confusions: np.ndarray, *, samples: int, seed: int = 0
) -> tuple[float, float] | None:
    """Return the central 95 % interval of mIoU over images drawn with replacement.

    `confusions` (N, C, C) holds one integer matrix an image. None for fewer than two images.
    """
    if len(confusions) < 2 or not samples:
        return None
    values = np.concatenate([miou(total) for total in _resampled(confusions, samples, seed)])
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def paired_interval(
    first: np.ndarray, second: np.ndarray, *, samples: int, seed: int = 0
) -> tuple[float, float] | None:
    """Return the 95 % interval of mIoU(second) - mIoU(first) over the same drawn images.

    Both (N, C, C), image by image in the same order. Far narrower than the difference of two
    intervals, because hard images are hard for both.
    """
    if len(first) < 2 or not samples:
        return None
    both = np.stack([first, second], axis=1)  # (N, 2, C, C)
    values = np.concatenate([miou(total) for total in _resampled(both, samples, seed)])
    low, high = np.nanpercentile(values[:, 1] - values[:, 0], [2.5, 97.5])
    return float(low), float(high)


def _resampled(confusions: np.ndarray, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield sums over resampled images, (chunk, ...) of (N, ...)."""
    images = len(confusions)
    rng = np.random.default_rng(seed)
    flat = confusions.reshape(images, -1).astype(np.float64)
    for start in range(0, samples, _CHUNK):
        count = min(_CHUNK, samples - start)
        # How often each image is drawn; a product with the matrices is then their sum.
        times = rng.multinomial(images, np.full(images, 1 / images), size=count)
        yield (times.astype(np.float64) @ flat).reshape(count, *confusions.shape[1:])
