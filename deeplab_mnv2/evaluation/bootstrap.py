"""Intervals for scores by resampling images (Efron 1979)."""

import math
from collections.abc import Callable

import numpy as np

Interval = tuple[float, float]
# (R, N), how often each of N images is drawn in each of R resamples, to R rows of K scores.
Scores = Callable[[np.ndarray], np.ndarray]
# The same to each of several runs' K scores, (R, runs, K).
RunScores = Callable[[np.ndarray], np.ndarray]

# Resamples scored at a time, which keeps the memory to a few tens of megabytes.
_CHUNK = 50


def intervals(scores: Scores, images: int, *, samples: int, seed: int = 0) -> list[Interval | None]:
    """Return the central 95 % interval of each of K scores, over images drawn with replacement.

    `scores(times)` maps (R, N) float64, how often each image is drawn, to (R, K). To compare two
    systems, let it return their difference: the interval of this paired difference is far narrower
    than the two intervals suggest, because hard images are hard for both. NaN marks a score that a
    resample does not have. With fewer than two images all intervals are None: resampling a single
    image says nothing about others.
    """
    if images < 2 or not samples:
        return [None] * scores(np.ones((1, images))).shape[1]
    rng = np.random.default_rng(seed)
    values = []
    for start in range(0, samples, _CHUNK):
        count = min(_CHUNK, samples - start)
        times = rng.multinomial(images, np.full(images, 1 / images), size=count)
        values.append(scores(times.astype(np.float64)))
    return [_percentiles(column) for column in np.concatenate(values).T]


def difference_intervals(
    scores: RunScores, runs: tuple[int, int], images: int, *, samples: int
) -> list[Interval | None]:
    """Return the intervals of mean score(second) - mean score(first), for each of K scores.

    `runs` is how many of the runs are on the first side and on the second. Both sides are scored on
    the same drawn images. Where both have two runs or more, the interval covers other runs as well:
    runs are too few to be drawn, so each side's mean is moved by Student's t times its standard
    error over runs.
    """
    sides = slice(0, runs[0]), slice(runs[0], None)
    rng = np.random.default_rng(0)

    def differences(times: np.ndarray) -> np.ndarray:
        values = scores(times)  # (R, runs, K)
        means = [values[:, side].mean(axis=1) for side in sides]
        if min(runs) > 1:
            means = [
                mean + _error_over_runs(values[:, side], rng)
                for mean, side in zip(means, sides, strict=True)
            ]
        return means[1] - means[0]

    return intervals(differences, images, samples=samples)


def known(found: list[Interval | None], images: np.ndarray) -> list[Interval | None]:
    """Return the intervals of an overall score and of C classes, None for those not to be known.

    `images` (C,) is how many images each class is in: of one in a single image every resample that
    has it has the same score.
    """
    of_classes = zip(found[1:], images, strict=True)
    return [found[0], *(interval if n >= 2 else None for interval, n in of_classes)]


def _error_over_runs(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an error of the mean over runs for each resample (R, K), of values (R, runs, K)."""
    runs = values.shape[1]
    error = values.std(axis=1, ddof=1) / math.sqrt(runs)
    return rng.standard_t(runs - 1, size=(len(values), 1)) * error


def _percentiles(values: np.ndarray) -> Interval | None:
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
