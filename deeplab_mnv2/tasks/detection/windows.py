"""Random windows on an image and its boxes: SSD's crops and zooming out.

A window is (top, left, height, width) in pixels. After TensorFlow's Object Detection API
(`ssd_random_crop` in its `core/preprocessor.py`, `tf.image.sample_distorted_bounding_box`).
"""

import numpy as np

Window = tuple[float, float, float, float]

# Least share of some object that a crop shows, and of any object that is kept.
LEAST_SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
_KEEP_WHOLE = 0.15
# Width by height.
_ASPECTS = (0.5, 2.0)
_AREAS = (0.1, 1.0)
_ATTEMPTS = 100
_LARGEST_ZOOM = 4.0
# What rounding takes from an object that is shown whole.
_SLACK = 1e-6


def zoom_out_window(rng: np.random.Generator, height: float, width: float) -> Window:
    """Draw a window with the image in it, up to 4 times as high and wide."""
    ratio = rng.uniform(1, _LARGEST_ZOOM)
    top, left = rng.uniform(0, 1, size=2) * (ratio - 1) * (height, width)
    return -float(top), -float(left), height * ratio, width * ratio


def crop_window(
    rng: np.random.Generator, boxes: np.ndarray, height: float, width: float
) -> tuple[Window, float]:
    """Draw a crop of an image, and the share of an object that must be in it to be kept.

    `boxes` (N, 4) are in shares of the image. The crop shows that share of some object, or of the
    image where there are none. With probability 0.15, and where none of 100 crops does, it is the
    whole image.
    """
    whole = (0.0, 0.0, height, width)
    least = LEAST_SHARES[rng.integers(len(LEAST_SHARES))]
    if rng.random() < _KEEP_WHOLE:
        return whole, 0.0
    boxes = boxes if len(boxes) else np.array([[0, 0, 1, 1]], np.float64)
    for _ in range(_ATTEMPTS):
        aspect = rng.uniform(*_ASPECTS)
        lowest, highest = np.sqrt(np.array(_AREAS) * height * width / aspect)
        highest = min(highest, height, width / aspect)
        if lowest > highest:
            continue  # no crop of this aspect is large enough
        rows = rng.uniform(lowest, highest)
        columns = rows * aspect
        top, left = rng.uniform(0, 1, size=2) * (height - rows, width - columns)
        window = (float(top), float(left), float(rows), float(columns))
        shares = shown_shares(boxes, (height, width), window)
        if shares.max() > 0 and shares.max() >= least - _SLACK:
            return window, least
    return whole, 0.0


def shown_shares(boxes: np.ndarray, shape: tuple[float, float], window: Window) -> np.ndarray:
    """Return the share (N,) of each box (N, 4) that a window on an image (H, W) shows."""
    pixels = boxes.astype(np.float64) * (*shape, *shape)
    clipped = _clip(pixels, window)
    areas = [np.prod(edges[:, 2:] - edges[:, :2], axis=1) for edges in (clipped, pixels)]
    return areas[0] / areas[1]


def boxes_in_window(
    boxes: np.ndarray, shape: tuple[float, float], window: Window, least: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes clipped to a window in shares of it, (K, 4) float32, and which they are (N,).

    Boxes of which the window shows a smaller share than `least`, one number or one a box, or
    nothing, are dropped.
    """
    clipped = _clip(boxes.astype(np.float64) * (*shape, *shape), window)
    top, left, height, width = window
    shares = (clipped - (top, left, top, left)) / (height, width, height, width)
    # In the precision in which they are used, where a sliver may be nothing.
    inside = np.clip(shares, 0, 1).astype(np.float32)
    kept = np.all(inside[:, 2:] > inside[:, :2], axis=1)
    kept &= shown_shares(boxes, shape, window) >= least - _SLACK
    return inside[kept], kept


def _clip(pixels: np.ndarray, window: Window) -> np.ndarray:
    top, left, height, width = window
    low = (top, left, top, left)
    return np.clip(pixels, low, (top + height, left + width) * 2)
