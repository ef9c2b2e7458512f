"""Random colours, which leave labels and boxes as they are."""

import cv2
import numpy as np


def distort_colours(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the image with random brightness, contrast, saturation and hue (SSD's ranges)."""
    contrast, brightness = rng.uniform(0.5, 1.5), rng.uniform(-32, 32)
    levels = np.arange(256)
    image = cv2.LUT(image, np.clip(contrast * levels + brightness, 0, 255).astype(np.uint8))
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # hue 0-179
    saturation = np.clip(levels * rng.uniform(0.5, 1.5), 0, 255).astype(np.uint8)
    hue = ((levels + rng.integers(-9, 9, endpoint=True)) % 180).astype(np.uint8)
    hsv[..., 0] = cv2.LUT(hsv[..., 0], hue)
    hsv[..., 1] = cv2.LUT(hsv[..., 1], saturation)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
