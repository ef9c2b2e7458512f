"""Which examples an epoch holds: rare classes more often."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deeplab_mnv2.config import Source


def classes_present(source: Source, num_classes: int, threads: int) -> np.ndarray:
    """Return (examples, num_classes) bool: which classes each label holds. Reads every example.

    Raises:
        UserError: an example cannot be read.
    """

    def present(index: int) -> np.ndarray:
        # A number for each pixel, for each box or for the image; 255 is no class of pixels.
        label = np.ravel(source[index]["label"])
        return np.bincount(label, minlength=num_classes)[:num_classes] > 0

    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(present, range(len(source))))
    return np.array(rows, bool).reshape(len(rows), num_classes)


def repeat_rare(present: np.ndarray, threshold: float, power: float, seed: int) -> np.ndarray:
    """Return the example indices of one epoch, images of rare classes several times.

    Repeat factor sampling (Gupta et al. 2019, arXiv:1908.03195, whose power is a half): a class
    that a share f of the images holds is repeated max(1, (threshold / f) ** power) times, an image
    as often as its rarest class; fractions are drawn once, from `seed`. `present` is
    (examples, classes).
    """
    share = present.mean(axis=0)
    factor = np.maximum(1.0, threshold / np.maximum(share, 1e-9)) ** power
    repeats = np.where(present, factor, 1.0).max(axis=1)
    whole = np.floor(repeats)
    drawn = np.random.default_rng(seed).random(len(repeats)) < repeats - whole
    return np.repeat(np.arange(len(repeats)), whole.astype(int) + drawn)
