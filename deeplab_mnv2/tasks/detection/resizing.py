"""Images scaled to the network's square, by the rule that its weights were trained under."""

import numpy as np


def resize_image(image: np.ndarray, size: int, rule: str) -> np.ndarray:
    """Scale (H, W, C) bilinearly to (size, size, C) float32, without antialiasing.

    `rule` "bilinear" has pixel centres at half integers; "legacy" is TensorFlow 1's, in which
    pixel i of the result is at i * H / size and the last row is repeated.
    """
    image = image.astype(np.float32)
    for axis in (0, 1):
        length = image.shape[axis]
        at = np.arange(size, dtype=np.float64)
        at = at * length / size if rule == "legacy" else (at + 0.5) * length / size - 0.5
        at = at.clip(0, length - 1)
        low = at.astype(np.int64)
        high = np.minimum(low + 1, length - 1)
        weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        below, above = image.take(low, axis), image.take(high, axis)
        image = below + (above - below) * weight
    return image
