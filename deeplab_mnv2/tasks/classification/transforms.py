"""Augmentation and scaling of one image, with Pillow's antialiased resampling.

Images are (H, W, 3) uint8 up to the device, where they are normalised.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from deeplab_mnv2.config import ClassificationDataConfig, ClassificationEvaluationConfig
from deeplab_mnv2.data.colours import distort_colours
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.classification.policies import apply_policy

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Attempts at a random part before the largest fitting one in the middle is taken.
_ATTEMPTS = 10
# Area and width over height of what is erased (arXiv:1708.04896, as torchvision sets them).
_ERASED_AREA, _ERASED_ASPECT = (0.02, 0.33), (0.3, 3.3)


def check_example(example: Mapping[str, Any], num_classes: int) -> None:
    """Check an example of any data set before it is trained on or scored.

    Raises:
        UserError: image or label is missing, of another shape or type, or no class.
    """
    name, image, label = (example.get(key) for key in ("name", "image", "label"))
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or not image.size
    ):
        found = f"{getattr(image, 'dtype', type(image).__name__)}{getattr(image, 'shape', '')}"
        raise UserError(
            f"{name or 'An example'} has the image {found}; the data set must give (H, W, 3) uint8."
        )
    if not isinstance(label, int | np.integer) or not 0 <= label < num_classes:
        raise UserError(
            f"{name or 'An example'} has the label {label!r}, but there are {num_classes} classes "
            f"(0 to {num_classes - 1}); correct the data set."
        )


def augment(
    image: np.ndarray,
    rng: np.random.Generator,
    config: ClassificationDataConfig,
    mean_pixel: tuple[int, ...],
) -> np.ndarray:
    """Return a random (crop, crop, 3) of an image: part, flip, colours, policy, erasing."""
    if config.padding:
        image = padded_crop(image, rng, config.crop_size, config.padding, mean_pixel)
    else:
        image = random_part(image, rng, config)
    if config.flip and rng.random() < 0.5:
        image = image[:, ::-1]
    if config.photometric:
        image = distort_colours(np.ascontiguousarray(image), rng)
    if config.policy is not None:
        image = apply_policy(config.policy, image, rng, mean_pixel)
    if config.erase and rng.random() < config.erase:
        image = erase(image, rng, mean_pixel)
    return np.ascontiguousarray(image)


def random_part(
    image: np.ndarray, rng: np.random.Generator, config: ClassificationDataConfig
) -> np.ndarray:
    """Return a part of random area and aspect, scaled to (crop, crop, 3) (arXiv:1409.4842)."""
    height, width = image.shape[:2]
    low, high = (math.log(aspect) for aspect in config.aspect_range)
    for _ in range(_ATTEMPTS):
        area = rng.uniform(*config.area_range) * height * width
        aspect = math.exp(rng.uniform(low, high))
        columns, rows = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < columns <= width and 0 < rows <= height:
            top = int(rng.integers(0, height - rows, endpoint=True))
            left = int(rng.integers(0, width - columns, endpoint=True))
            break
    else:
        aspect = min(max(width / height, config.aspect_range[0]), config.aspect_range[1])
        columns = min(width, max(1, round(height * aspect)))
        rows = min(height, max(1, round(width / aspect)))
        top, left = (height - rows) // 2, (width - columns) // 2
    part = Image.fromarray(image[top : top + rows, left : left + columns])
    size = config.crop_size, config.crop_size
    return np.asarray(part.resize(size, _RESAMPLING[config.interpolation]))


def padded_crop(
    image: np.ndarray,
    rng: np.random.Generator,
    crop_size: int,
    padding: int,
    mean_pixel: tuple[int, ...],
) -> np.ndarray:
    """Return a random (crop, crop, 3) of the image padded on all sides (CIFAR's augmentation)."""
    height, width = image.shape[:2]
    canvas = _filled(
        (max(height + 2 * padding, crop_size), max(width + 2 * padding, crop_size)), mean_pixel
    )
    canvas[padding : padding + height, padding : padding + width] = image
    top = int(rng.integers(0, canvas.shape[0] - crop_size, endpoint=True))
    left = int(rng.integers(0, canvas.shape[1] - crop_size, endpoint=True))
    return canvas[top : top + crop_size, left : left + crop_size]


def erase(image: np.ndarray, rng: np.random.Generator, fill: tuple[int, ...]) -> np.ndarray:
    """Return the image with a random rectangle of one colour (arXiv:1708.04896)."""
    height, width = image.shape[:2]
    low, high = (math.log(aspect) for aspect in _ERASED_ASPECT)
    for _ in range(_ATTEMPTS):
        area = rng.uniform(*_ERASED_AREA) * height * width
        aspect = math.exp(rng.uniform(low, high))
        columns, rows = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < columns < width and 0 < rows < height:
            top = int(rng.integers(0, height - rows, endpoint=True))
            left = int(rng.integers(0, width - columns, endpoint=True))
            image = image.copy()
            image[top : top + rows, left : left + columns] = fill
            break
    return image


def centre(
    image: np.ndarray, config: ClassificationEvaluationConfig, mean_pixel: tuple[int, ...]
) -> np.ndarray:
    """Return the (crop, crop, 3) in the middle of an image whose shorter side is scaled.

    As torchvision does: the longer side is rounded down, and a crop that is larger than the image
    is padded, here with the mean colour.
    """
    height, width = image.shape[:2]
    if config.resize and config.resize != min(height, width):
        scale = config.resize / min(height, width)
        # The shorter side exactly; an image of one pixel's width keeps that.
        size = [
            config.resize if side == min(height, width) else int(side * scale)
            for side in (width, height)
        ]
        image = np.asarray(
            Image.fromarray(image).resize((size[0], size[1]), _RESAMPLING[config.interpolation])
        )
    crop = config.crop_size
    height, width = image.shape[:2]
    if min(height, width) < crop:
        canvas = _filled((max(height, crop), max(width, crop)), mean_pixel)
        top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
        canvas[top : top + height, left : left + width] = image
        image = canvas
    top, left = ((side - crop) / 2 for side in image.shape[:2])
    top, left = round(top), round(left)
    return np.ascontiguousarray(image[top : top + crop, left : left + crop])


def _filled(shape: tuple[int, int], colour: tuple[int, ...]) -> np.ndarray:
    canvas = np.empty((*shape, 3), np.uint8)
    canvas[:] = colour
    return canvas
